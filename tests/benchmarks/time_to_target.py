"""CPU-seconds from process start to CartPole >= 475, at equal learning or not.

Each seed is a process of its own. The mean of 100 greedy episodes, from the same starts for all
sides, is taken every 2048 steps by the same judge, whose CPU time is left out for all.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from math import erfc, sqrt

from tests.benchmarks.cartpole_run import LIMIT, TARGET
from tests.benchmarks.measuring import Options, Row, main, named
from tests.benchmarks.round import ROOT, plain_python
from tests.benchmarks.settings import CARTPOLE

PROGRAM = ("tests.benchmarks.cartpole_run",)
GOALS = {"default": 40.0, "zoo": 20.0}


def rank_test(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the p-value of Mann and Whitney's test, two-sided, by the normal approximation.

    Ties share their ranks, and the variance is corrected for them; continuity too.
    """
    ordered = sorted([*ours, *theirs])
    rank = {value: _middle_rank(ordered, value) for value in set(ordered)}
    n, m = len(ours), len(theirs)
    surplus = sum(rank[value] for value in ours) - n * (n + 1) / 2 - n * m / 2
    ties = sum(ordered.count(value) ** 3 - ordered.count(value) for value in rank)
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    if variance == 0:
        return 1.0
    return min(1.0, erfc(max(0.0, abs(surplus) - 0.5) / sqrt(2 * variance)))


def _middle_rank(ordered: Sequence[float], value: float) -> float:
    first = ordered.index(value) + 1
    return first + (ordered.count(value) - 1) / 2


def runs(python: str, program: Sequence[str], seeds: int) -> list[dict[str, float]]:
    """Run a module with its arguments and a seed, seed after seed; return what it printed."""
    found = []
    for seed in range(1, seeds + 1):
        command = [python, "-m", *program, str(seed)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def told(found: Sequence[dict[str, float]], target: float) -> str:
    """Describe runs: steps and how many got there."""
    steps = [run["steps"] for run in found]
    solved = sum(run["return"] >= target for run in found)
    return (
        f"steps {statistics.median(steps):,.0f} ({min(steps):,.0f} to {max(steps):,.0f}), "
        f"solved {solved} of {len(found)}"
    )


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    seeds = options.extra["seeds"]
    python = plain_python()
    for key, goal in GOALS.items():
        ours = runs(python, [*PROGRAM, "ours", key], options.extra["our_seeds"])
        theirs = runs(python, [*PROGRAM, "sb3", key], seeds)
        title = CARTPOLE[key].title
        name = named("stable-baselines3")
        ranks = [[run["steps"] for run in side] for side in (ours, theirs)]
        yield Row(
            f"start to CartPole >= 475, {title}",
            statistics.median(run["seconds"] for run in ours[:seeds]),
            statistics.median(run["seconds"] for run in theirs),
            name,
            "CPU-s",
            goal,
            lower=True,
            note=f"ours: {told(ours, TARGET)}; SB3: {told(theirs, TARGET)}",
        )
        chance = rank_test(*ranks)
        is_worse = statistics.median(ranks[0]) > statistics.median(ranks[1])
        yield Row(
            "  steps to target, rank test",
            statistics.median(ranks[0]),
            statistics.median(ranks[1]),
            name,
            "steps",
            lower=True,
            note=f"p = {chance:.2f}: {'WORSE' if is_worse and chance < 0.05 else 'not worse'} "
            f"(a run that fails counts {LIMIT:,})",
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    parser.add_argument("--seeds", type=int, default=20, help="of Stable-Baselines3")
    parser.add_argument("--our-seeds", type=int, default=100, help="of ours, for the rank test")


if __name__ == "__main__":
    main("time_to_target", __doc__, rows, configure=configure)
