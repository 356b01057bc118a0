"""One training run on Gymnasium's LunarLander-v3 in a process of its own: prints what it took.

    python -m tests.benchmarks.lunar_lander_run ours|sb3 SEED

The environment is Gymnasium's for both sides, without rendering; ours is update and networks. CPU
time counts from the start of the process, imports included; the judge's is left out.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import sides
from tests.benchmarks.judging import greedy_actions
from tests.benchmarks.settings import LUNAR_LANDER as SETTINGS

NAME = "LunarLander-v3"
TARGET = 200.0
EPISODES = 20
LIMIT = 1_500_000
"""Environment steps after which a run has failed."""


class Landers:
    """SETTINGS.n_envs environments stepped one after the other, and their rollouts."""

    def __init__(self, seed: int) -> None:
        """Make and reset them."""
        import gymnasium

        count = SETTINGS.n_envs
        self.environments = [gymnasium.make(NAME) for _ in range(count)]
        self.observations = np.stack(
            [one.reset(seed=seed * 1000 + index)[0] for index, one in enumerate(self.environments)]
        ).astype(np.float32)
        self.starts = np.ones(count, dtype=bool)
        self.step = 0

    def collect(self, ppo: Any, seed: int) -> Any:
        """Return a rollout, time limits bootstrapped as in SB3."""
        from native_kernels.advantages import generalized_advantages
        from native_kernels.ppo import Rollout

        shape = (SETTINGS.n_steps, SETTINGS.n_envs)
        observations = np.empty((*shape, 8), dtype=np.float32)
        actions = np.empty(shape, dtype=np.int64)
        rewards, values, log_probs = (np.empty(shape, dtype=np.float32) for _ in range(3))
        starts = np.empty(shape, dtype=bool)
        for t in range(SETTINGS.n_steps):
            observations[t], starts[t] = self.observations, self.starts
            actions[t], values[t], log_probs[t] = ppo.act(
                self.observations, seed=seed, step=self.step
            )
            self.step += 1
            for index, one in enumerate(self.environments):
                rewards[t, index] = self._advance(ppo, one, index, int(actions[t, index]))
        advantages, returns = generalized_advantages(
            rewards,
            values,
            starts,
            ppo.values(self.observations),
            self.starts,
            SETTINGS.gamma,
            SETTINGS.gae_lambda,
        )
        return Rollout(observations, actions, log_probs, values, advantages, returns)

    def _advance(self, ppo: Any, one: Any, index: int, action: int) -> float:
        seen, reward, terminated, truncated, _ = one.step(action)
        if truncated and not terminated:
            last = np.asarray(seen, dtype=np.float32)[None]
            reward += SETTINGS.gamma * float(ppo.values(last)[0])
        self.starts[index] = terminated or truncated
        if self.starts[index]:
            seen, _ = one.reset()
        self.observations[index] = seen
        return float(reward)


def ours(seed: int) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """Train; yield steps and weights after each rollout's update."""
    from native_kernels.ppo import PolicyShape, Ppo, orthogonal_parameters

    shape = PolicyShape(8, 4)
    ppo = Ppo(shape, orthogonal_parameters(shape, seed))
    landers = Landers(seed)
    chosen = sides.update_settings(SETTINGS, 0)
    steps = epochs = 0
    while True:
        rollout = landers.collect(ppo, seed)
        ppo.update(rollout, chosen, seed=seed, first_epoch=epochs)
        epochs += SETTINGS.n_epochs
        steps += SETTINGS.rollout
        yield steps, sides.tensors(ppo)


def sb3(seed: int) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """Train with Stable-Baselines3."""
    model = sides.sb3(SETTINGS, seed, environment=NAME, render_mode=None)
    callback = sides.begin(model)
    while True:
        sides.collect(model, callback)
        model.train()
        state = model.policy.state_dict()
        yield model.num_timesteps, {name: value.numpy() for name, value in state.items()}


def judged(weights: dict[str, NDArray[np.float32]]) -> float:
    """Return the mean return of greedy episodes whose seeds never change."""
    import gymnasium

    environment = gymnasium.make(NAME)
    total = 0.0
    for episode in range(EPISODES):
        seen, _ = environment.reset(seed=900_000 + episode)
        is_over = False
        while not is_over:
            action = greedy_actions(weights, np.asarray(seen, dtype=np.float32)[None])[0]
            seen, reward, terminated, truncated, _ = environment.step(int(action))
            total += float(reward)
            is_over = terminated or truncated
    environment.close()
    return total / EPISODES


def main() -> None:
    """Train until the judge is content."""
    side, seed = sys.argv[1], int(sys.argv[2])
    judging = 0.0
    steps, mean = 0, 0.0
    for steps, weights in {"ours": ours, "sb3": sb3}[side](seed):
        before = time.process_time()
        mean = judged(weights)
        judging += time.process_time() - before
        print(f"{side} seed {seed}: {steps} steps, return {mean:.0f}", file=sys.stderr, flush=True)
        if mean >= TARGET or steps >= LIMIT:
            break
    seconds = time.process_time() - judging
    print(json.dumps({"steps": steps, "return": mean, "seconds": seconds, "judging": judging}))


if __name__ == "__main__":
    main()
