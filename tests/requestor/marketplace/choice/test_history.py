"""What is remembered of providers: failures that fade, speeds, across runs and processes."""

from __future__ import annotations

import json
import math
import re
import threading
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.choice import failures
from requestor.marketplace.choice.failures import RULES, FailureKind, known_kind
from requestor.marketplace.choice.history import (
    MAX_KINDS,
    MAX_PROVIDERS,
    SUSPICION_SECONDS,
    Evidence,
    Fault,
    ProviderHistory,
    Record,
    Start,
    Suspicions,
    Who,
)

HOUR = 3600.0
DAY = 24 * HOUR
WILLOW = Who("0xa", "willow")


class Clock:
    """Unix time under the test's control."""

    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "providers.json"


@pytest.fixture
def history(path: Path, clock: Clock) -> ProviderHistory:
    return ProviderHistory(path, clock)


def test_nobody_is_known_at_first(history: ProviderHistory) -> None:
    assert history.records() == {}
    assert history.avoided() == frozenset()


def test_the_table_in_the_docstring_is_the_rules() -> None:
    row = r"^\| (\w+) +\|[^|]+\| ([\d.]+) +\| (\d+) h +\| ([\d.]+)"
    table = {
        kind: (float(weight), float(hours), float(share))
        for kind, weight, hours, share in re.findall(row, failures.__doc__ or "", re.M)
    }
    assert table == {
        kind: (rule.weight, rule.half_life_hours, rule.share) for kind, rule in RULES.items()
    }
    assert set(RULES) == set(get_args(FailureKind))


def test_one_failure_is_forgotten_within_hours(history: ProviderHistory, clock: Clock) -> None:
    history.failed(WILLOW, "vanished", "it broke")
    # 0.5 ** (t / 24 h) = 0.9 at t = 24 h * log2(1 / 0.9) = 3 h 39 min
    forgotten = DAY * math.log2(1 / 0.9)
    clock.seconds += forgotten - 1
    assert history.avoided() == {"0xa"}
    clock.seconds += 2
    assert history.avoided() == frozenset()


@pytest.mark.parametrize(
    ("kind", "avoided_hours"),
    [
        # hours * log2(weight / 0.9)
        ("no_activity", 6 * math.log2(1 / 0.9)),
        ("bad_result", 168 * math.log2(2 / 0.9)),
        ("note_flood", 72 * math.log2(1 / 0.9)),
    ],
)
def test_each_kind_fades_at_its_own_pace(
    history: ProviderHistory, clock: Clock, kind: FailureKind, avoided_hours: float
) -> None:
    history.failed(WILLOW, kind, "it broke")
    clock.seconds += avoided_hours * HOUR - 1
    assert history.avoided() == {"0xa"}
    clock.seconds += 2
    assert history.avoided() == frozenset()


def test_failures_add_up_after_their_decay(history: ProviderHistory, clock: Clock) -> None:
    history.failed(WILLOW, "vanished", "first")
    clock.seconds += DAY
    history.failed(WILLOW, "vanished", "second")
    clock.seconds += DAY
    record = history.records()["0xa"]
    assert record.faults["vanished"].weight == pytest.approx(1.5)
    assert record.weight(clock.seconds) == pytest.approx(0.75)
    history.failed(WILLOW, "bad_result", "third")
    assert history.records()["0xa"].weight(clock.seconds) == pytest.approx(2.75)
    assert history.records()["0xa"].last_reason == "third"


def test_success_erases_no_failure(history: ProviderHistory) -> None:
    history.failed(WILLOW, "vanished", "it broke")
    history.worked(WILLOW, orders=40)
    history.worked(Who("0xa", "willow 2"), orders=2)
    assert history.records()["0xa"] == Record(
        "willow 2", 42, 1e9, "it broke", faults={"vanished": Fault(1.0, 1e9)}
    )
    assert history.avoided() == {"0xa"}


