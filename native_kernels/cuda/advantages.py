"""Advantages and returns on a CUDA device; contracts: ``native_kernels.advantages``.

The bits are those of the CPU. All arrays are on one device, anybody's (``arrays.py``).
"""

from typing import Any

from native_kernels.cuda.calls import Call

__all__ = ["discounted_returns", "generalized_advantages"]


def generalized_advantages(
    rewards: Any,
    values: Any,
    episode_starts: Any,
    last_values: Any,
    last_dones: Any,
    gamma: float,
    gae_lambda: float,
    *,
    out: tuple[Any, Any] | None = None,
    stream: Any = None,
) -> tuple[Any, Any]:
    """Advantages and their sum with the values (Schulman et al. 2016, arXiv 1506.02438).

    rewards, values: float32[T, B]. episode_starts: bool[T, B]. last_values: float32[B].
    last_dones: bool[B]. gamma, gae_lambda: from 0 to 1. out: two of float32[T, B], or None.
    Returns (advantages float32[T, B], returns float32[T, B]).

    Raises TypeError for another dtype or place, ValueError for another shape or order or a factor
    out of range, KernelError, UnavailableError. Does not wait for the results.
    """
    _require_share("gamma", gamma)
    _require_share("gae_lambda", gae_lambda)
    call = Call(stream)
    reward = call.input(rewards, "rewards", "float32[T, B]")
    value = call.input(values, "values", "float32[T, B]")
    trace = _trace(call, reward, episode_starts, last_values, last_dones)
    advantages, first = call.output(out and out[0], "out", "float32[T, B]")
    returns, second = call.output(out and out[1], "out", "float32[T, B]")
    call.run(
        call.module.generalized_advantages,
        trace, value, float(gamma), float(gae_lambda), advantages, returns,
    )  # fmt: skip
    return first, second


def discounted_returns(
    rewards: Any,
    episode_starts: Any,
    last_values: Any,
    last_dones: Any,
    gamma: float,
    *,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Returns G[t] = rewards[t] + gamma * G[t + 1], cut where episodes end.

    rewards: float32[T, B]. episode_starts: bool[T, B]. last_values: float32[B]. last_dones:
    bool[B]. gamma: from 0 to 1. out: float32[T, B], or None. Returns float32[T, B].

    Raises as ``generalized_advantages`` does. Does not wait for the result.
    """
    _require_share("gamma", gamma)
    call = Call(stream)
    reward = call.input(rewards, "rewards", "float32[T, B]")
    trace = _trace(call, reward, episode_starts, last_values, last_dones)
    returns, result = call.output(out, "out", "float32[T, B]")
    call.run(call.module.discounted_returns, trace, float(gamma), returns)
    return result


def _trace(call: Call, rewards: int, episode_starts: Any, last_values: Any, last_dones: Any) -> Any:
    return call.module.Trace(
        rewards,
        call.input(episode_starts, "episode_starts", "bool[T, B]"),
        call.input(last_values, "last_values", "float32[B]"),
        call.input(last_dones, "last_dones", "bool[B]"),
        call.sizes["T"],
        call.sizes["B"],
    )


def _require_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: must be from 0 to 1, is {value}")
