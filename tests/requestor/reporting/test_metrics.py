from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.metrics import (
    MAX_CLAIMED_NAMES,
    MetricsRow,
    MetricsWriter,
    RoundMetrics,
    mean_of_claims,
    read_metrics,
)
from requestor.training_run.events import (
    CheckpointWritten,
    Evaluated,
    Event,
    LeaseOpened,
    ModelPublished,
    OrderDone,
    RoundClosed,
    RoundStarted,
    RunStarted,
)

Story = list[TimedEvent]


def rows_of(story: Story) -> list[MetricsRow]:
    metrics = RoundMetrics()
    return [row for at, event in story for row in metrics.apply(event, at)]


def test_rows_of_a_run(story: Story) -> None:
    first, second = rows_of(story)
    assert first == {
        "unix_seconds": 1010.0,
        "time/total_timesteps": 200,
        "time/time_elapsed": 10.0,  # 1000 to 1010
        "time/fps": 20,  # 200 steps / 10 s
        "fed/round": 1,
        "fed/workers_ok": 2,
        "fed/rejected": 0,
        "fed/screened": 0,
        "fed/failed_orders": 1,
        "fed/copies": 0,
        "fed/seconds": 5.0,
        "fed/published": 1,
        "cost/glm_total": 0.001,
        "cost/glm_per_million_steps": 5.0,  # 0.001 / 200 * 1e6
        "cost/glm_per_return_point": pytest.approx(0.001 / 30),  # from 20 to 50
        "cost/provider/willow/glm": 0.0008,
        "cost/provider/willow/steps": 200,
        "cost/provider/willow/glm_per_million_steps": 4.0,  # 0.0008 / 200 * 1e6
        "eval/mean_reward": 50.0,
        "eval/mean_ep_length": 51.0,
        "rollout/ep_rew_mean": 20.0,  # (10 + 30) / 2
        "rollout/ep_len_mean": 13.0,  # (12 + 14) / 2
        "train/loss": 1.0,  # (0.5 + 1.5) / 2
        "provider/willow/steps_per_s": 50.0,  # 200 steps / (2 s + 2 s)
    }
    assert second == {
        "unix_seconds": 1020.0,
        "time/total_timesteps": 400,
        "time/time_elapsed": 20.0,
        "time/fps": 20,
        "fed/round": 2,
        "fed/workers_ok": 2,
        "fed/rejected": 1,
        "fed/screened": 0,
        "fed/failed_orders": 0,
        "fed/copies": 1,
        "fed/seconds": 5.0,
        "fed/published": 0,
        "cost/glm_total": 0.002,
        "cost/glm_per_million_steps": 5.0,  # 0.002 / 400 * 1e6
        "cost/glm_per_return_point": pytest.approx(0.002 / 30),  # round 2 was rolled back
        "cost/provider/willow/glm": 0.0015,
        "cost/provider/willow/steps": 400,
        "cost/provider/willow/glm_per_million_steps": 3.75,  # 0.0015 / 400 * 1e6
        "eval/mean_reward": 40.0,
        "eval/mean_ep_length": 41.0,
        "rollout/ep_rew_mean": 10.0,  # only the first client claims anything
        "rollout/ep_len_mean": 12.0,
        "train/loss": 0.5,
        "provider/willow/steps_per_s": 50.0,
    }


def test_round_without_evaluation_has_no_such_keys(start_event: Callable[..., RunStarted]) -> None:
    (row,) = rows_of(
        [
            (0.0, start_event()),
            (1.0, RoundStarted(0, 2, 2)),
            (2.0, RoundClosed(0, (0, 1), 200, 200, 1.0)),
            (3.0, CheckpointWritten(1, "aa")),
        ]
    )
    assert not any(name.startswith(("eval/", "rollout/", "train/")) for name in row)
    assert "fed/published" not in row
    assert row["fed/workers_ok"] == 2


