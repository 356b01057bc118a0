"""A kept replay buffer comes back as it was, and a stranger's does not come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from provider_image.learners import sb3_replay
from provider_image.learners.base import LearnerRefused
from provider_image.learners.sb3_replay import load_replay, replay_tensors
from provider_image.wire import WireError

BOX = spaces.Box(-1, 1, (3,), np.float32)
SPACES: list[tuple[spaces.Space[Any], spaces.Space[Any]]] = [
    (BOX, BOX),
    (spaces.Box(-1, 1, (2,), np.float64), spaces.Discrete(3)),
    (spaces.Box(0, 255, (4, 4, 1), np.uint8), spaces.Discrete(2)),
    (spaces.Discrete(5), spaces.Discrete(2)),
    (spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(2)),
    (spaces.Box(-1, 1, (2,), np.float16), spaces.Box(-1, 1, (1,), np.float64)),
]


def filled(buffer: ReplayBuffer, rows: int) -> ReplayBuffer:
    """Add `rows` random transitions."""
    generator = np.random.default_rng(1)
    for row in range(rows):
        observations = np.stack([buffer.observation_space.sample() for _ in range(buffer.n_envs)])
        actions = np.stack([buffer.action_space.sample() for _ in range(buffer.n_envs)])
        done = generator.random(buffer.n_envs) < 0.2
        infos = [{"TimeLimit.truncated": bool(flag and row % 2)} for flag in done]
        rewards = generator.standard_normal(buffer.n_envs)
        buffer.add(observations, observations, actions, rewards, done, infos)
    return buffer


@pytest.mark.parametrize(("observation", "action"), SPACES)
@pytest.mark.parametrize("rows", [0, 3, 5, 8])
def test_a_buffer_comes_back_as_it_was(
    observation: spaces.Space[Any], action: spaces.Space[Any], rows: int
) -> None:
    observation.seed(1)
    action.seed(1)

    def fresh() -> ReplayBuffer:
        return ReplayBuffer(10, observation, action, device="cpu", n_envs=2)

    original = filled(fresh(), rows)
    restored = fresh()
    load_replay(restored, replay_tensors(original))
    assert (restored.pos, restored.full) == (original.pos, original.full)
    assert (restored.pos, restored.full) == (rows % 5, rows >= 5)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        ours, theirs = getattr(restored, name), getattr(original, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_only_the_filled_part_travels() -> None:
    tensors = replay_tensors(filled(ReplayBuffer(1000, BOX, BOX, device="cpu"), 7))
    assert tensors["replay/observations"].shape == (7, 1, 3)


def test_n_step_returns_do_not_reach_over_the_end_of_a_round() -> None:
    def fresh() -> NStepReplayBuffer:
        return NStepReplayBuffer(10, BOX, BOX, device="cpu", n_steps=3, gamma=0.5)

    original = filled(fresh(), 4)
    original.dones[:], original.timeouts[:], original.rewards[:] = 0, 0, 1
    restored = fresh()
    load_replay(restored, replay_tensors(original))
    filled(restored, 3)
    restored.rewards[4:] = 100
    samples = restored._get_samples(np.array([1, 2, 3]))
    assert samples.rewards.flatten().tolist() == [1.75, 1.5, 1.0]
    assert samples.dones.flatten().tolist() == [0, 0, 0]


def test_dictionaries_and_giants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = DictReplayBuffer(10, spaces.Dict({"a": BOX}), BOX, device="cpu")
    with pytest.raises(LearnerRefused, match="dictionary observations; use replay: reset"):
        replay_tensors(dictionary)
    monkeypatch.setattr(sb3_replay, "MAX_REPLAY_BYTES", 100)
    with pytest.raises(LearnerRefused, match="a client may keep 100; lower buffer_size"):
        replay_tensors(filled(ReplayBuffer(10, BOX, BOX, device="cpu"), 5))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    position=st.integers(-(2**40), 2**40),
    full=st.booleans(),
    rows=st.integers(0, 12),
    dropped=st.sampled_from([None, "replay/full", "replay/position", "replay/rewards"]),
    poison=st.sampled_from([None, np.nan]),
)
def test_a_strangers_buffer_does_not_come_in(
    position: int, full: bool, rows: int, dropped: str | None, poison: float | None
) -> None:
    original = filled(ReplayBuffer(10, BOX, BOX, device="cpu"), 6)
    tensors = replay_tensors(original)
    for name, tensor in tensors.items():
        if tensor.ndim:
            tensors[name] = np.resize(tensor, (rows, *tensor.shape[1:]))
    tensors |= {"replay/position": np.array(position), "replay/full": np.array(full)}
    if dropped is not None:
        del tensors[dropped]
    if poison is not None and rows:
        tensors["replay/actions"][0] = poison
    honest = dropped is None and (poison is None or rows == 0)
    fits = 0 <= position < 10 and rows == (10 if full else position)
    restored = ReplayBuffer(10, BOX, BOX, device="cpu")
    if honest and fits:
        load_replay(restored, tensors)
        assert restored.size() == rows
    else:
        with pytest.raises(WireError, match="client state"):
            load_replay(restored, tensors)
