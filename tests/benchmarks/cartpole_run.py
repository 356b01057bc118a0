"""One training run on CartPole, in a process of its own, until it is solved: prints what it took.

    python -m tests.benchmarks.cartpole_run ours|sb3 default|zoo SEED

CPU time counts from the start of the process, imports included; the judge's is left out.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks import sides
from tests.benchmarks.settings import CARTPOLE, Settings

TARGET = 475.0
EVERY = 2048
LIMIT = 200_000
"""Environment steps after which a run has failed."""

Weights = Callable[[], dict[str, Any]]


def ours(settings: Settings, seed: int) -> Iterator[tuple[int, Weights]]:
    """Train; yield the steps so far after each rollout's update."""
    ppo, collector = sides.ours(settings, seed)
    steps = epochs = 0
    while True:
        rollout = collector.collect(
            settings.n_steps, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        steps += settings.rollout
        chosen = sides.update_settings(settings, steps)
        ppo.update(rollout, chosen, seed=seed, first_epoch=epochs)
        epochs += settings.n_epochs
        yield steps, lambda: sides.tensors(ppo)


def sb3(settings: Settings, seed: int) -> Iterator[tuple[int, Weights]]:
    """Train with Stable-Baselines3; the loop of its `learn`, opened where it would go on."""
    model = sides.sb3(settings, seed)
    callback = sides.begin(model)
    horizon = settings.decay_steps or 10**9

    def weights() -> dict[str, Any]:
        return {name: value.numpy() for name, value in model.policy.state_dict().items()}

    while True:
        sides.collect(model, callback)
        model._update_current_progress_remaining(model.num_timesteps, horizon)
        model.train()
        yield model.num_timesteps, weights


def main() -> None:
    """Train until the judge is content."""
    side, key, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    trained = {"ours": ours, "sb3": sb3}[side](CARTPOLE[key], seed)
    judged = 0.0
    steps, mean = 0, 0.0
    for steps, weights in trained:
        if steps % EVERY == 0:
            before = time.process_time()
            from tests.benchmarks.judging import cartpole_return

            mean = cartpole_return(weights())
            judged += time.process_time() - before
        if mean >= TARGET or steps >= LIMIT:
            break
    seconds = time.process_time() - judged
    print(json.dumps({"steps": steps, "return": mean, "seconds": seconds, "judging": judged}))


if __name__ == "__main__":
    main()
