"""Progress of deploy and transfer as streams see it, and durations as scripts spell them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.exe_unit import ExeScriptError
from requestor.mock_golem.exe_unit.progress import NoProgress, Progress, parse_duration
from requestor.mock_golem.exe_unit.script import Transfer, parse_script

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("300ms", 0.3),
            ("5s", 5.0),
            ("10min", 600.0),
            ("1h 2m 3s", 3723.0),
            ("1h2m3s", 3723.0),
            (" 250 us ", 0.00025),
            ("0s", 0.0),
        ],
    )
    def test_are_read(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)

    @pytest.mark.parametrize("text", ["", "5", "s", "5 parsecs", "-1s", "1s nonsense", "1s" * 100])
    def test_of_no_sense_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no duration such as 300ms"):
            parse_duration(text)

    @given(st.text(max_size=100))
    def test_nothing_else_is_raised_and_nothing_is_negative(self, text: str) -> None:
        with suppress(ValueError):
            assert parse_duration(text) >= 0


class TestScripts:
    @pytest.mark.parametrize(
        ("arguments", "seconds"),
        [
            (None, None),
            ({}, 1.0),
            ({"updateInterval": None, "updateStep": None}, 1.0),
            ({"updateInterval": "300ms"}, 0.3),
        ],
    )
    def test_say_how_often(self, arguments: Any, seconds: float | None) -> None:
        body = {"from": "container:/a", "to": "container:/b", "progress": arguments}
        (line,) = parse_script([{"transfer": body}])
        assert isinstance(line.command, Transfer) and line.command.progress_seconds == seconds

    @pytest.mark.parametrize("arguments", [5, {"updateInterval": 5}, {"updateInterval": "soon"}])
    def test_of_no_sense_are_refused(self, arguments: Any) -> None:
        with pytest.raises(ExeScriptError, match=r"command 0: `deploy`"):
            parse_script([{"deploy": {"progress": arguments}}])


def test_between_two_reports_the_interval_passes_but_words_are_told_at_once() -> None:
    told: list[dict[str, Any]] = []
    now = [0.0]
    progress = Progress(told.append, 1.0, lambda: now[0])
    for second in (0.0, 0.5, 1.0, 1.5, 1.75):
        now[0] = second
        progress.advance(int(second * 100), 400)
    progress.say("Deployed image from cache")
    now[0] = 2.5
    progress.advance(250, None)
    now[0] = 2.75
    progress.advance(275, None)
    assert [(one["progress"], one["message"]) for one in told] == [
        ([100, 400], None),
        ([175, 400], "Deployed image from cache"),
        ([275, None], None),  # a second after the words
    ]
    assert {(tuple(one["step"]), one["unit"]) for one in told} == {((0, 1), "Bytes")}


def test_who_did_not_ask_is_told_nothing() -> None:
    NoProgress().say("x")
    NoProgress().advance(1, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["process"])
async def test_streams_see_deploy_and_transfer_advance(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    at_once = {"updateInterval": "0s"}
    source = activity.publish(b"x" * 1000)
    batch = activity.begin(
        {"deploy": {"progress": at_once}},
        {"start": {}},
        {"transfer": {"from": source, "to": "container:/golem/work/f", "progress": at_once}},
        {"transfer": {"from": source, "to": "container:/golem/work/g"}},
    )
    events = [event async for event in activity.unit.events(batch)]
    told = [(one["index"], one["kind"]["progress"]) for one in events if "progress" in one["kind"]]
    assert told == [
        (0, report((0, None), "Deployed image from cache")),
        (2, report((1000, 1000), None)),
    ]
    order = [(one["index"], next(iter(one["kind"]))) for one in events]
    assert order.index((2, "progress")) < order.index((2, "finished"))
    assert order.index((0, "progress")) < order.index((0, "finished"))


def report(progress: tuple[int, int | None], message: str | None) -> dict[str, Any]:
    return {"step": [0, 1], "message": message, "progress": list(progress), "unit": "Bytes"}
