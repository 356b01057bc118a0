"""Environments on a CUDA device in lockstep with those on the CPU: the same bits."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import cuda
from native_kernels.environments import ENVIRONMENTS, BatchEnvironment

IDS = list(ENVIRONMENTS)
COUNT = 37


def some_actions(id: str, count: int, random: np.random.Generator) -> NDArray[Any]:
    facts = ENVIRONMENTS[id]
    if facts.n_actions:
        return random.integers(0, facts.n_actions, size=count)
    size = (count, facts.action_size)
    # beyond the bounds as well, which the dynamics clip
    return random.uniform(2 * facts.action_low, 2 * facts.action_high, size).astype(np.float32)


@pytest.mark.parametrize("id", IDS)
def test_steps_have_the_bits_of_the_cpu(device: str, id: str) -> None:
    ours = cuda.BatchEnvironment(id, COUNT, seed=2**40 + 3)
    theirs = BatchEnvironment(id, COUNT, seed=2**40 + 3)
    random = np.random.default_rng(5)
    assert cuda.to_host(ours.reset()).tobytes() == theirs.reset().tobytes()
    n_ended = 0
    for _ in range(2 * 210):  # two of Pendulum's and MountainCar's episodes, several of CartPole's
        actions = some_actions(id, COUNT, random)
        found = [cuda.to_host(array) for array in ours.step(cuda.to_device(actions))]
        wanted = theirs.step(actions)
        for one, same in zip(found, wanted, strict=True):
            assert one.tobytes() == same.tobytes()
        ended = wanted[2] | wanted[3]
        n_ended += int(ended.sum())
        np.testing.assert_array_equal(
            cuda.to_host(ours.final_observations)[ended], theirs.final_observations[ended]
        )
    np.testing.assert_array_equal(ours.states, theirs.states)
    np.testing.assert_array_equal(ours.elapsed_steps, theirs.elapsed_steps)
    assert n_ended > 0 or ENVIRONMENTS[id].max_episode_steps > 420


@pytest.mark.parametrize("id", IDS)
def test_episodes_are_truncated_at_their_last_step(device: str, id: str) -> None:
    environment = cuda.BatchEnvironment(id, 2)
    environment.reset()
    actions = cuda.to_device(some_actions(id, 2, np.random.default_rng(1)))
    for step in range(1, ENVIRONMENTS[id].max_episode_steps + 1):
        _, _, terminated, truncated = environment.step(actions)
        if cuda.to_host(terminated).any():
            assert environment.elapsed_steps.min() == 0
            return  # the pole fell: that it is so is the other test's
        is_last = step == ENVIRONMENTS[id].max_episode_steps
        assert cuda.to_host(truncated).tolist() == [is_last, is_last], step
    assert environment.elapsed_steps.tolist() == [0, 0]


def test_a_seed_names_the_episodes(device: str) -> None:
    environment = cuda.BatchEnvironment("CartPole-v1", 5, seed=1)
    first = cuda.to_host(environment.reset())
    second = cuda.to_host(environment.reset())
    assert (first != second).all()
    np.testing.assert_array_equal(cuda.to_host(environment.reset(seed=1)), first)
    assert (cuda.to_host(environment.reset(seed=2)) != first).all()


def test_states_can_be_set(device: str) -> None:
    environment = cuda.BatchEnvironment("Acrobot-v1", 3)
    states = np.array([[0.5, -0.25, 1.0, 0.0]] * 3)
    observations = cuda.to_host(environment.set_states(states))
    np.testing.assert_array_equal(environment.states, states)
    wanted = [np.cos(0.5), np.sin(0.5), np.cos(-0.25), np.sin(-0.25), 1.0, 0.0]
    np.testing.assert_allclose(observations[2], wanted, atol=2e-7)
    unfit: list[Any] = [states[:2], states.astype(np.float32), states * np.nan]
    for bad in unfit:
        with pytest.raises(ValueError, match=r"states: must be finite float64\[3, 4\]"):
            environment.set_states(bad)


@pytest.mark.parametrize(
    ("id", "actions"),
    [
        ("CartPole-v1", np.array([0, 2, 1, -1, 2**32])),
        ("Pendulum-v1", np.array([[0.0], [np.nan], [1.0], [np.inf], [-np.inf]], np.float32)),
    ],
)
def test_unsound_actions_spoil_their_environment_alone(
    device: str, id: str, actions: NDArray[Any]
) -> None:
    environment = cuda.BatchEnvironment(id, 5)
    environment.reset()
    observations, rewards, terminated, _ = environment.step(cuda.to_device(actions))
    spoiled = [False, True, False, True, True]
    assert np.isnan(cuda.to_host(rewards)).tolist() == spoiled
    assert np.isnan(cuda.to_host(observations)).all(axis=1).tolist() == spoiled
    assert not cuda.to_host(terminated).any()
    assert np.isfinite(cuda.to_host(environment.reset())).all()


def test_work_is_done_on_the_stream_and_the_device_of_the_batch(emulation: Any) -> None:
    environment = cuda.BatchEnvironment("CartPole-v1", 3, device=1, stream=6)
    actions = cuda.to_device(np.zeros(3, np.int64), device=1, stream=8)
    emulation.log()
    environment.reset()
    environment.step(actions)
    assert emulation.log() == [
        "start_environments device 1 stream 6",
        "wait for stream 8 device 1 stream 6",
        "step_environments device 1 stream 6",
        "wait for stream 6 device 1 stream 8",
    ]


def test_unfit_arguments_are_refused_by_name(emulation: object) -> None:
    for arguments, message in (
        (("Pong", 1), "id: must be one of CartPole-v1"),
        (("CartPole-v1", 0), "count: must be 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            cuda.BatchEnvironment(*arguments)
    with pytest.raises(ValueError, match="seed: must be 0 to"):
        cuda.BatchEnvironment("CartPole-v1", 1, seed=-1)
    with pytest.raises(ValueError, match="device: must be 0 to 1, is 2"):
        cuda.BatchEnvironment("CartPole-v1", 1, device=2)
    environment = cuda.BatchEnvironment("CartPole-v1", 2)
    actions = cuda.to_device(np.zeros(3, np.int64))
    with pytest.raises(RuntimeError, match="reset the environments"):
        environment.step(actions)
    environment.reset()
    with pytest.raises(ValueError, match=r"actions: must be int64\[B\] with B = 2, has shape \[3"):
        environment.step(actions)
    with pytest.raises(TypeError, match=r"actions: must be int64\[B\], is float32"):
        environment.step(cuda.to_device(np.zeros(2, np.float32)))
    far = cuda.to_device(np.zeros(2, np.int64), device=1)
    with pytest.raises(ValueError, match="observations: lies on device 0, others on 1"):
        environment.step(far)
