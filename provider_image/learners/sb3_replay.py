"""A replay buffer that its client keeps: the filled part as tensors, restored exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from provider_image.learners.base import LearnerRefused
from provider_image.wire import Tensors, TensorSpec, WireError, check_tensors

REPLAY_PREFIX = "replay/"
MAX_REPLAY_BYTES = 1 << 30
_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_POSITION = REPLAY_PREFIX + "position"
_FULL = REPLAY_PREFIX + "full"


def replay_tensors(buffer: ReplayBuffer) -> Tensors:
    """`replay/<array>` [filled, n_envs, ...], `replay/position` int64[], `replay/full` bool[].

    Raises LearnerRefused above 1 GiB, and for observations that are dictionaries.
    """
    arrays = _arrays(buffer)
    filled = buffer.size()
    total_bytes = sum(array[:filled].nbytes for array in arrays.values())
    if total_bytes > MAX_REPLAY_BYTES:
        raise LearnerRefused(
            f"the replay buffer holds {total_bytes} bytes, a client may keep {MAX_REPLAY_BYTES}; "
            "lower buffer_size or use rule replay: reset"
        )
    tensors: Tensors = {
        REPLAY_PREFIX + name: array[:filled].astype(_wire_dtype(array.dtype))
        for name, array in arrays.items()
    }
    tensors[_POSITION] = np.array(buffer.pos, np.int64)
    tensors[_FULL] = np.array(buffer.full)
    return tensors


def load_replay(buffer: ReplayBuffer, tensors: Tensors) -> None:
    """Restore what `replay_tensors` gave; WireError if it does not fit this buffer.

    The episode that the end of the last round cut short is closed as truncated, so that no n-step
    return reaches over the cut; for one-step targets this changes nothing.
    """
    arrays = _arrays(buffer)
    position, full = tensors.get(_POSITION), tensors.get(_FULL)
    if position is None or full is None or position.shape or full.shape:
        raise WireError(f"client state: {_POSITION} and {_FULL} must be single values")
    filled = buffer.buffer_size if bool(full) else int(position)
    if not 0 <= int(position) < buffer.buffer_size:
        raise WireError(
            f"client state: {_POSITION} {int(position)} is outside the buffer's "
            f"{buffer.buffer_size} rows"
        )
    specs = {
        REPLAY_PREFIX + name: TensorSpec(_wire_dtype(array.dtype).name, (filled, *array.shape[1:]))
        for name, array in arrays.items()
    }
    specs |= {_POSITION: TensorSpec("int64", ()), _FULL: TensorSpec("bool", ())}
    check_tensors(tensors, specs, source="client state")
    for name, array in arrays.items():
        array[:filled] = tensors[REPLAY_PREFIX + name].astype(array.dtype)
    buffer.pos, buffer.full = int(position), bool(full)
    if filled and isinstance(buffer, NStepReplayBuffer):
        last = buffer.pos - 1
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1 - buffer.dones[last])
        buffer.dones[last] = 1


def _arrays(buffer: ReplayBuffer) -> dict[str, npt.NDArray[Any]]:
    if isinstance(buffer, DictReplayBuffer):
        raise LearnerRefused(
            "rule replay: kept does not support dictionary observations; use replay: reset"
        )
    return {name: getattr(buffer, name) for name in _ARRAYS}


def _wire_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the wire that holds every value of `dtype`."""
    if dtype in (np.float32, np.float64, np.int64, np.uint8, np.bool_):
        return dtype
    if dtype.kind == "f" and dtype.itemsize < 4:
        return np.dtype(np.float32)
    if dtype.kind in "iu" and dtype != np.uint64:
        return np.dtype(np.int64)
    raise LearnerRefused(
        f"rule replay: kept does not support {dtype} observations or actions; use replay: reset"
    )
