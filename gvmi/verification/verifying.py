"""`derl-image verify`: look at an image, run it if that is safe, and report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gvmi.image_lock import LOCK_FILE
from gvmi.variants import Variant
from gvmi.verification.deviations import CHECKS, RUN_CHECKS, worst_first
from gvmi.verification.looking import Looked, look_into
from gvmi.verification.report import Report
from gvmi.verification.running import Tried, try_image
from requestor.mock_golem.exe_unit import IsolationError, bubblewrap_problem

UNSAFE_CHECKS = frozenset(list(CHECKS)[: list(CHECKS).index("lock") + 1])
"""An image in which one of these finds something is not run."""


@dataclass(frozen=True)
class Wanted:
    """What is to be verified, and how."""

    image: Path
    variant: Variant | None = None
    lock: Path = LOCK_FILE
    runs: bool = True


@dataclass(frozen=True)
class Told:
    """Who is told: `hashed` the bytes hashed so far, `step` what begins."""

    hashed: Callable[[int], None] = lambda done: None
    step: Callable[[str], None] = lambda text: None


def verify(wanted: Wanted, told: Told | None = None) -> Report:
    """Verify an image file.

    Raises:
        BadImage: it is no image file, or its content cannot even be listed safely.
        MachineUnfit: this machine cannot look into images.
    """
    told = told or Told()
    looked = look_into(wanted.image, wanted.lock, wanted.variant, told.hashed)
    reason = _not_to_run(wanted, looked)
    if reason:
        tried = Tried(skipped=dict.fromkeys(RUN_CHECKS, reason))
    else:
        tried = _try(looked, wanted, told)
    return Report(
        facts=looked.facts,
        deviations=tuple(worst_first([*looked.deviations, *tried.deviations])),
        skipped=looked.skipped | tried.skipped,
        notes=(*looked.notes, *tried.notes),
        timings=tuple(tried.timings),
    )


def _not_to_run(wanted: Wanted, looked: Looked) -> str:
    """Return why nothing of the image is run; nothing if it may be."""
    unsafe = {deviation.check for deviation in looked.deviations} & UNSAFE_CHECKS
    if unsafe:
        return "the image is not safe, or not the locked one"
    if any(deviation.check == "needed" for deviation in looked.deviations):
        return "what is needed to run it is missing"
    if looked.variant is None:
        return "its variant is not known; give --variant"
    if not wanted.runs:
        return "--no-run was given"
    problem = bubblewrap_problem()
    return f"{problem}; apt install bubblewrap" if problem is not None else ""


def _try(looked: Looked, wanted: Wanted, told: Told) -> Tried:
    assert looked.variant is not None  # or it would not be run
    try:
        return asyncio.run(try_image(wanted.image, looked.variant, told.step))
    except IsolationError as error:
        return Tried(skipped=dict.fromkeys(RUN_CHECKS, str(error)))
