"""The journal: what was written is read again, a torn end is dropped, damage is told."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.books import Books, read_books
from requestor.mock_golem.clock import ManualClock
from requestor.mock_golem.journal import Journal, JournalError, read_journal
from requestor.mock_golem.records import Allocation

NOW = datetime(2026, 11, 20, tzinfo=UTC)
_records = st.lists(
    st.lists(st.fixed_dictionaries({"type": st.text(), "data": st.text()}), max_size=3),
    max_size=5,
)


def allocation(number: int, spent: str = "0") -> Allocation:
    return Allocation(
        allocation_id=str(number),
        address="0x0",
        payment_platform="erc20-hoodi-tglm",
        total_amount=Decimal("1.50"),
        spent_amount=Decimal(spent),
        timestamp=NOW,
        timeout=datetime(2100, 1, 1, tzinfo=UTC),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=_records, cut_bytes=st.integers(0, 200))
def test_any_cut_loses_only_the_end(
    tmp_path: Path, changes: list[list[dict[str, Any]]], cut_bytes: int
) -> None:
    (tmp_path / "journal.jsonl").unlink(missing_ok=True)
    journal = Journal(tmp_path)
    ends = [0]
    for records in changes:
        journal.append("now", records)
        ends.append(journal.path.stat().st_size)
    journal.close()
    content = journal.path.read_bytes()
    kept = content[: max(0, len(content) - cut_bytes)]
    journal.path.write_bytes(kept)
    whole = sum(end <= len(kept) for end in ends[1:])
    expected = [record for records in changes[:whole] for record in records]
    assert list(read_journal(journal.path)) == expected
    again = Journal(tmp_path)
    assert list(again.read()) == expected
    again.append("later", [{"type": "last", "data": ""}])
    assert list(again.read())[len(expected) :] == [{"type": "last", "data": ""}]
    again.close()


def test_the_last_record_of_an_id_wins(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    clock = ManualClock(NOW)
    books = Books(clock, journal)
    books.commit(allocation(1))
    books.commit(allocation(2), allocation(1, spent="0.25"))
    journal.close()
    restored = read_books(tmp_path, clock)
    assert restored.allocations == books.allocations
    assert restored.allocations["1"].remaining_amount == Decimal("1.25")
    assert restored.allocations["2"].as_json()["totalAmount"] == "1.50"  # digits as they were


def test_all_of_a_change_or_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    books = Books(ManualClock(NOW), journal)
    books.commit(allocation(1), allocation(2))
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    assert read_books(tmp_path, ManualClock(NOW)).allocations == {}


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"records": 1}',
        '{"records": [{"type": "spaceship", "data": {}}]}',
        '{"records": [{"type": "allocation", "data": {"total_amount": "x"}}]}',
    ],
)
def test_damage_is_told_with_file_and_fix(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(line + "\n" + json.dumps({"records": []}) + "\n", encoding="utf-8")
    with pytest.raises(JournalError, match=rf"{path}.*new --state"):
        read_books(tmp_path, ManualClock(NOW))


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="Was a daemon run with this --state"):
        read_books(tmp_path, ManualClock(NOW))