def test_row_lost_in_a_crash_is_made_by_the_next_session(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    # Killed between the checkpoint of round 1 and its event; the next session starts with 1 done.
    killed = story[:17]
    assert isinstance(killed[-1][1], ModelPublished)
    (row,) = rows_of([*killed, (9000.0, start_event(1, is_resumed=True))])
    expected = rows_of(story)[0]
    # At the last event, 1009, instead of at the checkpoint, 1010: 9 s, 200 / 9 = 22.2 a second.
    expected |= {"unix_seconds": 1009.0, "time/time_elapsed": 9.0, "time/fps": 22}
    assert row == expected


def test_round_undone_by_a_crash_has_one_row(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    killed = story[:17]
    rows = rows_of(
        [
            *killed,
            (9000.0, start_event(0, is_resumed=True)),
            (9001.0, RoundStarted(0, 2, 2)),
            (9002.0, RoundClosed(0, (0, 1), 200, 200, 1.0)),
            (9003.0, CheckpointWritten(1, "bb")),
        ]
    )
    assert [row["fed/round"] for row in rows] == [1]
    assert rows[0]["time/time_elapsed"] == 12.0  # 9 s before, 3 s after
    assert rows[0]["rollout/ep_rew_mean"] == 20.0  # of the results that were kept


def test_writer_never_writes_a_round_twice(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for at, event in story[:18]:  # up to the first checkpoint
        writer.on_event(event, at)
    writer.close()
    assert [row["fed/round"] for row in read_metrics(path)] == [1]

    resumed = MetricsWriter(path, story[:18])
    for at, event in story[18:]:
        resumed.on_event(event, at)
    resumed.close()
    resumed.close()
    assert read_metrics(path) == rows_of(story)


def test_writer_adds_rows_that_the_file_lacks(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"fed/round": 1, "note": 1}) + '\n{"fed/round": 2, "torn')
    MetricsWriter(path, story).close()
    assert [row["fed/round"] for row in read_metrics(path)] == [1, 2]


def test_claims_are_strangers_words() -> None:
    claims = {
        "rollout/ep_rew_mean": 5.0,
        "train/loss": math.nan,
        "train/value_loss": math.inf,
        "train/entropy_loss": 1e300,
        "cost/glm_total": 0.0,
        "eval/mean_reward": 500.0,
        "train/../../x": 1.0,
        "train/\x1b[31m": 1.0,
    }
    assert mean_of_claims([claims, {"rollout/ep_rew_mean": 7.0}]) == {"rollout/ep_rew_mean": 6.0}


def test_number_of_claimed_names_is_bounded() -> None:
    claims = {f"train/{i}": 1.0 for i in range(10_000)}
    assert len(mean_of_claims([claims])) == MAX_CLAIMED_NAMES


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["train/a", "train/b"]), st.floats(), max_size=2),
        max_size=8,
    )
)
def test_mean_of_claims_is_always_finite(claims: list[dict[str, float]]) -> None:
    assert all(math.isfinite(value) for value in mean_of_claims(claims).values())


def test_provider_names_make_safe_tags(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    (row,) = rows_of(
        [
            (0.0, start_event()),
            (0.0, LeaseOpened("L1", "../a b/\x1b[31mé", "0x1", "A1")),
            (1.0, RoundStarted(0, 1, 0)),
            (2.0, OrderDone(0, 0, "L1", 2.0, 100, True)),
            (2.0, RoundClosed(0, (0,), 100, 100, 1.0)),
            (3.0, CheckpointWritten(1, "aa")),
        ]
    )
    (tag,) = [name for name in row if name.startswith("provider/")]
    assert tag == "provider/.._a_b_31m_/steps_per_s"
    assert row[tag] == pytest.approx(50.0)


def test_without_a_gain_a_point_of_return_has_no_price(story: Story) -> None:
    worse = [
        (at, replace(event, mean_return=20.0) if isinstance(event, Evaluated) else event)
        for at, event in story
    ]
    assert all("cost/glm_per_return_point" not in row for row in rows_of(worse))
    unknown = [(at, event) for at, event in story if not is_untrained(event)]
    assert all("cost/glm_per_return_point" not in row for row in rows_of(unknown))


def is_untrained(event: Event) -> bool:
    return isinstance(event, Evaluated) and event.round == 0
