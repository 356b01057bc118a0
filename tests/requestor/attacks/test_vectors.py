"""Made-up updates: values worked out by hand, and byzfl 0.0.11's where it has the attack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from requestor.attacks import vectors
from requestor.attacks.catalogue import ATTACKS, find_attack
from requestor.attacks.vectors import View

RECORDED = json.loads((Path(__file__).parent / "byzfl_0_0_11.json").read_text())


def view(own: list[float], seen: list[list[float]] | None = None) -> View:
    rows = np.array(seen or [own], dtype=np.float32)
    return View(
        own=np.array(own, dtype=np.float32),
        seen=rows,
        last=np.array([0.5] * len(own), dtype=np.float32),
        clients=5,
        liars=2,
        item=0,
        seed=11,
        round_seed=7,
    )


def test_a_flipped_update_goes_back_two_and_a_half_times() -> None:
    assert vectors.sign_flip(view([2.0, -4.0])).tolist() == [-5.0, 10.0]


def test_a_scaled_update_is_ten_times_as_long() -> None:
    assert vectors.scaling(view([2.0, -4.0])).tolist() == [20.0, -40.0]


def test_free_riders_send_nothing_or_the_last_step() -> None:
    assert vectors.zero(view([2.0, -4.0])).tolist() == [0.0, 0.0]
    assert vectors.echo(view([2.0, -4.0])).tolist() == [0.5, 0.5]


def test_avg_zero_makes_the_mean_of_all_zero() -> None:
    honest = [[1.0, 2.0], [3.0, -6.0], [2.0, 1.0]]
    # the sum is (6, -3), shared by two liars
    lie = vectors.avg_zero(view([0.0, 0.0], honest))
    assert lie.tolist() == [-3.0, 1.5]
    assert np.array([*honest, lie, lie]).mean(axis=0).tolist() == [0.0, 0.0]


def test_avg_zero_of_some_takes_their_mean_for_that_of_all() -> None:
    # mean (2, -2) of two seen; three honest ones, two liars: -3/2 of it
    assert vectors.avg_zero(view([0.0, 0.0], [[1.0, 2.0], [3.0, -6.0]])).tolist() == [-3.0, 3.0]


def test_alie_lies_one_and_a_half_deviations_off() -> None:
    # means (2, 0), sample deviations (1, 2)
    lie = vectors.alie(view([0.0, 0.0], [[1.0, -2.0], [2.0, 0.0], [3.0, 2.0]]))
    assert lie == pytest.approx([0.5, -3.0])


def test_alie_of_a_single_update_is_that_update() -> None:
    assert vectors.alie(view([1.0, -2.0])).tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("clients", "liars", "expected"),
    [
        # s = 25 - 11 = 14 of 38 honest: the quantile of 24/38, 0.336 in a table of the normal
        (49, 11, 0.336),
        # s = 7 - 3 = 4 of 10: the quantile of 0.6
        (13, 3, 0.2533),
    ],
)
def test_the_bound_of_alie(clients: int, liars: int, expected: float) -> None:
    assert vectors.alie_bound(clients, liars) == pytest.approx(expected, abs=1e-3)


def test_the_bound_of_alie_needs_a_minority() -> None:
    with pytest.raises(ValueError, match="7 of 13"):
        vectors.alie_bound(13, 7)


def test_mimic_copies_the_first() -> None:
    assert vectors.mimic(view([0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]])).tolist() == [1.0, 2.0]


def test_ipm_is_half_the_mean_turned_round() -> None:
    assert vectors.ipm(view([0.0, 0.0], [[1.0, 2.0], [3.0, -6.0]])).tolist() == [-1.0, 1.0]


def test_just_outside_is_one_and_a_half_diameters_from_the_mean() -> None:
    honest = [[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]
    one = vectors.just_outside(view([0.0, 0.0], honest))
    # the diameter is 5, the mean (1, 8/3)
    assert np.linalg.norm(one - np.array([1.0, 8 / 3])) == pytest.approx(7.5, rel=1e-6)
    other = vectors.just_outside(replace(view([9.0, 9.0], honest), seed=5))
    assert one.tolist() == other.tolist()  # colluders go the same way


def test_normalized_has_the_usual_length_and_the_opposite_direction() -> None:
    lie = vectors.normalized(view([0.0, 0.0], [[3.0, 4.0], [6.0, 8.0], [30.0, 40.0]]))
    assert lie == pytest.approx([-6.0, -8.0])


def test_sybils_send_the_same() -> None:
    assert vectors.sybil(view([0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]])).tolist() == [-5.0, -7.5]


@pytest.mark.parametrize("lie", [vectors.noise, vectors.large_noise])
def test_noise_is_another_for_each_receiver(lie: vectors.Lie) -> None:
    own = view([float(n % 7) for n in range(1000)])
    one, again, other = lie(own), lie(own), lie(replace(own, seed=12))
    assert one.tolist() == again.tolist()
    assert not np.array_equal(one, other)


def test_the_sizes_of_noise() -> None:
    own = view([float(n % 7) for n in range(1000)])
    # the range of the numbers is 6, so the noise is up to 18
    assert 17.5 < np.abs(vectors.noise(own) - own.own).max() <= 18.0
    assert 990.0 < np.abs(vectors.large_noise(own)).max() <= 1000.0


@pytest.mark.parametrize("case", RECORDED["cases"])
def test_byzfl_says_the_same(case: dict[str, list[list[float]]]) -> None:
    seen = np.array(case["honest"], dtype=np.float32)
    mean = seen.astype(np.float64).mean(axis=0)
    given = view(seen[0].tolist(), case["honest"])
    assert vectors.mimic(given) == pytest.approx(case["mimic"], rel=1e-6)
    assert vectors.ipm(given) == pytest.approx(case["ipm"], rel=1e-6)
    # its ALIE goes up from the mean, ours down
    assert vectors.alie(given) == pytest.approx(2 * mean - np.array(case["alie"]), rel=1e-5)
    # its sign flip is of the mean and keeps the size
    of_mean = replace(given, own=mean.astype(np.float32))
    assert vectors.sign_flip(of_mean, -1.0) == pytest.approx(case["sign_flip"], rel=1e-5)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_every_attack_is_described_and_does_something(attack: object) -> None:
    known = find_attack(getattr(attack, "name", ""))
    assert known is attack
    assert known.summary
    assert known.source
    acts = (known.update, known.wrapper, known.counts)
    assert any(acts) or known.replays or known.fails or known.steps_share < 1.0


def test_an_unknown_attack_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="sign_flip"):
        find_attack("sign-flip")
