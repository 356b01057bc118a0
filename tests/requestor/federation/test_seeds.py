"""Seeds: the same on every machine and for ever, one stream for each purpose and client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.federation.seeds import SEED_BOUND, derive_seed, held_out_seeds


# printf 'derl\x1f0\x1fclient\x1f0\x1f0' | sha256sum, first 16 hex digits modulo 2^31 - 1
@pytest.mark.parametrize(
    ("run_seed", "purpose", "indices", "expected"),
    [
        (0, "client", (0, 0), 0x3510A870DA684948 % 2147483647),
        (7, "client", (3, 12), 1246749596),
        (0, "model", (), 644710837),
        (123, "evaluation", (0,), 589157941),
    ],
)
def test_a_seed_never_changes(
    run_seed: int, purpose: str, indices: tuple[int, ...], expected: int
) -> None:
    assert derive_seed(run_seed, purpose, *indices) == expected


@given(st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=4))
def test_a_seed_is_one_that_every_library_takes(
    run_seed: int, purpose: str, indices: list[int]
) -> None:
    assert 0 <= derive_seed(run_seed, purpose, *indices) < SEED_BOUND == 2**31 - 1


def test_neighbours_do_not_share_a_stream() -> None:
    # with `seed + round + client` these 2 x 40 x 40 seeds would be 81 different ones
    seeds = {
        derive_seed(run_seed, "client", round_index, client)
        for run_seed in (0, 1)
        for round_index in range(40)
        for client in range(40)
    }
    assert len(seeds) == 2 * 40 * 40
    assert derive_seed(0, "client", 1, 11) != derive_seed(0, "client", 11, 1)


@given(st.integers(0, 1000), st.integers(1, 300))
def test_held_out_episodes_all_differ(run_seed: int, episodes: int) -> None:
    seeds = held_out_seeds(run_seed, "evaluation", episodes)
    assert len(seeds) == len(set(seeds)) == episodes


@given(st.integers(0, 1000), st.integers(1, 100), st.integers(1, 100))
def test_fewer_episodes_are_the_first_of_more(run_seed: int, few: int, more: int) -> None:
    seeds = held_out_seeds(run_seed, "evaluation", few + more)
    assert held_out_seeds(run_seed, "evaluation", few) == seeds[:few]


def test_purposes_have_episodes_of_their_own() -> None:
    judged = set(held_out_seeds(0, "evaluation", 1000))
    confirmed = set(held_out_seeds(0, "final evaluation", 1000))
    trained = {derive_seed(0, "client", r, c) for r in range(50) for c in range(20)}
    assert not judged & confirmed
    assert not (judged | confirmed) & trained
