"""A run without incidents: what it leaves behind, and that it is what it says it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from requestor.federation.seeds import held_out_seeds

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference

PLAIN_SB3 = """
import importlib.abc, json, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("requestor", "provider_image", "native_kernels"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Forbidden())
import gymnasium
from stable_baselines3 import PPO

archive, seeds = sys.argv[1], json.loads(sys.argv[2])
model = PPO.load(archive)
env = gymnasium.make("CartPole-v1")
returns = []
for seed in seeds:
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        over = terminated or truncated
    returns.append(total)
print(json.dumps(returns))
"""


def played_in_plain_sb3(archive: Path, seeds: tuple[int, ...]) -> list[float]:
    command = [sys.executable, "-c", PLAIN_SB3, str(archive), json.dumps(seeds)]
    played = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr
    returns: list[float] = json.loads(played.stdout)
    return returns


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


def test_plain_sb3_plays_the_final_evaluation_with_the_same_returns(reference: Reference) -> None:
    returns = played_in_plain_sb3(
        reference.run.path / "model.zip", held_out_seeds(0, "final evaluation", 10)
    )
    (final,) = [e for e in reference.run.events("evaluated") if e["purpose"] == "final"]
    assert sum(returns) / len(returns) == final["mean_return"]
    assert reference.printed.document["mean_return"] == final["mean_return"]


def test_plain_sb3_plays_the_held_out_episodes_of_the_best_model(reference: Reference) -> None:
    returns = played_in_plain_sb3(
        reference.run.path / "best_model.zip", held_out_seeds(0, "evaluation", 5)
    )
    best = reference.run.checkpoint["best"]
    assert sum(returns) / len(returns) == best["mean_return"]
    published = [e["mean_return"] for e in reference.run.events("evaluated")]
    assert best["mean_return"] >= published[0]
    if best["model"]["sha256"] == reference.run.checkpoint["model"]["sha256"]:
        assert returns == reference.run.checkpoint["judged_returns"]


def test_both_sides_books_agree_and_nothing_is_open(
    reference: Reference, settled: Callable[[Decimal, dict[str, Any]], None]
) -> None:
    books = reference.run.books
    settled(reference.run.spent_glm, books)
    assert len(books["agreements"]) == len(books["activities"]) == len(books["invoices"]) == 2
    assert {invoice["state"] for invoice in books["invoices"]} == {"SETTLED"}
    assert Decimal(books["totals"]["spent_glm"]) > 0
