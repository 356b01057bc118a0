"""Advantages and returns on a CUDA device: the bits of the CPU and of the definition."""

from typing import Any

import numpy as np
import pytest

from native_kernels import advantages, cuda, reference

NAMES = ("rewards", "values", "episode_starts", "last_values", "last_dones")


def a_rollout(steps: int, environments: int) -> dict[str, Any]:
    random = np.random.default_rng(steps)
    return {
        "rewards": random.normal(size=(steps, environments)).astype(np.float32),
        "values": random.normal(size=(steps, environments)).astype(np.float32),
        "episode_starts": random.random((steps, environments)) < 0.1,
        "last_values": random.normal(size=environments).astype(np.float32),
        "last_dones": random.random(environments) < 0.3,
    }


@pytest.mark.parametrize("shape", [(1, 1), (50, 3), (7, 200), (0, 4), (4, 0)])
def test_advantages_have_the_bits_of_the_cpu(device: str, shape: tuple[int, int]) -> None:
    rollout = a_rollout(*shape)
    there: dict[str, Any] = {name: cuda.to_device(array) for name, array in rollout.items()}
    found = cuda.generalized_advantages(**there, gamma=0.99, gae_lambda=0.95)
    wanted = advantages.generalized_advantages(**rollout, gamma=0.99, gae_lambda=0.95)
    defined = reference.generalized_advantages(**rollout, gamma=0.99, gae_lambda=0.95)
    for one, same, definition in zip(found, wanted, defined, strict=True):
        assert cuda.to_host(one).tobytes() == same.tobytes() == definition.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (50, 3), (7, 200)])
def test_returns_have_the_bits_of_the_cpu(device: str, shape: tuple[int, int]) -> None:
    rollout = a_rollout(*shape)
    del rollout["values"]
    there: dict[str, Any] = {name: cuda.to_device(array) for name, array in rollout.items()}
    found = cuda.to_host(cuda.discounted_returns(**there, gamma=0.9))
    assert found.tobytes() == advantages.discounted_returns(**rollout, gamma=0.9).tobytes()


def test_results_go_where_the_caller_wants_them(emulation: object) -> None:
    there: dict[str, Any] = {name: cuda.to_device(array) for name, array in a_rollout(3, 2).items()}
    out = cuda.to_device(np.zeros((3, 2), np.float32)), cuda.to_device(np.zeros((3, 2), np.float32))
    first, second = cuda.generalized_advantages(**there, gamma=1.0, gae_lambda=1.0, out=out)
    assert first is out[0]
    assert second is out[1]
    with pytest.raises(ValueError, match="out: must not share memory with out"):
        cuda.generalized_advantages(**there, gamma=1.0, gae_lambda=1.0, out=(out[0], out[0]))


@pytest.mark.parametrize("name", NAMES)
def test_each_argument_is_checked_by_name(emulation: object, name: str) -> None:
    there: dict[str, Any] = {key: cuda.to_device(array) for key, array in a_rollout(3, 2).items()}
    there[name] = cuda.to_device(np.zeros((3, 2, 1), dtype=there[name].dtype))
    with pytest.raises(ValueError, match=rf"{name}: must be .*has shape \[3, 2, 1\]"):
        cuda.generalized_advantages(**there, gamma=1.0, gae_lambda=1.0)


@pytest.mark.parametrize("factor", [-0.1, 1.1, float("nan")])
def test_factors_out_of_range_are_refused(emulation: object, factor: float) -> None:
    there: dict[str, Any] = {name: cuda.to_device(array) for name, array in a_rollout(3, 2).items()}
    with pytest.raises(ValueError, match="gamma: must be from 0 to 1"):
        cuda.generalized_advantages(**there, gamma=factor, gae_lambda=1.0)
    with pytest.raises(ValueError, match="gae_lambda: must be from 0 to 1"):
        cuda.generalized_advantages(**there, gamma=1.0, gae_lambda=factor)
