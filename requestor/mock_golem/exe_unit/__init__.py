"""The provider's executor: runs exe-scripts as real processes in a container of their own.

Read `unit.py` first (the life of an activity), then `guest_process.py` and `../guest/agent.py`
(the process that starts commands), `sandbox.py` (what they see of the machine) and
`image_sandbox.py` (what of an image alone), `volumes.py` and `transfers.py` (how files get in and
out), `batch.py` (what pollers and streams are told).

To run commands in an image on disk, without a daemon: see `ExeUnit`.
"""

from requestor.mock_golem.exe_unit.sandbox import bubblewrap_problem
from requestor.mock_golem.exe_unit.spec import (
    CommandFaults,
    ContainerSpec,
    ExeScriptError,
    ExeUnitGone,
    IsolationError,
    Tamper,
    UnknownBatch,
    Usage,
)
from requestor.mock_golem.exe_unit.unit import ExeUnit
from requestor.mock_golem.exe_unit.vpn import Deliver, Fabric, Membership

__all__ = [
    "CommandFaults",
    "ContainerSpec",
    "Deliver",
    "ExeScriptError",
    "ExeUnit",
    "ExeUnitGone",
    "Fabric",
    "IsolationError",
    "Membership",
    "Tamper",
    "UnknownBatch",
    "Usage",
    "bubblewrap_problem",
]
