"""A network namespace of a daemon's own, in which there is loopback and nothing else."""

import asyncio
import functools
import shutil

from requestor.mock_golem.trial_run import trial_run_problem

PROBE_SECONDS = 10.0


@functools.cache
def namespace_problem() -> str | None:
    """Why no network namespace can be made here; None if one can. The answer is kept."""
    if shutil.which("bwrap") is None:
        return "there is no `bwrap` program on PATH (package bubblewrap)"
    return trial_run_problem(namespace_command(), PROBE_SECONDS)


def namespace_command() -> list[str]:
    """What stands before a command that shall see our files, but no network except loopback."""
    return ["bwrap", "--die-with-parent", "--unshare-net", "--dev-bind", "/", "/", "--"]


async def can_confine() -> bool:
    """Whether a network namespace can be made here; the trial blocks nobody."""
    return await asyncio.to_thread(namespace_problem) is None
