"""Held-out episodes and probes of a policy-gradient model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from provider_image.learners.base import Evaluation, Probe
from provider_image.learners.divergence import Categorical, Decisions
from provider_image.learners.episodes import run_episodes
from provider_image.learners.native_collecting import flat
from provider_image.learners.policy_gradient_episodes import drawn
from provider_image.learners.policy_gradient_network import Float64, Parameters, parameters_of
from provider_image.learners.policy_gradient_plan import GradientPlan
from provider_image.learners.probing import met_observations, probe
from provider_image.wire import EvaluateOrder, ProbeOrder, Tensors


def evaluate(order: EvaluateOrder, plan: GradientPlan, model: Tensors) -> Evaluation:
    """One episode per seed; rows of a pass do not depend on each other."""
    player = _Player(plan, parameters_of(model), is_greedy=order.deterministic)
    return run_episodes(order, player.act, player.begin)


def probe_policy(order: ProbeOrder, plan: GradientPlan, model: Tensors, updates: Tensors) -> Probe:
    """The mean divergence of each moved policy, where the policy has been."""
    player = _Player(plan, parameters_of(model), is_greedy=False)
    player.begin(order.seeds[0])
    seen = _seen(met_observations(order, player.act))

    def decide(policy: Tensors) -> Decisions:
        return Categorical((plan.network.logits(parameters_of(policy), seen),))

    return probe(model, updates, decide)


class _Player:
    """Acts in episodes; drawn actions follow the seed of the episode at hand."""

    def __init__(self, plan: GradientPlan, parameters: Parameters, *, is_greedy: bool) -> None:
        self._plan, self._parameters, self._is_greedy = plan, parameters, is_greedy
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Draw actions from `seed` on."""
        self._draws = np.random.Generator(np.random.Philox(key=seed))

    def act(self, observations: Sequence[Any]) -> list[int]:
        """One action for each observation."""
        network, seen = self._plan.network, _seen(observations)
        if self._is_greedy:
            return list(network.logits(self._parameters, seen).argmax(axis=1))
        chances = network.log_probabilities(self._parameters, seen)
        return list(drawn(chances, self._draws.random(len(seen))))


def _seen(observations: Sequence[Any]) -> Float64:
    return flat(np.stack(observations)).astype(np.float64)
