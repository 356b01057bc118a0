"""Small programs that the exe-unit starts: an activity's init process, and keepers of image mounts.

Standard library only, and little of it: one agent is started per activity. The modules
import each other relatively, so that the folder can be used without the packages around it.
"""
