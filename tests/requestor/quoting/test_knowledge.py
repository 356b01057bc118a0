"""Where paces come from, and who would be rented by them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

import pytest

from requestor.marketplace.choice.choosing import Work
from requestor.marketplace.choice.history import Evidence, Fault, Record, Start, Who
from requestor.marketplace.choice.selection import Offered
from requestor.marketplace.money.spending import Prices
from requestor.quoting.knowledge import FAR_START, NEAR_START, Knowledge, LocalPace, rank

KIND = "ppo CartPole-v1 0a1b2c3d"
NOW = 1e9
DAY = 24 * 3600.0


def offered(node: str, hour: str = "0.1") -> Offered:
    return Offered(Who(node, f"Node {node}"), Prices(Decimal(0), Decimal(0), Decimal(hour)))


def record(steps: float, seconds: float, cpu: float = 0.0, start: Start | None = None) -> Record:
    evidence = Evidence(steps, seconds, cpu, seconds if cpu else 0.0, NOW)
    return Record("x", speeds={KIND: evidence}, start=start)


def knowledge(
    records: Mapping[str, Record] = MappingProxyType({}),
    *,
    here: LocalPace | None = None,
    measured: frozenset[str] = frozenset(),
    is_near: bool = True,
) -> Knowledge:
    by_node = {f"0x{name}": one for name, one in records.items()}
    return Knowledge(KIND, 4096, by_node, NOW, is_near, measured, here)


def test_a_record_tells_the_pace_of_useful_work() -> None:
    known = knowledge({"a": record(40_960, 20, 10, Start(2.5, 1.5))})
    one = known.assume(offered("0xa"))
    assert one is not None
    # 2048 steps a second: 2 s for 4096, half of it on the CPU
    assert one.worker.order_seconds == pytest.approx(2.0)
    assert one.worker.order_cpu_seconds == pytest.approx(1.0)
    assert (one.worker.start_seconds, one.worker.start_cpu_seconds) == (2.5, 1.5)
    assert (one.source, one.evidence_seconds) == ("recorded", 20)
    measured = knowledge({"a": record(40_960, 20)}, measured=frozenset({"0xa"})).assume(
        offered("0xa")
    )
    assert measured is not None
    assert measured.source == "measured"


def test_strangers_are_taken_for_typical() -> None:
    records = {name: record(4096 * speed, 1) for name, speed in zip("abc", (1, 2, 9), strict=True)}
    one = knowledge(records).assume(offered("0xf"))
    assert one is not None
    assert one.worker.order_seconds == pytest.approx(0.5)
    assert one.source == "typical"


def test_where_nobody_is_known_this_machine_is_the_measure() -> None:
    assert knowledge().assume(offered("0xa")) is None
    one = knowledge(here=LocalPace(4.0, 3.0)).assume(offered("0xa"))
    assert one is not None
    assert (one.worker.order_seconds, one.worker.order_cpu_seconds) == (4.0, 3.0)
    assert one.source == "this machine"


@pytest.mark.parametrize(
    ("is_near", "seconds"),
    [
        (True, 2.0),
        (False, 2 / 1.1),  # the median of two paces is their mean
    ],
)
def test_of_few_providers_this_machine_is_one_more(is_near: bool, seconds: float) -> None:
    # 1 and 10 s an order are known, and 2 s of this machine
    two = {"a": record(4096, 1), "b": record(4096, 10)}
    known = knowledge(two, here=LocalPace(2.0, 2.0), is_near=is_near)
    one = known.assume(offered("0xf"))
    assert one is not None
    assert one.worker.order_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("useless", [record(0, 100), record(100, 0.4)])
def test_a_record_without_results_tells_nothing(useless: Record) -> None:
    known = knowledge({"a": useless, "b": record(4096, 1)})
    one = known.assume(offered("0xa"))
    assert one is not None
    assert one.source == "typical"


def test_a_start_is_as_it_usually_is() -> None:
    starts = {name: record(1, 1, start=Start(float(n), n / 2)) for n, name in enumerate("abc", 1)}
    assert knowledge(starts).typical_start == Start(2.0, 1.0)
    assert knowledge().typical_start == NEAR_START
    assert knowledge(is_near=False).typical_start == FAR_START
    cpu_unknown = knowledge({"a": record(1, 1, start=Start(9.0))})
    assert cpu_unknown.typical_start == Start(9.0, NEAR_START.cpu_seconds)


def test_old_records_fade_and_still_tell_the_pace() -> None:
    old = Evidence(4096 * 40, 40, at_seconds=NOW - 14 * DAY)
    one = knowledge({"a": Record("x", speeds={KIND: old})}).assume(offered("0xa"))
    assert one is not None
    assert one.worker.order_seconds == pytest.approx(1.0)
    assert one.evidence_seconds == pytest.approx(10.0)


def test_whoever_failed_of_late_comes_last_with_all_of_its_wallet() -> None:
    failed = Record("x", wallet="0xw", faults={"bad_result": Fault(2.0, NOW)})
    known = knowledge({"a": failed, "b": record(4096, 1)})
    mate = Offered(Who("0xd", "new", "0xw"), Prices())
    offers = [Offered(Who("0xa", "bad", "0xw"), Prices()), mate, offered("0xb", "9")]
    ranked = [one.who.node_id for one in rank(offers, known, "steps_per_glm", Work())]
    assert ranked == ["0xb", "0xa", "0xd"]
    assert not known.is_doubtful(Who("0xd", "new", "0xv"))


def test_the_rank_is_that_of_a_run() -> None:
    known = knowledge({"a": record(1_000_000, 1000), "b": record(4_000_000, 1000)})
    offers = [offered("0xa", "0.1"), offered("0xb", "0.2"), offered("0xc", "0.05")]
    work = Work(KIND, 10**7, 2)
    ranked = [one.who.node_id for one in rank(offers, known, "steps_per_glm", work)]
    # per GLM and hour: a 1000 / 0.1, b 4000 / 0.2, c (the typical 2500 and hope: 2750) / 0.05
    assert ranked == ["0xc", "0xb", "0xa"]
    assert [one.who.node_id for one in rank(offers, known, "cheapest", work)] == [
        "0xc",
        "0xa",
        "0xb",
    ]
