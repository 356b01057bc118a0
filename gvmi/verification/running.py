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
from gvmi.verification.rounds import LearnerKind, Played, RoundFailed, make_model, play

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
            with _told_as("start", tried):
                await _try_worker(activity, SPECS[variant].learner, tried, say)
            say("the self-test of the kernels")
            with _told_as("selftest", tried):
                await _self_test(activity, tried)
    return tried


async def _try_worker(activity: Activity, learner: LearnerKind, tried: Tried, say: Say) -> None:
    say(f"starting the {learner} worker")
    start = f"exec derl-worker start --learner {learner}"
    # the first has its files read and unpacked by the kernel, the second finds them in memory
    started = await activity.run("worker's first start", start)
    with _told_as("rounds", tried):
        await _native_round(activity, tried, say)
        if learner == "sb3":
            say("a round by Stable-Baselines3")
            await play(activity, await make_model(activity, "sb3"))
    place = tried.timings.index(started.timings)
    tried.timings[place] = replace(started.timings, peak_bytes=await activity.peak_bytes())
    await activity.run("worker's stop", "exec derl-worker stop")
    await activity.run("worker's second start", start)


async def _self_test(activity: Activity, tried: Tried) -> None:
    ran = await activity.run("self-test", "exec python3 -m native_kernels selftest --quick --json")
    try:
        report: Any = json.loads(ran.stdout)
        level, checks = str(report["level"]), list(report["checks"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RoundFailed("the self-test printed no report") from error
    tried.notes.append(f"kernels at level {shown(level)}, {len(checks)} self-tests passed")


async def _native_round(activity: Activity, tried: Tried, say: Say) -> None:
    """Play a native round inside, and compare it with this machine's own, bit for bit."""
    say("a native round on this machine")
    with tempfile.TemporaryDirectory(prefix="derl-verify-") as scratch:
        try:
            async with local_worker(Path(scratch), "native") as worker:
                model = await make_model(worker, "native")
                outside: Played | None = await play(worker, model)
        except RoundFailed as error:
            tried.notes.append(f"the native round was not compared with this machine's: {error}")
            outside, model = None, await make_model(activity, "native")
        say("the same round inside the image")
        inside = await play(activity, model)
    if outside is None:
        return
    if not inside.same_bits(outside):
        raise RoundFailed(
            f"the native round has other bits inside ({shown(_computed_by(inside))}) than on this "
            f"machine ({_computed_by(outside)})"
        )
    tried.notes.append(
        f"the native round has the same bits as on this machine ({_computed_by(outside)})"
    )


def _computed_by(played: Played) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(played.packages.items()))


@contextlib.contextmanager
def _told_as(check: str, tried: Tried) -> Iterator[None]:
    tried.skipped.pop(check, None)
    try:
        yield
    except RoundFailed as error:
        tried.deviations.append(Deviation(check, str(error)))
