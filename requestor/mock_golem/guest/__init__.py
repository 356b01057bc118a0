"""What runs inside an activity: its init process, started by the exe-unit as a program of its own.

Standard library only, and little of it: one such process is started per activity. The modules
import each other relatively, so that the folder can be used without the packages around it.
"""
