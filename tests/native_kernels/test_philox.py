"""The random numbers: published answers, the same at every level, and their distributions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native


def column(*words: int) -> NDArray[np.uint32]:
    return np.array(words, np.uint32)[:, np.newaxis]


# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, answer
KNOWN = [
    ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
@pytest.mark.usefixtures("level")
def test_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    drawn = _native.philox.words(column(*counter), key[0] | key[1] << 32)
    np.testing.assert_array_equal(drawn, column(*answer))


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Salmon et al. 2011, figure 4 and section 5.1, in whole numbers."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            second >> 32 ^ counter[1] ^ key[0],
            second & 0xFFFFFFFF,
            first >> 32 ^ counter[3] ^ key[1],
            first & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 200])
@pytest.mark.usefixtures("level")
def test_every_lane_computes_its_own_counter(count: int) -> None:
    random = np.random.default_rng(count)
    counters = random.integers(0, 2**32, (4, count), dtype=np.uint32)
    seed = int(random.integers(0, 2**64, dtype=np.uint64))
    expected = [philox(row, [seed & 0xFFFFFFFF, seed >> 32]) for row in counters.T.tolist()]
    np.testing.assert_array_equal(
        _native.philox.words(counters, seed), np.array(expected, np.uint32).reshape(count, 4).T
    )


def many_words() -> NDArray[np.uint32]:
    counters = np.zeros((4, 500_000), np.uint32)
    counters[0] = np.arange(counters.shape[1])
    counters[3] = 2
    return _native.philox.words(counters, 20261120)


@pytest.mark.usefixtures("level")
def test_uniform_numbers_are_the_upper_24_bits() -> None:
    words = many_words()[:, :10_000]
    words[0, 0], words[0, 1] = 0, 0xFFFFFFFF
    numbers = _native.philox.uniforms(np.ascontiguousarray(words))
    np.testing.assert_array_equal(numbers, (words >> 8).astype(np.float64) * 2.0**-24)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0


@pytest.mark.usefixtures("level")
def test_normal_numbers_are_those_of_box_and_muller() -> None:
    words = many_words()[:, :100_000]
    words[0, :2] = 0, 0xFFFFFFFF  # the ends: the radius is neither infinite nor absent
    words[1, :2] = 0, 0xFFFFFFFF
    numbers = _native.philox.normals(np.ascontiguousarray(words))
    first, second = words[[0, 2]].astype(np.float64), words[[1, 3]].astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((np.floor(first / 512) + 0.5) * 2.0**-23))
    angle = 2.0 * np.pi * np.floor(second / 256) * 2.0**-24
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(4, -1)
    # 5.8 is the largest radius, 1.2e-7 the error of sine and cosine, 3e-7 that of float32 angles
    np.testing.assert_allclose(numbers, expected, rtol=0, atol=3e-6)
    assert np.isfinite(numbers).all()


def test_normal_numbers_have_the_moments_and_the_distribution_of_the_normal_law() -> None:
    numbers = _native.philox.normals(many_words()).astype(np.float64)
    count = numbers.size
    flat = numbers.ravel()
    # six standard errors of each moment's estimate
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        estimate = float(np.mean(flat**power))
        assert abs(estimate - moment) < 6 * np.sqrt(variance / count), (power, estimate)
    products = numbers @ numbers.T / numbers.shape[1]
    assert np.abs(products[~np.eye(4, dtype=bool)]).max() < 6 / np.sqrt(numbers.shape[1])
    # Kolmogorov and Smirnov: P(sqrt(n) D > 2.4) is 2e-5
    grid = np.linspace(-4, 4, 81)
    below = np.searchsorted(np.sort(flat), grid, side="right") / count
    assert np.abs(below - normal_distribution(grid)).max() * np.sqrt(count) < 2.4


def normal_distribution(x: NDArray[np.float64]) -> NDArray[np.float64]:
    from math import erf, sqrt

    return np.array([0.5 * (1 + erf(value / sqrt(2))) for value in x])


def test_uniform_numbers_fill_their_cells_evenly() -> None:
    numbers = _native.philox.uniforms(many_words())
    cells = np.bincount((numbers * 1000).astype(np.int64).ravel(), minlength=1000)
    expected = numbers.size / 1000
    chi_squared = float(((cells - expected) ** 2 / expected).sum())
    # 999 degrees of freedom: mean 999, standard deviation 44.7
    assert abs(chi_squared - 999) < 5 * 44.7


def test_all_levels_draw_the_same_bits(levels: list[str], level: str) -> None:
    def drawn() -> tuple[bytes, bytes]:
        words = many_words()
        return words.tobytes(), _native.philox.normals(words).tobytes()

    here = drawn()
    _native.levels.force(levels[-1])
    assert drawn() == here, level


def test_other_arrays_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"counters: must be uint32\[4, N\], is int32"):
        _native.philox.words(np.zeros((4, 3), np.int32), 0)
    with pytest.raises(ValueError, match=r"words: must be uint32\[4, N\], has shape \[3, 4\]"):
        _native.philox.normals(np.zeros((3, 4), np.uint32))
