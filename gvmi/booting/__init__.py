"""Starting an image in a virtual machine, much as a provider on Golem does.

Read next: `boot.py` (one boot), `guest_init.py` (what the machine does), `BOOTING.md` (what differs
from Golem's runtime).
"""
