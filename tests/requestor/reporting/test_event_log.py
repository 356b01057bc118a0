from __future__ import annotations

import json
import math
from pathlib import Path

from requestor.reporting.event_log import EventLog, TimedEvent, read_events
from requestor.reporting.run_view import RunView
from requestor.training_run.events import Evaluated, OrderDone


def test_log_reads_back_as_written(story: list[TimedEvent], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for at, event in story:
        log.on_event(event, at)
        # Readable at once, by other processes too.
        assert len(path.read_text().splitlines()) >= 1
    log.close()
    log.close()
    back = list(read_events(path))
    assert [type(event) for _, event in back] == [type(event) for _, event in story]
    assert RunView.replay(back) == RunView.replay(story)


def test_log_survives_numbers_that_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.on_event(OrderDone(0, 0, "L1", 1.0, 10, True, {"train/loss": math.nan}), 1.0)
    log.on_event(Evaluated(1, "candidate", 5, math.inf, math.nan, 1.0, 0.1), 2.0)
    log.close()
    assert json.loads(path.read_text().splitlines()[0])["metrics"] == {"train/loss": None}
    RunView.replay(read_events(path))


def test_torn_and_foreign_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"kind": "notice", "text": "a", "unix_seconds": 1}\n'
        '{"kind": "from_the_future", "unix_seconds": 2}\n'
        '{"kind": "notice", "text": "b", "added": 1, "unix_seconds": 3}\n'
        '{"kind": "notice", "text": "no time"}\n'
        '{"kind": "notice", "te'
    )
    assert [at for at, _ in read_events(path)] == [1.0, 3.0]
    assert list(read_events(tmp_path / "missing.jsonl")) == []
