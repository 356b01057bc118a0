"""What the recorder collects is what SB3's normaliser saw, from nothing and in float64."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from native_kernels.aggregation import merge_moments
from provider_image.environments import make_environment
from provider_image.learners.base import LearnerRefused
from provider_image.learners.sb3_environments import (
    load_normalizer,
    normalizer_tensors,
    training_environment,
)
from provider_image.wire import EnvironmentSpec, NormalizeSpec, StateRules, Tensors, WrapperSpec

SPEC = EnvironmentSpec(id="CartPole-v1", n_envs=4, normalize=NormalizeSpec(gamma=0.9))


def walk(seed: int, steps: int, start: Tensors | None = None) -> tuple[Tensors, Tensors]:
    """Random actions; (this round's moments, running statistics) afterwards."""
    environment = training_environment(SPEC, StateRules())
    assert environment.recorder is not None
    if start is not None:
        load_normalizer(environment.normalizer, start)
    environment.outermost.seed(seed)
    environment.outermost.reset()
    actions = np.random.default_rng(seed).integers(0, 2, (steps, SPEC.n_envs))
    for action in actions:
        environment.outermost.step(action)
    return environment.recorder.tensors(), normalizer_tensors(environment.normalizer)


def test_the_received_statistics_and_the_moments_give_the_running_statistics() -> None:
    _, start = walk(seed=1, steps=60)
    moments, running = walk(seed=2, steps=80, start=start)
    for what, count in (("observation", 81 * 4), ("return", 80 * 4)):
        assert float(moments[f"moments/{what}/count"]) == count
        parts = [(start, f"normalizer/{what}"), (moments, f"moments/{what}")]
        mean, variance, merged_count = merge_moments(
            np.stack([np.atleast_1d(tensors[f"{at}/mean"]) for tensors, at in parts]),
            np.stack([np.atleast_1d(tensors[f"{at}/var"]) for tensors, at in parts]),
            np.array([float(tensors[f"{at}/count"]) for tensors, at in parts]),
        )
        prefix = f"normalizer/{what}"
        assert merged_count == pytest.approx(float(running[f"{prefix}/count"]), rel=1e-12)
        np.testing.assert_allclose(
            mean, np.atleast_1d(running[f"{prefix}/mean"]), rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(variance, np.atleast_1d(running[f"{prefix}/var"]), rtol=1e-5)


def test_moments_are_those_of_the_raw_stream_to_the_last_digits() -> None:
    plain = DummyVecEnv([lambda: make_environment(SPEC) for _ in range(SPEC.n_envs)])
    plain.seed(2)
    seen = [np.asarray(plain.reset(), np.float64)]
    discounted, returns = [], np.zeros(SPEC.n_envs)
    for action in np.random.default_rng(2).integers(0, 2, (80, SPEC.n_envs)):
        observations, rewards, dones, _ = plain.step(action)
        seen.append(np.asarray(observations, np.float64))
        returns = returns * 0.9 + rewards
        discounted.append(returns.copy())
        returns[dones] = 0
    moments, _ = walk(seed=2, steps=80)
    for what, stream in (("observation", np.concatenate(seen)), ("return", np.array(discounted))):
        flat = stream.reshape(-1, *moments[f"moments/{what}/mean"].shape)
        np.testing.assert_allclose(moments[f"moments/{what}/mean"], flat.mean(0), atol=1e-12)
        np.testing.assert_allclose(moments[f"moments/{what}/var"], flat.var(0), rtol=1e-12)


def test_a_frozen_normaliser_does_not_learn_but_moments_are_recorded() -> None:
    environment = training_environment(SPEC, StateRules(normalizer="frozen"))
    before = normalizer_tensors(environment.normalizer)
    environment.outermost.reset()
    environment.outermost.step(np.zeros(4, np.int64))
    after = normalizer_tensors(environment.normalizer)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert environment.recorder is not None
    assert float(environment.recorder.tensors()["moments/observation/count"]) == 8


def test_only_what_is_normalised_has_statistics() -> None:
    spec = EnvironmentSpec(id="CartPole-v1", normalize=NormalizeSpec(rewards=False))
    environment = training_environment(spec, StateRules())
    names = {f"normalizer/observation/{field}" for field in ("mean", "var", "count")}
    assert normalizer_tensors(environment.normalizer).keys() == names
    assert isinstance(environment.outermost, VecNormalize)
    unnormalised = training_environment(EnvironmentSpec(id="CartPole-v1"), StateRules())
    assert normalizer_tensors(unnormalised.normalizer) == {}


def test_impossible_statistics_are_refused() -> None:
    environment = training_environment(SPEC, StateRules())
    tensors = normalizer_tensors(environment.normalizer)
    with pytest.raises(LearnerRefused, match="normalizer/return: variance must not be negative"):
        load_normalizer(environment.normalizer, tensors | {"normalizer/return/var": np.array(-1.0)})
    with pytest.raises(LearnerRefused, match="count positive"):
        load_normalizer(
            environment.normalizer, tensors | {"normalizer/observation/count": np.array(0.0)}
        )


def test_dictionary_observations_cannot_be_normalised() -> None:
    spec = EnvironmentSpec(
        id="CartPole-v1",
        wrappers=(WrapperSpec("TimeAwareObservation", {"flatten": False}),),
        normalize=NormalizeSpec(),
    )
    with pytest.raises(LearnerRefused, match=r"normalize\.observations needs a Box"):
        training_environment(spec, StateRules())
