"""Weights to start from: orthogonal, with SB3's gains, and of the right distribution."""

from collections.abc import Callable
from math import prod, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3 import PPO

from native_kernels.ppo import PolicyShape, Ppo, orthogonal_parameters


def tensors(shape: PolicyShape, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    ends = np.cumsum([prod(s) for s in shape.tensors.values()])
    pieces = np.split(flat, ends[:-1])
    return {n: p.reshape(s) for (n, s), p in zip(shape.tensors.items(), pieces, strict=True)}


def test_matrices_are_orthogonal_with_the_gains_of_stable_baselines3(shape: PolicyShape) -> None:
    for name, tensor in tensors(shape, orthogonal_parameters(shape, 3, -0.5)).items():
        if name == "log_std":
            np.testing.assert_array_equal(tensor, -0.5)
            continue
        if tensor.ndim == 1:
            np.testing.assert_array_equal(tensor, 0.0)
            continue
        gain = {"action_net.weight": 0.01, "value_net.weight": 1.0}.get(name, sqrt(2.0))
        matrix = tensor.astype(np.float64) / gain
        product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(product, np.eye(len(product)), atol=2e-7)


def test_a_new_policy_of_stable_baselines3_has_tensors_of_the_same_norms(
    shape: PolicyShape, make_peer: Callable[..., PPO]
) -> None:
    theirs = make_peer(shape, fresh=True).policy.state_dict()
    for name, ours in tensors(shape, orthogonal_parameters(shape, 0)).items():
        norm = float(theirs[name].norm())
        assert np.linalg.norm(ours) == pytest.approx(norm, rel=1e-5), name


def test_every_direction_is_as_likely_as_any_other() -> None:
    # a column of a random orthogonal matrix lies evenly on the sphere: of d = 8 entries each has
    # mean 0, mean square 1/d and mean fourth power 3 / (d (d + 2))
    size, draws = 8, 2000
    shape = PolicyShape(size, 2, pi=(size,), vf=())
    drawn = np.array([orthogonal_parameters(shape, s)[: size * size] for s in range(draws)])
    entries = drawn.reshape(draws, size, size) / np.sqrt(2.0)
    noise = 5.0 / np.sqrt(draws)
    np.testing.assert_allclose(entries.mean(axis=0), 0.0, atol=noise / np.sqrt(size))
    np.testing.assert_allclose((entries**2).mean(axis=0), 1 / size, atol=noise * 0.16)
    fourth = 3 / (size * (size + 2))
    assert (entries**4).mean() == pytest.approx(fourth, rel=0.03)
    assert np.linalg.det(entries.astype(np.float64)).mean() == pytest.approx(0.0, abs=noise)


def test_seeds_and_tensors_differ() -> None:
    shape = PolicyShape(16, 2, pi=(16, 16), vf=(16, 16))
    first = tensors(shape, orthogonal_parameters(shape, 1))
    matrices = [t for t in first.values() if t.shape == (16, 16)]
    assert len({m.tobytes() for m in matrices}) == 4
    other = tensors(shape, orthogonal_parameters(shape, 1 << 40))
    assert all((first[n] != other[n]).any() for n in first if n.endswith("weight"))


def test_they_make_a_policy() -> None:
    shape = PolicyShape(4, 2)
    weights = orthogonal_parameters(shape, 0)
    np.testing.assert_array_equal(Ppo(shape, weights).parameters, weights)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_beyond_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed: must be from 0"):
        orthogonal_parameters(PolicyShape(4, 2), seed)
