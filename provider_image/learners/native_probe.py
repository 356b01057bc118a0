"""Probes by the native learner: no torch.

The policy's decisions are computed in NumPy, in float64: the kernels give actions, not
distributions. Across CPUs they agree to the last bits, not bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from native_kernels.ppo import PolicyShape
from provider_image.environments import read_spaces
from provider_image.learners.base import Probe
from provider_image.learners.divergence import Categorical, Decisions, Float64, Gaussian
from provider_image.learners.native_collecting import flat
from provider_image.learners.native_model import NativeModel, open_model
from provider_image.learners.native_stepping import for_environment
from provider_image.learners.probing import ActTogether, met_observations, probe
from provider_image.wire import POLICY_PREFIX, ProbeOrder, Tensors


def probe_native(order: ProbeOrder, received: Tensors, updates: Tensors) -> Probe:
    """See `base.Learner.probe`."""
    model = open_model(order, received, read_spaces(order.environment))
    met = met_observations(order, _player(model, order.seeds[0]))
    observations = _seen(model, met).astype(np.float64)

    def decide(policy: Tensors) -> Decisions:
        return decisions(model.plan.shape, policy, observations)

    return probe(received, updates, decide)


def decisions(shape: PolicyShape, policy: Tensors, observations: Float64) -> Decisions:
    """Distributions at `observations` float64[B, O] by the actor in `policy/…` float32."""

    def layer(name: str, inputs: Float64) -> Float64:
        weight = policy[f"{POLICY_PREFIX}{name}.weight"].astype(np.float64)
        result: Float64 = inputs @ weight.T + policy[f"{POLICY_PREFIX}{name}.bias"]
        return result

    hidden = observations
    with np.errstate(all="ignore"):
        for number in range(len(shape.pi)):
            hidden = layer(f"mlp_extractor.policy_net.{2 * number}", hidden)
            hidden = np.tanh(hidden) if shape.activation == "tanh" else np.maximum(hidden, 0)
        outputs = layer("action_net", hidden)
    if shape.distribution == "categorical":
        return Categorical((outputs,))
    return Gaussian(outputs, policy[f"{POLICY_PREFIX}log_std"])


def _player(model: NativeModel, seed: int) -> ActTogether:
    step = 0

    def act(observations: list[Any]) -> list[Any]:
        nonlocal step
        actions, _, _ = model.ppo.act(_seen(model, observations), seed=seed, step=step)
        step += 1
        return list(for_environment(actions, model.plan.spaces.action))

    return act


def _seen(model: NativeModel, observations: list[Any]) -> Any:
    stacked = np.stack(observations)
    return flat(stacked if model.normalizer is None else model.normalizer.observed(stacked))
