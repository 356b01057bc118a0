"""The range of a quote, what it assumes, and how it is held against what came of it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.errors import UsageError
from requestor.marketplace.money.spending import Prices
from requestor.quoting.assumptions import assumptions
from requestor.quoting.quote import Assumed, Setting, Source, least_glm, make_quote
from requestor.quoting.record import (
    Figure,
    StoredQuote,
    find_quote,
    outcome_of,
    read_quote,
    stored,
    write_quote,
)
from requestor.quoting.simulation import Overheads, Plan, Worker

NOTHING = Overheads(0.0, 0.0, 0.0, 0.0, 0.0)
HOUR = Prices(Decimal(0), Decimal(0), Decimal(3600))
CPU = Prices(Decimal(0), Decimal(3600), Decimal(0))


def assumed(
    name: str = "a",
    order_seconds: float = 1.0,
    source: Source = "recorded",
    *,
    seconds: float = 100.0,
    **changes: Any,
) -> Assumed:
    usual: dict[str, Any] = {
        "voice": name,
        "prices": HOUR,
        "order_cpu_seconds": 0.0,
        "start_seconds": 0.0,
        "start_cpu_seconds": 0.0,
    }
    return Assumed(
        Worker(name=name, order_seconds=order_seconds, **{**usual, **changes}), source, seconds
    )


def quote(*providers: Assumed, rounds: int = 2, clients: int = 4, **setting: Any) -> StoredQuote:
    plan = Plan(rounds, clients, len(providers))
    made = make_quote(Setting(plan, setting.pop("overheads", NOTHING), **setting), providers)
    return stored(made, "ppo x", 1e9, ())


# --- the range ---------------------------------------------------------------------------------


def test_the_range_by_hand() -> None:
    # 2 rounds of 4 orders of 1 s at 1 GLM a second: 8 s and 8 GLM
    found = quote(assumed())
    assert found.glm.expected == pytest.approx(8)
    assert found.wall_seconds.expected == pytest.approx(8)
    # a record of 100 s may be off by 10 %: 8 / 1.1 and 8 * 1.1; one failure more is one order
    # more of money and time
    assert found.glm.low == pytest.approx(8 / 1.1, rel=1e-6)
    assert found.wall_seconds.low == pytest.approx(8 / 1.1, rel=1e-6)
    assert found.glm.high == pytest.approx(8.8 + 1, rel=1e-6)
    assert found.wall_seconds.high == pytest.approx(8.8 + 1, rel=1e-6)
    assert (found.first_glm.expected, found.round_glm.expected) == (4, 4)


@pytest.mark.parametrize(
    ("one", "doubt"),
    [
        (assumed(), 0.10),
        (assumed(seconds=19.0), 0.20),
        (assumed(source="measured", seconds=5.0), 0.15),
        (assumed(source="typical", seconds=0.0), 0.30),
        (assumed(source="this machine", seconds=0.0), 1.0),
    ],
)
def test_the_less_is_known_the_wider_the_range(one: Assumed, doubt: float) -> None:
    assert one.doubt == doubt
    assert quote(one).wall_seconds.low == pytest.approx(8 / (1 + doubt), rel=1e-6)


def test_providers_on_one_machine_share_its_cores() -> None:
    # four that would each keep a core busy, on two cores: everything takes twice as long,
    # and a price for CPU time is as it was: 4 orders of 1 CPU second
    crew = [assumed(n, prices=CPU, order_cpu_seconds=1.0) for n in "abcd"]
    apart = quote(*crew, rounds=1)
    together = quote(*crew, rounds=1, shared_cores=2)
    assert apart.wall_seconds.expected == pytest.approx(1)
    assert together.wall_seconds.expected == pytest.approx(2)
    assert apart.glm.expected == together.glm.expected == pytest.approx(4)
    # half a core each is no more than there is
    half = [assumed(n, order_cpu_seconds=0.5) for n in "abcd"]
    assert quote(*half, rounds=1, shared_cores=2).wall_seconds.expected == pytest.approx(1)


def test_the_least_a_run_can_cost() -> None:
    plan = Setting(Plan(1, 1, 1), NOTHING)
    dear_start = assumed("b", prices=Prices(Decimal(3), Decimal(0), Decimal(0)))
    # an order of 1 s, or of 1 / 1.1 s if all goes well
    assert float(least_glm(plan, [assumed(), dear_start])) == pytest.approx(1 / 1.1)
    assert least_glm(plan, [dear_start]) == 3
    assert least_glm(plan, []) == 0


SECONDS = st.floats(0.05, 20)


@given(
    st.lists(st.tuples(SECONDS, st.sampled_from(["recorded", "typical"])), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_a_range_is_a_range_and_grows_with_the_rounds(
    paces: list[tuple[float, Any]], clients: int, rounds: int, done: int
) -> None:
    crew = [assumed(str(n), seconds, source) for n, (seconds, source) in enumerate(paces)]
    found = quote(*crew, rounds=rounds, clients=clients)
    for figure in (found.glm, found.wall_seconds, found.glm_for(done), found.seconds_for(done)):
        assert 0 <= figure.low <= figure.expected <= figure.high
    assert found.glm_for(rounds).expected == pytest.approx(found.glm.expected, rel=1e-6)
    assert found.seconds_for(done + 1).expected >= found.seconds_for(done).expected
    assert {share.name for share in found.providers} == {one.worker.name for one in crew}


# --- afterwards --------------------------------------------------------------------------------


def kept() -> StoredQuote:
    """A quote for 10 rounds: 2 for the first, 1 for each further one, a tenth up or down."""
    first, each, whole = Figure(1.8, 2, 2.2), Figure(0.9, 1, 1.1), Figure(9, 11, 13)
    return StoredQuote(1, 1e9, "ppo x", 10, first, each, first, each, whole, whole)


def test_a_run_that_ends_early_is_compared_by_the_rounds_it_did() -> None:
    # 5 rounds: 2 + 4 * 1 = 6 were expected
    outcome = outcome_of(kept(), 5, Decimal("5.0"), 8.0)
    assert outcome is not None
    assert outcome.rounds == 5
    assert outcome.glm.error == pytest.approx(0.2)
    assert outcome.wall_seconds.error == pytest.approx(-0.25)
    # 5.4 to 6.6
    assert not outcome.glm.is_within
    within = outcome_of(kept(), 5, Decimal("5.5"), 6.6)
    assert within is not None
    assert within.glm.is_within
    assert outcome_of(kept(), 0, Decimal(1), 1.0) is None
    assert outcome_of(None, 5, Decimal(1), 1.0) is None
    free = outcome_of(kept(), 1, Decimal(0), 1.0)
    assert free is not None
    assert free.glm.error is None


def test_a_quote_is_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "quote.json"
    assert find_quote(path) is None
    made = quote(assumed("oak"))
    write_quote(path, made)
    assert read_quote(path) == made
    document = json.loads(path.read_text())
    assert document["providers"][0]["name"] == "oak"
    assert document["providers"][0]["source"] == "recorded"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"rounds": 0},
        {"round_glm": {"low": -1, "expected": 1, "high": 1}},
        {"round_glm": {"low": 1, "expected": None, "high": 1}},
        {"first_seconds": 7},
    ],
)
def test_what_is_no_quote_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "quote.json"
    write_quote(path, kept())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match="is no quote"):
        read_quote(path)
    assert find_quote(path) is None


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"x" * ((1 << 20) + 1)])
def test_any_file_may_be_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "quote.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no quote"):
        read_quote(path)


# --- assumptions -------------------------------------------------------------------------------


def test_everything_assumed_is_said() -> None:
    crew = [
        assumed("a", start_seconds=1.0),
        assumed("b", source="typical", start_seconds=3.0),
        assumed("c", start_seconds=2.0),
    ]
    overheads = Overheads(1.0, 0.1, 2.5, 0.0, 0.0)
    said = assumptions(Plan(9, 8, 4, judged_every=3), overheads, crew, shared_cores=2, target=475)
    assert said == (
        "speeds: 2 as in earlier runs (give or take 10 %), 1 as providers usually have "
        "(give or take 30 %)",
        "a provider is ready 1.0 to 3.0 s after its agreement, and paid for that",
        "providers wait, at their price for an hour, while a model is judged here "
        "(2.5 s, every 3 rounds) and between rounds (0.1 s)",
        "all 9 rounds are done; reaching a return of 475 earlier makes it cheaper, and when that "
        "is nobody can tell",
        "all providers share the 2 cores of this machine",
        "only 3 of 4 providers can be had; the others never come",
        "the upper figures have one provider in 4 fail once",
    )
    alone = assumptions(Plan(1, 8, 1), overheads, crew[:1], shared_cores=None, target=None)
    assert "the round is done" in alone
    assert not any("cores" in sentence for sentence in alone)
