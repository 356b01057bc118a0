"""Run what is in an image: a worker, the kernels' self-test, and one tiny round."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gvmi.variants import SPECS, Variant
from gvmi.verification.deviations import RUN_CHECKS, Deviation, shown
from gvmi.verification.inside import Activity, activity_in
from gvmi.verification.local_worker import local_worker
from gvmi.verification.report import Timings
from gvmi.verification.rounds import LearnerKind, Played, RoundFailed, play

Say = Callable[[str], None]


@dataclass
class Tried:
    """What came of it."""

    deviations: list[Deviation] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    timings: list[Timings] = field(default_factory=list)


async def try_image(image: Path, variant: Variant, say: Say) -> Tried:
    """Run an image's worker and rounds; `say` is told each step as it begins.

    Raises:
        IsolationError: this machine cannot run images.
    """
    tried = Tried(skipped=dict.fromkeys(RUN_CHECKS, "it did not come that far"))
    with tempfile.TemporaryDirectory(prefix="derl-verify-") as scratch, _told_as("start", tried):
        async with activity_in(image, Path(scratch)) as activity:
            tried.timings = activity.timings
            say("the self-test of the kernels")
            with _told_as("selftest", tried):
                await _self_test(activity, tried)
            await _try_worker(activity, SPECS[variant].learner, tried, say)
    return tried


async def _try_worker(activity: Activity, learner: LearnerKind, tried: Tried, say: Say) -> None:
    say(f"starting the {learner} worker")
    started = await activity.run("worker start", f"exec derl-worker start --learner {learner}")
    kinds: tuple[LearnerKind, ...] = ("native", "sb3") if learner == "sb3" else ("native",)
    with _told_as("rounds", tried):
        for kind in kinds:
            say(f"a {kind} round")
            played = await play(activity, kind)
            if kind == "native":
                say("the same round on this machine")
                await _compare(played, tried)
    place = tried.timings.index(started.timings)
    tried.timings[place] = replace(started.timings, peak_bytes=await activity.peak_bytes())
    await activity.run("worker stop", "exec derl-worker stop")


async def _self_test(activity: Activity, tried: Tried) -> None:
    ran = await activity.run("self-test", "exec python3 -m native_kernels selftest --quick --json")
    try:
        report: Any = json.loads(ran.stdout)
        level, checks = str(report["level"]), list(report["checks"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RoundFailed("the self-test printed no report") from error
    tried.notes.append(f"kernels at level {shown(level)}, {len(checks)} self-tests passed")


async def _compare(played: Played, tried: Tried) -> None:
    """Compare with the same round by this machine's own installation, bit for bit."""
    with tempfile.TemporaryDirectory(prefix="derl-verify-") as scratch:
        try:
            async with local_worker(Path(scratch), "native") as worker:
                ours = await play(worker, "native")
        except RoundFailed as error:
            tried.notes.append(f"the native round was not compared with this machine's: {error}")
            return
    if played.same_bits(ours):
        tried.notes.append("the native round has the same bits as on this machine")
        return
    raise RoundFailed(
        f"the native round has other bits inside ({shown(_computed_by(played))}) than on this "
        f"machine ({_computed_by(ours)})"
    )


def _computed_by(played: Played) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(played.packages.items()))


@contextlib.contextmanager
def _told_as(check: str, tried: Tried) -> Iterator[None]:
    del tried.skipped[check]
    try:
        yield
    except RoundFailed as error:
        tried.deviations.append(Deviation(check, str(error)))