@given(st.sampled_from(list(RULES)), st.floats(0, 1e6), st.floats(0, 1e9))
def test_decay_halves_in_a_half_life_and_never_grows(
    kind: FailureKind, weight: float, later: float
) -> None:
    rule = RULES[kind]
    assert rule.left(weight, 0) == weight
    assert rule.left(weight, -later) == weight
    assert rule.left(weight, rule.half_life_hours * HOUR) == pytest.approx(weight / 2)
    assert rule.left(weight, later) <= weight


def test_a_kind_of_another_version_has_no_name() -> None:
    assert known_kind("bad_result") == "bad_result"
    assert known_kind("bad_manners") == "other"


# --- wallets -----------------------------------------------------------------------------------


def weights_of(history: ProviderHistory) -> dict[str, float]:
    """What weighs on each node that is known."""
    weights = history.weights()
    return {node: weights.on(Who(node, one.name)) for node, one in history.records().items()}


def test_a_wallet_shares_what_its_nodes_have_done(history: ProviderHistory) -> None:
    for node in ("0x1", "0x2"):
        history.worked(Who(node, node, "0xw"), orders=1)
    history.worked(Who("0x3", "0x3", "0xother"), orders=1)
    history.failed(Who("0x1", "0x1", "0xw"), "bad_result", "not finite")
    history.failed(Who("0x1", "0x1", "0xw"), "vanished", "gone")
    history.failed(Who("0x2", "0x2", "0xw"), "slow", "too slow")
    # 0x1 bears 2 + 1 of its own, and nothing of 0x2's slowness; 0x2 bears 1 of its own, and of
    # all of the bad result and half of the loss, 2.5, the most that is shared, 1.5
    assert weights_of(history) == {"0x1": 3.0, "0x2": 2.5, "0x3": 0.0}
    # nodes that were never seen, paid to the same wallets
    unknown = [Who("0x4", "d", wallet) for wallet in ("0xw", "0xother", None)]
    assert [history.weights().on(who) for who in unknown] == [1.5, 0.0, 0.0]
    assert history.avoided() == {"0x1", "0x2"}


def test_nodes_without_a_wallet_share_nothing(history: ProviderHistory) -> None:
    history.worked(Who("0x1", "a"), orders=1)
    history.failed(Who("0x2", "b"), "bad_result", "not finite")
    assert weights_of(history) == {"0x1": 0.0, "0x2": 2.0}


def test_a_wallet_once_known_is_kept(history: ProviderHistory) -> None:
    history.worked(Who("0x1", "a", "0xw"), orders=1)
    history.worked(Who("0x1", "a"), orders=1)
    assert history.records()["0x1"].wallet == "0xw"


# --- speed -------------------------------------------------------------------------------------


def test_speeds_are_kept_by_kind_of_work_and_fade(history: ProviderHistory, clock: Clock) -> None:
    history.worked(WILLOW, speeds={"ppo": Evidence(1000, 10, 5, 10, clock.seconds)})
    clock.seconds += 7 * DAY
    history.worked(
        WILLOW,
        speeds={"ppo": Evidence(300, 1, 0, 0, clock.seconds), "sac": Evidence(7, 1)},
        start=Start(2.5, 1.25),
    )
    record = history.records()["0xa"]
    assert record.speeds["ppo"] == Evidence(800, 6, 2.5, 5, clock.seconds)
    assert record.start == Start(2.5, 1.25)
    history.worked(WILLOW, orders=1)
    assert history.records()["0xa"].start == Start(2.5, 1.25)


def test_of_too_many_kinds_of_work_the_newest_stay(history: ProviderHistory) -> None:
    for number in range(MAX_KINDS + 3):
        history.worked(WILLOW, speeds={f"k{number}": Evidence(1, 1, at_seconds=float(number))})
    assert set(history.records()["0xa"].speeds) == {f"k{n}" for n in range(3, MAX_KINDS + 3)}


# --- the file ----------------------------------------------------------------------------------


