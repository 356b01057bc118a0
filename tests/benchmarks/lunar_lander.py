"""CPU-seconds from process start to LunarLander-v3 >= 200 (minutes a seed for SB3).

The environment is Gymnasium's on both sides, the settings rl-zoo's. The mean of 20 greedy episodes
with the same seeds for both sides is taken after each rollout; the judge's time is left out.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator

from tests.benchmarks.lunar_lander_run import TARGET
from tests.benchmarks.measuring import Options, Row, main, missing, named, peer
from tests.benchmarks.settings import LUNAR_LANDER
from tests.benchmarks.time_to_target import runs, told

GOAL = 10.0


def rows(options: Options) -> Iterator[Row]:
    """Yield the row."""
    what = f"start to LunarLander >= {TARGET:.0f}, {LUNAR_LANDER.title}"
    if peer("Box2D") is None:
        yield missing(what, "Box2D", "CPU-s", GOAL)
        return
    program = ["tests.benchmarks.lunar_lander_run"]
    ours = runs(sys.executable, [*program, "ours"], options.extra["our_seeds"])
    theirs = runs(sys.executable, [*program, "sb3"], options.extra["seeds"])
    yield Row(
        what,
        statistics.median(run["seconds"] for run in ours),
        statistics.median(run["seconds"] for run in theirs),
        f"{named('stable-baselines3')}, {named('gymnasium')}, {named('Box2D')}",
        "CPU-s",
        GOAL,
        lower=True,
        note=f"ours: {told(ours, TARGET)}; SB3: {told(theirs, TARGET)}",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    parser.add_argument("--seeds", type=int, default=2, help="of Stable-Baselines3")
    parser.add_argument("--our-seeds", type=int, default=5, help="of ours")


if __name__ == "__main__":
    main("lunar_lander", __doc__, rows, configure=configure)
