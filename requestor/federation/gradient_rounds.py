"""What a round is where clients estimate policy gradients and the server takes the steps.

Two methods, as published: FedPG-BR (Fan et al. 2021, arXiv 2110.14074) and centralised ByzPG
(Jordan et al. 2024, arXiv 2401.03489). Pure; every draw descends from the run's seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from requestor.federation.seeds import SEED_BOUND, derive_seed

MOST_INNER_STEPS = 10_000
"""The geometric draw is cut here; as published its mean is below ten."""


@dataclass(frozen=True)
class InnerLoop:
    """The server's own steps: at most `most`, with `episodes` of its own before each."""

    most: int
    episodes: int
    ratio_bound: float


@dataclass(frozen=True)
class GradientRound:
    """What is asked for in one round.

    episodes: of each client, of at most `horizon` steps. is_difference: clients estimate what the
    gradient has changed by, to be added to the last direction. inner: the server's own steps; None
    for one along the direction.
    """

    episodes: int
    horizon: int
    is_difference: bool = False
    inner: InnerLoop | None = None

    @property
    def local_steps(self) -> int:
        """The most steps that a client's episodes have."""
        return self.episodes * self.horizon

    def episodes_per_agent(self, clients: int, inner_steps: int) -> int:
        """Count the round's episodes as FedPG-BR does: the server is one agent more.

        round((B K + b N) / (K + 1)) with N inner steps of b episodes; B where it takes none. A
        single client is its own server: it plays B + b N.
        """
        if self.inner is None:
            return self.episodes
        played = self.episodes * clients + self.inner.episodes * inner_steps
        return played if clients == 1 else round(played / (clients + 1))


@dataclass(frozen=True)
class FedPgBr:
    """FedPG-BR: B is drawn for each round, then come N ~ Geometric inner steps (SCSG).

    N has mean (B + b) / b, with b `server_episodes`.
    """

    least_episodes: int = 12
    most_episodes: int = 20
    server_episodes: int = 4
    ratio_bound: float = 0.005
    horizon: int = 500

    def round(self, run_seed: int, index: int) -> GradientRound:
        """Return what round `index` (from 0) of a run is."""
        span = self.most_episodes - self.least_episodes + 1
        episodes = self.least_episodes + derive_seed(run_seed, "episodes", index) % span
        mean = (episodes + self.server_episodes) / self.server_episodes
        steps = _geometric(derive_seed(run_seed, "inner steps", index), mean)
        return GradientRound(
            episodes, self.horizon, inner=InnerLoop(steps, self.server_episodes, self.ratio_bound)
        )


@dataclass(frozen=True)
class ByzPg:
    """Centralised ByzPG: a common coin says whether a round is large, or a step of PAGE.

    With `large_chance`, and in the first round, clients estimate the gradient from
    `large_episodes`; else they estimate its change since the last step from `small_episodes`.
    """

    large_episodes: int = 50
    small_episodes: int = 4
    large_chance: float = 0.2
    horizon: int = 500

    def round(self, run_seed: int, index: int) -> GradientRound:
        """Return what round `index` (from 0) of a run is."""
        coin = derive_seed(run_seed, "coin", index) / SEED_BOUND
        if index == 0 or coin < self.large_chance:
            return GradientRound(self.large_episodes, self.horizon)
        return GradientRound(self.small_episodes, self.horizon, is_difference=True)


GradientMethod = FedPgBr | ByzPg


def _geometric(seed: int, mean: float) -> int:
    """The number of trials until the first success, of chance 1 / mean each.

    Trials are counted one by one: a formula with logarithms may differ between machines.
    """
    draws = np.random.Generator(np.random.Philox(key=seed))
    for trial in range(1, MOST_INNER_STEPS):
        if draws.random() < 1.0 / mean:
            return trial
    return MOST_INNER_STEPS