def test_files_of_older_versions_are_read(
    history: ProviderHistory, path: Path, clock: Clock
) -> None:
    path.parent.mkdir()
    old = {
        "name": "oak",
        "failures": 1.0,
        "successes": 12,
        "at_seconds": clock.seconds,
        "last_reason": "it broke",
    }
    path.write_text(json.dumps({"0xa": old}))
    assert history.records()["0xa"].successes == 12
    assert history.avoided() == {"0xa"}
    clock.seconds += DAY
    assert history.records()["0xa"].weight(clock.seconds) == pytest.approx(0.5)
    history.failed(Who("0xa", "oak"), "vanished", "again")
    record = history.records()["0xa"]
    assert record.failures == 0
    assert record.weight(clock.seconds) == pytest.approx(1.5)
    assert record.successes == 12


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"0xa": 5}',
        b'{"0xa": {"successes": 1}}',
        b'{"0xa": {"name": "x", "failures": "many", "successes": 0, "at_seconds": 0,'
        b' "last_reason": ""}}',
        b"[" * 100_000,
    ],
)
def test_an_unreadable_file_is_started_anew(
    history: ProviderHistory, path: Path, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert history.avoided() == frozenset()
    history.failed(Who("0xb", "oak"), "vanished", "it broke")
    assert history.avoided() == {"0xb"}


@pytest.mark.parametrize(
    "damage",
    [
        {"failures": -1.0},
        {"faults": {"vanished": {"weight": -5, "at_seconds": 0}}},
        {"speeds": {"ppo": {"useful_steps": -1}}},
        {"start": {"seconds": -1}},
        {"at_seconds": -1},
    ],
)
def test_a_record_that_cannot_be_is_left_out(
    history: ProviderHistory, path: Path, damage: dict[str, Any]
) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"0xa": {"name": "x", **damage}, "0xb": {"name": "y"}}))
    assert set(history.records()) == {"0xb"}


def test_the_oldest_are_dropped_when_there_are_too_many(
    history: ProviderHistory, path: Path, clock: Clock
) -> None:
    path.parent.mkdir()
    crowd = {f"0x{i}": Record("n", at_seconds=clock.seconds - i) for i in range(MAX_PROVIDERS)}
    path.write_bytes(msgspec.json.encode(crowd))
    history.failed(Who("0xnew", "oak"), "vanished", "it broke")
    records = history.records()
    assert len(records) == MAX_PROVIDERS
    assert "0xnew" in records
    assert crowd.keys() - records.keys() == {f"0x{MAX_PROVIDERS - 1}"}


def test_what_another_run_writes_is_seen(path: Path, clock: Clock) -> None:
    mine, other = ProviderHistory(path, clock), ProviderHistory(path, clock)
    mine.worked(WILLOW, orders=1)
    assert other.records()["0xa"].successes == 1
    mine.worked(WILLOW, orders=1)
    assert other.records()["0xa"].successes == 2


