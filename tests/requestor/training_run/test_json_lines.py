"""Files of JSON lines lose at most the line that a crash tore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.training_run import json_lines
from requestor.training_run.json_lines import JsonLines, read_json_lines

RECORDS: list[dict[str, Any]] = [{"a": 1}, {"text": "ä\n\u2028\x1b"}, {}, {"b": [1, None, "x"]}]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Append records."""
    lines = JsonLines(path)
    for record in records:
        lines.append(record)
    lines.close()


def test_a_missing_file_has_no_records(tmp_path: Path) -> None:
    assert list(read_json_lines(tmp_path / "none.jsonl")) == []


def test_records_are_visible_at_once_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = JsonLines(path)
    for count, record in enumerate(RECORDS, 1):
        lines.append(record)
        assert list(read_json_lines(path)) == RECORDS[:count]
    lines.close()
    write(path, [{"more": True}])
    assert list(read_json_lines(path)) == [*RECORDS, {"more": True}]


def test_a_line_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, RECORDS)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = RECORDS[: whole[:cut].count(b"\n")]
        assert list(read_json_lines(path)) == kept
        write(path, [{"next": 1}])
        assert list(read_json_lines(path)) == [*kept, {"next": 1}]


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), max_size=5))
def test_any_text_stays_on_its_line(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    write(path, records)
    assert path.read_bytes().count(b"\n") == len(records)
    assert list(read_json_lines(path)) == records


def test_reading_stops_at_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n[2]\n{"b": 3}\n{torn\n{"c": 4}\n')
    assert list(read_json_lines(path)) == [{"a": 1}, {"b": 3}]


def test_reading_stops_at_a_line_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 20, raising=False)
    path = tmp_path / "log.jsonl"
    fits, more = {"a": "x" * 11}, {"a": "x" * 12}
    write(path, [fits, more, fits])
    assert len(path.read_bytes()) == 21 + 22 + 21
    assert list(read_json_lines(path)) == [fits]
    write(path, [fits])  # no line is torn where it is read in pieces
    assert path.read_bytes().count(b"\n") == 4


def test_numbers_that_json_does_not_have_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.jsonl"
    lines = JsonLines(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        lines.append({"loss": float("nan")})
    lines.append({"loss": 0.5})
    lines.close()
    assert path.read_bytes() == json.dumps({"loss": 0.5}).encode() + b"\n"
