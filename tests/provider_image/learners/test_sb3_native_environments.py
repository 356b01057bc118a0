"""Native batches under SB3: its algorithms learn, log and bootstrap as on its own environments."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from native_kernels.environments import ENVIRONMENTS
from provider_image.learners.sb3_native_environments import NativeVecEnv


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_infos_are_those_of_monitored_environments(id: str) -> None:
    count = 3
    limit = ENVIRONMENTS[id].max_episode_steps
    native = NativeVecEnv(id, count)
    expected = DummyVecEnv([lambda: Monitor(gymnasium.make(id))] * count)
    assert native.observation_space == expected.observation_space
    assert native.action_space == expected.action_space
    keys: dict[str, set[tuple[bool, tuple[str, ...]]]] = {}
    rng = np.random.default_rng(0)
    for name, environment in (("native", native), ("expected", expected)):
        environment.seed(1)
        observations = environment.reset()
        sums, lengths = np.zeros(count), np.zeros(count, int)
        keys[name] = set()
        for _ in range(min(limit, 250) + 1):
            if ENVIRONMENTS[id].n_actions:
                actions: Any = rng.integers(0, ENVIRONMENTS[id].n_actions, count)
            else:
                actions = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
            observations, rewards, dones, infos = environment.step(actions)
            assert isinstance(observations, np.ndarray)
            assert observations.dtype == rewards.dtype == np.float32
            sums, lengths = sums + rewards, lengths + 1
            for index, info in enumerate(infos):
                keys[name].add((bool(dones[index]), tuple(sorted(info))))
                assert type(info["TimeLimit.truncated"]) is bool
                if not dones[index]:
                    continue
                assert info["TimeLimit.truncated"] == (lengths[index] == limit)
                assert info["terminal_observation"].shape == observations[index].shape
                assert (info["terminal_observation"] != observations[index]).any()
                assert info["episode"]["l"] == lengths[index]
                assert info["episode"]["r"] == pytest.approx(sums[index], abs=1e-3)
                assert info["episode"]["t"] >= 0
                sums[index] = lengths[index] = 0
    assert keys["native"] == keys["expected"]


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_ppo_learns_on_it_and_logs_episodes(id: str) -> None:
    model = PPO("MlpPolicy", NativeVecEnv(id, 8), n_steps=210, n_epochs=1, seed=0, device="cpu")
    model.learn(2 * 8 * 210)
    assert model.ep_info_buffer is not None
    assert len(model.ep_info_buffer) >= 8
    assert np.isfinite([info["r"] for info in model.ep_info_buffer]).all()
    mean, _ = evaluate_policy(model, NativeVecEnv(id, 2), n_eval_episodes=4)
    assert np.isfinite(mean)


def test_dqn_and_normalisation_work_on_it() -> None:
    environment = VecNormalize(NativeVecEnv("MountainCar-v0", 2))
    model = DQN("MlpPolicy", environment, learning_starts=100, seed=0, device="cpu")
    model.learn(450)
    assert model.ep_info_buffer is not None
    assert len(model.ep_info_buffer) == 2
    for info in model.ep_info_buffer:
        assert info["r"] == -info["l"] >= -200  # before normalisation
    assert model.num_timesteps == 456  # whole rounds of 4 steps in 2 environments


def test_seeds_and_attributes() -> None:
    one, other = NativeVecEnv("CartPole-v1", 3), NativeVecEnv("CartPole-v1", 3)
    for environment in (one, other):
        assert environment.seed(5) == [5, 5, 5]
    first = one.reset()
    np.testing.assert_array_equal(first, other.reset())
    assert (one.reset() != first).any()
    assert one.env_is_wrapped(Monitor) == [True] * 3
    assert one.env_is_wrapped(gymnasium.wrappers.TimeLimit, [0]) == [False]
    assert one.get_attr("render_mode", [1, 2]) == [None, None]
    assert not one.has_attr("gravity")
    for refused in (
        lambda: one.get_attr("gravity"),
        lambda: one.set_attr("gravity", 1),
        lambda: one.env_method("close"),
    ):
        with pytest.raises(AttributeError, match="native environments have no"):
            refused()
    one.set_options({"low": 0.0})
    with pytest.raises(ValueError, match="options: native environments take none"):
        one.reset()


def test_a_step_without_actions_is_refused() -> None:
    environment = NativeVecEnv("CartPole-v1", 3)
    environment.reset()
    with pytest.raises(RuntimeError, match="call step_async before step_wait"):
        environment.step_wait()
    with pytest.raises(ValueError, match="actions: entry 1"):
        environment.step(np.array([0, 5, 0]))
