"""Native batches behave as Gymnasium's own vector environments do."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from native_kernels.environments import ENVIRONMENTS
from provider_image.environments.native_vector import NativeVectorEnv

COUNT = 4


def synchronous(id: str) -> "SyncVectorEnv[Any, Any]":
    return SyncVectorEnv(
        [lambda: gymnasium.make(id)] * COUNT, autoreset_mode=AutoresetMode.SAME_STEP
    )


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_spaces_and_spec_are_gymnasiums(id: str) -> None:
    native, expected = NativeVectorEnv(id, COUNT), synchronous(id)
    assert native.single_observation_space == expected.single_observation_space
    assert native.single_action_space == expected.single_action_space
    assert native.observation_space == expected.observation_space
    assert native.action_space == expected.action_space
    assert native.num_envs == COUNT
    assert native.spec == gymnasium.spec(id)
    assert native.spec.max_episode_steps == ENVIRONMENTS[id].max_episode_steps
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert repr(native) == f"NativeVectorEnv({id}, num_envs={COUNT})"


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_what_is_returned_looks_as_from_synchronous_environments(id: str) -> None:
    native, expected = NativeVectorEnv(id, COUNT), synchronous(id)
    for environment in (native, expected):
        environment.action_space.seed(3)
        observations, infos = environment.reset(seed=1)
        assert infos == {}
        assert environment.observation_space.contains(observations)
    ended = 0
    for _ in range(210):
        actions = native.action_space.sample()
        outcome, other = native.step(actions), expected.step(actions)
        for mine, theirs in zip(outcome[:4], other[:4], strict=True):
            assert mine.shape == theirs.shape
            assert mine.dtype == theirs.dtype
        assert native.observation_space.contains(outcome[0])
        done = outcome[2] | outcome[3]
        if not done.any():
            assert outcome[4] == {}
            continue
        infos = outcome[4]
        ended += int(done.sum())
        if other[4]:
            assert infos.keys() == other[4].keys()
            assert infos["final_info"] == other[4]["final_info"]
        np.testing.assert_array_equal(infos["_final_obs"], done)
        np.testing.assert_array_equal(infos["_final_info"], done)
        assert infos["final_obs"].dtype == object
        for index in range(COUNT):
            final = infos["final_obs"][index]
            assert (final is None) == (not done[index])
            assert final is None or native.single_observation_space.contains(final)
            assert final is None or (final != outcome[0][index]).any()
    assert ended > 0 or ENVIRONMENTS[id].max_episode_steps > 210


def test_gymnasiums_statistics_work_on_it() -> None:
    environment = RecordEpisodeStatistics(NativeVectorEnv("CartPole-v1", COUNT))
    environment.reset(seed=5)
    lengths = np.zeros(COUNT, int)
    seen = []
    for _ in range(100):
        *_, terminated, truncated, infos = environment.step(environment.action_space.sample())
        lengths += 1
        for index in np.flatnonzero(terminated | truncated):
            assert infos["episode"]["l"][index] == lengths[index]
            assert infos["episode"]["r"][index] == lengths[index]
            seen.append(lengths[index])
            lengths[index] = 0
    assert len(seen) > COUNT


def test_seeds() -> None:
    one, other = NativeVectorEnv("CartPole-v1", COUNT), NativeVectorEnv("CartPole-v1", COUNT)
    first, _ = one.reset(seed=7)
    second, _ = one.reset()
    np.testing.assert_array_equal(other.reset(seed=7)[0], first)
    np.testing.assert_array_equal(other.reset()[0], second)
    assert (first != second).any()
    unseeded = NativeVectorEnv("CartPole-v1", COUNT)
    assert (unseeded.reset()[0] != NativeVectorEnv("CartPole-v1", COUNT).reset()[0]).any()
    with pytest.raises(ValueError, match="seed: must be one int"):
        one.reset(seed=[1, 2, 3, 4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="options: native environments take none"):
        one.reset(options={"low": 0.0})
    one.reset(options={})


@pytest.mark.parametrize("copy", [True, False])
def test_arrays_are_copies_unless_told_otherwise(copy: bool) -> None:
    environment = NativeVectorEnv("CartPole-v1", COUNT, copy=copy)
    observations, _ = environment.reset(seed=1)
    kept = observations.copy()
    environment.step(np.ones(COUNT, np.int64))
    assert (observations == kept).all() == copy


def test_actions_of_the_wrong_kind_are_refused() -> None:
    environment = NativeVectorEnv("CartPole-v1", COUNT)
    environment.reset(seed=1)
    with pytest.raises(TypeError, match="actions: must be whole numbers for CartPole-v1"):
        environment.step(np.ones(COUNT))
    with pytest.raises(ValueError, match="actions: entry 2"):
        environment.step(np.array([0, 1, 2, 0]))
    environment.step(np.array([0, 1, 0, 0], np.uint8))
