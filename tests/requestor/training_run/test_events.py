"""Events survive the way into the log and back; logs of other versions do no harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.training_run import events
from requestor.training_run.events import Event, event_from_record, event_record
from requestor.training_run.json_lines import JsonLines, read_json_lines

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    str: st.text(),
    float: FINITE,
    bool: st.booleans(),
    float | None: st.none() | FINITE,
    tuple[int, ...]: st.lists(st.integers()).map(tuple),
    Mapping[str, float]: st.dictionaries(st.text(), FINITE),
    Mapping[str, str]: st.dictionaries(st.text(), st.text()),
}


def made(kind: type[Event]) -> st.SearchStrategy[Event]:
    """Events of one kind with any values."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{f.name: VALUES[hints[f.name]] for f in fields(kind)})


ANY_EVENT = st.sampled_from(sorted(Event.registry.values(), key=lambda kind: kind.kind)).flatmap(
    made
)


def test_every_kind_of_event_is_known_by_its_name() -> None:
    named = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert set(Event.registry.values()) == named
    assert Event.registry["run_started"] is events.RunStarted
    assert Event.registry["marketplace_went_away"] is events.MarketplaceWentAway


@given(ANY_EVENT)
def test_there_and_back(event: Event) -> None:
    line = json.dumps(event_record(event), allow_nan=False)
    assert event_from_record(json.loads(line)) == event


@given(st.lists(ANY_EVENT, max_size=5))
def test_a_log_is_read_back_whole(
    tmp_path_factory: pytest.TempPathFactory, log: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    lines = JsonLines(path)
    for event in log:
        lines.append({"unix_seconds": 1.5, **event_record(event)})
    lines.close()
    assert [event_from_record(record) for record in read_json_lines(path)] == log


def test_the_record_is_plain(tmp_path: Path) -> None:
    assert event_record(events.RoundClosed(2, (0, 3), 20, 60, 1.5)) == {
        "kind": "round_closed",
        "round": 2,
        "merged_clients": (0, 3),
        "steps": 20,
        "total_steps": 60,
        "seconds": 1.5,
        "left_out": (),
    }


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": None},
        {"kind": "event"},
        {"kind": "brain_swapped", "round": 1},
        {"kind": "round_started", "round": 1},
        {"kind": ["notice"], "text": "x"},
    ],
)
def test_what_another_version_wrote_is_passed_over(record: dict[str, Any]) -> None:
    assert event_from_record(record) is None


def test_fields_of_a_later_version_are_passed_over() -> None:
    record = {"kind": "notice", "text": "x", "colour": "red", "unix_seconds": 5.0}
    assert event_from_record(record) == events.Notice("x")


def test_fields_with_a_default_may_be_missing() -> None:
    event = events.OrderDone(0, 1, "L", 2.0, 10, True)
    record = {key: value for key, value in event_record(event).items() if key != "metrics"}
    assert event_from_record(record) == event


def test_an_event_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        events.Notice("x").text = "y"  # type: ignore[misc]
