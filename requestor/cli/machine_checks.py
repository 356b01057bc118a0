"""Is this machine fit for a run: room on the disk, open files, a jail for models."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

from requestor.errors import PreflightError, UsageError
from requestor.evaluation.jail import FIX as JAIL_FIX
from requestor.evaluation.jail import JAIL_VARIABLE, choose_jail
from requestor.evaluation.limits import default_limits
from requestor.marketplace.diagnosis import Answer, Check, CheckFailed

LITTLE_ROOM_BYTES = 1 << 30
NO_ROOM_BYTES = 100 << 20
FILES_AT_REST = 140
FILES_PER_PROVIDER = 4
"""Four times what was measured: 34 files, and one more with each provider."""


def machine_checks(
    runs: Path,
    providers: int,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    open_files: Callable[[], int] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
) -> list[Check]:
    """Return the checks of this machine for a run of so many providers in `runs`."""

    async def disk() -> Answer:
        folder = next(one for one in (runs, *runs.absolute().parents) if one.is_dir())
        free = free_bytes(folder)
        says = f"{free / 2**30:.1f} GiB free for {runs}"
        facts = {"free_bytes": free, "folder": str(runs)}
        if free < NO_ROOM_BYTES:
            raise CheckFailed(says, "make room, or name another folder with --runs-dir", facts)
        if free < LITTLE_ROOM_BYTES:
            return Answer(says, is_warning=True, fix="make room: checkpoints need it", facts=facts)
        return Answer(says, facts=facts)

    async def files() -> Answer:
        limit = open_files()
        needed = FILES_AT_REST + FILES_PER_PROVIDER * providers
        facts = {"limit": limit, "needed": needed}
        if limit != resource.RLIM_INFINITY and limit < needed:
            raise CheckFailed(
                f"a process may open {limit} files; {providers} providers may take {needed}",
                f"`ulimit -n {max(4096, needed)}` in this shell",
                facts,
            )
        shown = "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} allowed"
        return Answer(shown, facts=facts)

    async def jail() -> Answer:
        try:
            found = choose_jail(os.environ)
            limits = default_limits(os.environ)
        except (PreflightError, UsageError) as error:
            raise CheckFailed(error.message, error.fix or "unset the variable") from error
        facts = {"kind": found.kind, "memory_bytes": limits.memory_bytes}
        bounds = f"{limits.memory_bytes / 2**30:.1f} GiB, {limits.order_seconds:g} s an order"
        if found.notice is not None:
            return Answer(found.notice, is_warning=True, fix=JAIL_FIX, facts=facts)
        how = f"without a jail ({JAIL_VARIABLE}=none)"
        if found.kind == "bubblewrap":
            how = "inside bubblewrap"
        return Answer(f"models are judged {how}, within {bounds}", facts=facts)

    return [
        Check("disk", disk, before_run=True),
        Check("open files", files, before_run=True),
        Check("jail", jail),
    ]