def test_concurrent_runs_lose_nothing(path: Path, clock: Clock) -> None:
    def work() -> None:
        mine = ProviderHistory(path, clock)
        for _ in range(10):
            mine.worked(WILLOW, orders=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ProviderHistory(path, clock).records()["0xa"].successes == 40


# --- suspicions --------------------------------------------------------------------------------


def names(history: ProviderHistory) -> set[str]:
    return {record.name for record in history.records().values()}


def test_suspicions_are_confirmed_when_the_session_ends_well(
    history: ProviderHistory, clock: Clock
) -> None:
    suspicions = Suspicions(history, clock)
    suspicions.add(Who("0x1", "willow", "0xw"), "no_result", "it failed")
    assert names(history) == set()
    suspicions.close(was_daemon_lost=False)
    suspicions.close(was_daemon_lost=False)
    (record,) = history.records().values()
    assert record.faults == {"no_result": Fault(1.0, 1e9)}
    assert record.wallet == "0xw"


def test_what_failed_shortly_before_the_daemon_was_lost_is_forgiven(
    history: ProviderHistory, clock: Clock
) -> None:
    suspicions = Suspicions(history, clock)
    suspicions.add(Who("0x1", "willow"), "vanished", "it failed")
    clock.seconds += SUSPICION_SECONDS - 1
    suspicions.add(Who("0x2", "alder"), "vanished", "cannot connect")
    assert names(history) == set()
    clock.seconds += 1
    suspicions.close(was_daemon_lost=True)
    assert names(history) == {"willow"}


def test_a_later_suspicion_confirms_the_earlier_ones(
    history: ProviderHistory, clock: Clock
) -> None:
    suspicions = Suspicions(history, clock)
    suspicions.add(Who("0x1", "willow"), "vanished", "it failed")
    clock.seconds += SUSPICION_SECONDS
    suspicions.add(Who("0x2", "alder"), "vanished", "it failed")
    assert names(history) == {"willow"}


def test_one_fake_is_a_ban_for_ninety_days_and_its_wallet_is_avoided(
    history: ProviderHistory, clock: Clock
) -> None:
    history.worked(Who("0xb", "hazel", "0xw"), orders=1)
    history.failed(Who("0xa", "willow", "0xw"), "faked_work", "it lied")
    # 6 is above 3 until one half-life of 2160 h is over, and above 0.9 for log2(6 / 0.9) of them
    clock.seconds += 90 * DAY - 1
    weights = weights_of(history)
    assert weights["0xa"] > failures.BAN_ABOVE > weights["0xb"] > failures.AVOID_ABOVE
    clock.seconds += 90 * DAY * (math.log2(6 / 0.9) - 1)
    assert history.avoided() == {"0xa", "0xb"}
    clock.seconds += 2
    assert history.avoided() == frozenset()


def test_liars_that_name_an_honest_ones_wallet_do_not_have_it_banned(
    history: ProviderHistory,
) -> None:
    """An offer may name any address; its node id it cannot choose."""
    owner, paid_there = Who("0x0A", "beech", "0x0a"), Who("0x0b", "alder", "0x0a")
    for who in (owner, paid_there):
        history.worked(who, orders=1)
    for number in range(20):
        history.failed(Who(f"0xbad{number}", "larch", "0x0a"), "faked_work", "it lied")
        history.failed(Who(f"0xbad{number}", "larch", "0x0a"), "bad_result", "it lied")
    weights = weights_of(history)
    assert weights["0x0A"] == 0.0  # its own address
    assert failures.AVOID_ABOVE < weights["0x0b"] < failures.BAN_ABOVE
    unknown = [Who("0x0c", "rowan", "0x0a"), Who("0x0a", "beech", "0x0A")]
    assert [history.weights().on(who) for who in unknown] == [1.5, 0.0]
    # what they did is never what takes a failure of its own over the edge: 2 + 1.5 is above 3
    history.failed(paid_there, "bad_result", "two others contradict it")
    assert weights_of(history)["0x0b"] == failures.BAN_ABOVE
    # it is its own: 4 are above 3, with or without them
    history.failed(paid_there, "bad_result", "two others contradict it")
    assert weights_of(history)["0x0b"] == 4.0


def test_verified_items_are_a_node_s_own_until_its_wallet_is_suspicious(
    history: ProviderHistory,
) -> None:
    willow, hazel = Who("0xa", "willow", "0xw"), Who("0xb", "hazel", "0xw")
    alder = Who("0xc", "alder")
    for who in (willow, willow, hazel, alder):
        history.audited(who)
    assert [history.verified(f"0x{node}") for node in "abcd"] == [2, 1, 1, 0]
    history.failed(hazel, "vanished", "it left")
    assert history.verified("0xb") == 1
    history.failed(hazel, "bad_result", "it lied")
    assert [history.verified(f"0x{node}") for node in "abc"] == [0, 0, 1]


def test_who_names_an_honest_ones_address_as_its_wallet_does_not_wipe_its_record(
    history: ProviderHistory,
) -> None:
    owner, paid_there = Who("0x0A", "beech", "0x0a"), Who("0x0b", "alder", "0x0a")
    for who in (owner, owner, paid_there):
        history.audited(who)
    history.failed(Who("0xbad", "larch", "0x0a"), "faked_work", "it lied")
    assert [history.verified(who.node_id) for who in (owner, paid_there)] == [2, 0]
    history.failed(owner, "bad_result", "not finite")
    assert history.verified("0x0A") == 0
