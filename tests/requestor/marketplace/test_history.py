"""Providers that failed are avoided for some hours, across runs and concurrent processes."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.history import (
    MAX_PROVIDERS,
    SUSPICION_SECONDS,
    ProviderHistory,
    Record,
    Suspicions,
    decayed,
)

HOUR = 3600.0
DAY = 24 * HOUR


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
def history(tmp_path: Path, clock: Clock) -> ProviderHistory:
    return ProviderHistory(tmp_path / "runs" / "providers.json", clock)


def test_nobody_is_known_at_first(history: ProviderHistory) -> None:
    assert history.records() == {}
    assert history.avoided() == frozenset()


def test_one_failure_is_forgotten_within_hours(history: ProviderHistory, clock: Clock) -> None:
    history.failed("0xa", "willow", "it broke")
    # 0.5 ** (t / 24 h) = 0.9 at t = 24 h * log2(1 / 0.9) = 3 h 39 min
    forgotten = DAY * math.log2(1 / 0.9)
    clock.seconds += forgotten - 1
    assert history.avoided() == {"0xa"}
    clock.seconds += 2
    assert history.avoided() == frozenset()


def test_failures_add_up_after_their_decay(history: ProviderHistory, clock: Clock) -> None:
    history.failed("0xa", "willow", "first")
    clock.seconds += DAY
    history.failed("0xa", "willow", "second")
    clock.seconds += DAY
    record = history.records()["0xa"]
    assert record.failures == pytest.approx(1.5)
    assert decayed(record, clock.seconds) == pytest.approx(0.75)
    assert record.last_reason == "second"


def test_success_erases_no_failure(history: ProviderHistory) -> None:
    history.failed("0xa", "willow", "it broke")
    history.succeeded("0xa", "willow", 40)
    history.succeeded("0xa", "willow 2", 2)
    assert history.records()["0xa"] == Record("willow 2", 1.0, 42, 1e9, "it broke")
    assert history.avoided() == {"0xa"}


@given(st.floats(0, 1e6), st.floats(0, 1e9), st.floats(0, 1e9))
def test_decay_is_a_half_a_day_and_never_grows(failures: float, at: float, later: float) -> None:
    record = Record("n", failures, 0, at, "")
    assert decayed(record, at) == failures
    assert decayed(record, at - later) == failures
    assert decayed(record, at + DAY) == pytest.approx(failures / 2)
    assert decayed(record, at + later) <= failures


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"0xa": 5}',
        b'{"0xa": {"name": "x"}}',
        b'{"0xa": {"name": "x", "failures": "many", "successes": 0, "at_seconds": 0,'
        b' "last_reason": ""}}',
    ],
)
def test_an_unreadable_file_is_started_anew(
    history: ProviderHistory, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "runs" / "providers.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert history.avoided() == frozenset()
    history.failed("0xb", "oak", "it broke")
    assert history.avoided() == {"0xb"}


def test_the_oldest_are_dropped_when_there_are_too_many(
    history: ProviderHistory, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "runs" / "providers.json"
    path.parent.mkdir()
    crowd = {
        f"0x{i}": vars(Record("n", 1.0, 0, clock.seconds - i, "")) for i in range(MAX_PROVIDERS)
    }
    path.write_text(json.dumps(crowd))
    history.failed("0xnew", "oak", "it broke")
    records = history.records()
    assert len(records) == MAX_PROVIDERS
    assert "0xnew" in records
    assert crowd.keys() - records.keys() == {f"0x{MAX_PROVIDERS - 1}"}


def test_concurrent_runs_lose_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "providers.json"

    def work() -> None:
        mine = ProviderHistory(path, clock)
        for _ in range(10):
            mine.succeeded("0xa", "willow", 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ProviderHistory(path, clock).records()["0xa"].successes == 40


def names(history: ProviderHistory) -> set[str]:
    return {record.name for record in history.records().values()}


def test_suspicions_are_confirmed_when_the_session_ends_well(tmp_path: Path, clock: Clock) -> None:
    history = ProviderHistory(tmp_path / "providers.json", clock)
    suspicions = Suspicions(history, clock)
    suspicions.add("0x1", "willow", "it failed")
    assert names(history) == set()
    suspicions.close(was_daemon_lost=False)
    suspicions.close(was_daemon_lost=False)
    assert {node: record.failures for node, record in history.records().items()} == {"0x1": 1.0}


def test_what_failed_shortly_before_the_daemon_was_lost_is_forgiven(
    tmp_path: Path, clock: Clock
) -> None:
    history = ProviderHistory(tmp_path / "providers.json", clock)
    suspicions = Suspicions(history, clock)
    suspicions.add("0x1", "willow", "it failed")
    clock.seconds += SUSPICION_SECONDS - 1
    suspicions.add("0x2", "alder", "cannot connect")
    assert names(history) == set()
    clock.seconds += 1
    suspicions.close(was_daemon_lost=True)
    assert names(history) == {"willow"}


def test_a_later_suspicion_confirms_the_earlier_ones(tmp_path: Path, clock: Clock) -> None:
    history = ProviderHistory(tmp_path / "providers.json", clock)
    suspicions = Suspicions(history, clock)
    suspicions.add("0x1", "willow", "it failed")
    clock.seconds += SUSPICION_SECONDS
    suspicions.add("0x2", "alder", "it failed")
    assert names(history) == {"willow"}
