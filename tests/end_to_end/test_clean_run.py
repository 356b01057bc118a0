"""A run without incidents: what it leaves behind, and that it is what it says it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference


def test_the_folder_is_complete(reference: Reference) -> None:
    folder = reference.run.path
    config = yaml.safe_load((folder / "config.resolved.yaml").read_text())
    assert config["env"]["id"] == "CartPole-v1"
    assert config["algo"]["n_epochs"] == 4
    assert config["golem"]["subnet"] == "public"  # a default, spelled out
    identity = json.loads((folder / "run.json").read_text())
    assert {"python", "torch", "stable-baselines3", "gymnasium", "yapapi"} <= set(
        identity["versions"]
    )
    assert "tiny.yaml" in identity["command"]
    assert len(identity["run_id"]) == 32
    for name in ("events.jsonl", "metrics.jsonl", "ledger.jsonl", "model.zip", "best_model.zip"):
        assert (folder / name).stat().st_size > 0, name
    assert (folder / "logs" / "derl-request.log").stat().st_size > 0
    assert list((folder / "inbox").iterdir()) == []


def test_events_tell_the_story(reference: Reference) -> None:
    run = reference.run
    (started,) = run.events("run_started")
    assert (started["rounds"], started["clients"], started["local_steps"]) == (3, 4, 256)
    assert [event["round"] for event in run.events("checkpoint_written")] == [0, 1, 2, 3]
    counted = [(e["round"], e["client"]) for e in run.events("order_done") if e["counts"]]
    assert sorted(counted) == [(r, c) for r in range(3) for c in range(4)]
    assert len(run.events("lease_opened")) == len(run.events("lease_ended")) == 2
    assert [e["kind"] for e in run.lines("events.jsonl")][-1] == "run_finished"


def test_metrics_have_sb3s_names_and_ours(reference: Reference) -> None:
    rows = reference.run.lines("metrics.jsonl")
    assert [row["fed/round"] for row in rows] == [1, 2, 3]
    assert [row["time/total_timesteps"] for row in rows] == [1024, 2048, 3072]
    for row in rows:
        assert {
            "rollout/ep_rew_mean",
            "rollout/ep_len_mean",
            "train/loss",
            "train/value_loss",
            "train/learning_rate",
            "eval/mean_reward",
            "eval/mean_ep_length",
            "fed/workers_ok",
            "fed/rejected",
            "cost/glm_total",
        } <= set(row)
    assert rows[0]["train/learning_rate"] > rows[1]["train/learning_rate"]
    costs = [row["cost/glm_total"] for row in rows]
    assert 0 < costs[0] <= costs[1] <= costs[2]


def test_tensorboard_can_read_its_files(reference: Reference) -> None:
    readers: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    read = readers.EventAccumulator(str(reference.run.path / "tensorboard"))
    read.Reload()
    tags = set(read.Tags()["scalars"])
    assert {"eval/mean_reward", "train/loss", "fed/workers_ok", "cost/glm_total"} <= tags
    rows = reference.run.lines("metrics.jsonl")
    points = read.Scalars("eval/mean_reward")
    assert [point.step for point in points] == [row["time/total_timesteps"] for row in rows]
    assert [point.value for point in points] == pytest.approx(
        [row["eval/mean_reward"] for row in rows]
    )


def test_the_summary_is_true(reference: Reference) -> None:
    summary = reference.printed.document
    assert summary["outcome"] == "completed"
    assert (summary["rounds_done"], summary["total_steps"]) == (3, 3072)
    assert Decimal(summary["cost_glm"]) == reference.run.spent_glm
    paid = [Decimal(provider["paid_glm"]) for provider in summary["providers"]]
    assert len(paid) == 2
    assert sum(paid, Decimal(0)) == reference.run.spent_glm
    assert sum(provider["orders"] for provider in summary["providers"]) == 12
    for key, name in (("model", "model.zip"), ("best_model", "best_model.zip")):
        shown = reference.run.path.parents[2] / summary[key]  # relative to where it was started
        assert shown.samefile(reference.run.path / name)
    assert "Traceback" not in reference.printed.err


def test_plain_sb3_gets_the_reported_returns(reference: Reference) -> None:
    """In a process in which nothing of ours can be imported."""
    final, best = reference.played["model.zip"], reference.played["best_model.zip"]
    (evaluated,) = [e for e in reference.run.events("evaluated") if e["purpose"] == "final"]
    assert len(final) == evaluated["episodes"] == 10
    assert sum(final) / len(final) == evaluated["mean_return"]
    assert reference.printed.document["mean_return"] == evaluated["mean_return"]
    kept = reference.run.checkpoint["best"]
    assert sum(best) / len(best) == kept["mean_return"]
    untrained = reference.run.events("evaluated")[0]["mean_return"]
    assert kept["mean_return"] > untrained


def test_both_sides_books_agree_and_nothing_is_open(
    reference: Reference, settled: Callable[[Decimal, dict[str, Any]], None]
) -> None:
    books = reference.run.books
    settled(reference.run.spent_glm, books)
    assert len(books["agreements"]) == len(books["activities"]) == len(books["invoices"]) == 2
    assert {invoice["state"] for invoice in books["invoices"]} <= {"ACCEPTED", "SETTLED"}
    assert Decimal(books["totals"]["spent_glm"]) > 0
