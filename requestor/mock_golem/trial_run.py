"""Whether a program that starts others, such as `bwrap`, can do so on this machine."""

import os
import subprocess
import sys
from collections.abc import Sequence


def trial_run_problem(starter: Sequence[str], limit_seconds: float) -> str | None:
    """Why Python cannot be started by a command line; None if it can. Blocks until it ended.

    Raises:
        OSError: there is no such program.
    """
    name = os.path.basename(starter[0])
    try:
        subprocess.run(
            [*starter, sys.executable, "-I", "-S", "-c", ""],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=limit_seconds,
        )
    except subprocess.TimeoutExpired:
        return f"`{name}` did not finish a trial run within {limit_seconds:g} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        return f"a trial run of `{name}` failed with code {error.returncode}: {said}"
    return None
