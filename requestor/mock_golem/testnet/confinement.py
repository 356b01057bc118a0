"""A network namespace of a daemon's own, in which there is loopback and nothing else."""

import asyncio
import functools
import shutil
import subprocess
import sys

PROBE_SECONDS = 10.0


@functools.cache
def namespace_problem() -> str | None:
    """Why no network namespace can be made here; None if one can. The answer is kept."""
    if shutil.which("bwrap") is None:
        return "there is no `bwrap` program on PATH (package bubblewrap)"
    try:
        subprocess.run(
            [*namespace_command(), sys.executable, "-I", "-S", "-c", ""],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"`bwrap` did not finish a trial run within {PROBE_SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        return f"a trial run of `bwrap` failed with code {error.returncode}: {said}"
    return None


def namespace_command() -> list[str]:
    """What stands before a command that shall see our files, but no network except loopback."""
    return ["bwrap", "--die-with-parent", "--unshare-net", "--dev-bind", "/", "/", "--"]


async def can_confine() -> bool:
    """Whether a network namespace can be made here; the trial blocks nobody."""
    return await asyncio.to_thread(namespace_problem) is None
