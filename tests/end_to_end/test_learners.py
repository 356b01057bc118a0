"""Both learners in whole runs: which one a run has and why, and that they understand each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, RunFolder, Workbench

pytestmark = pytest.mark.timeout(300)  # several whole runs in a test; machines may be busy

ELU = "algo.policy_kwargs=dict(activation_fn=nn.ELU)"


def test_a_run_says_which_learner_it_has_and_why(reference: Reference) -> None:
    (started,) = reference.run.events("run_started")
    assert started["learner"] == "native"
    assert "CartPole-v1 is a native environment" in started["learner_reason"]
    lines = [event["text"] for event in reference.run.events("notice")]
    assert f"learner native: {started['learner_reason']}" in lines
    assert {row["rollout/native_stepping"] for row in reference.run.lines("metrics.jsonl")} == {2}
    config = yaml.safe_load((reference.run.path / "config.resolved.yaml").read_text())
    assert config["algo"]["learner"] == "auto"


def test_the_same_run_with_sb3(
    bench: Workbench,
    reference: Reference,
    plain_sb3: Callable[[RunFolder], dict[str, list[float]]],
) -> None:
    """Other random numbers, so other weights; all that is promised of a run holds."""
    run = bench.train("algo.learner=sb3")
    (started,) = run.events("run_started")
    assert (started["learner"], started["learner_reason"]) == ("sb3", "asked for")
    rows, native = run.lines("metrics.jsonl"), reference.run.lines("metrics.jsonl")
    missing = set(native[-1]) - set(rows[-1])
    assert missing <= {"rollout/native_stepping"}
    assert [row["time/total_timesteps"] for row in rows] == [1024, 2048, 3072]
    assert run.weights != reference.run.weights
    (final,) = [e for e in run.events("evaluated") if e["purpose"] == "final"]
    played = plain_sb3(run)["model.zip"]
    assert sum(played) / len(played) == final["mean_return"]
    bench.assert_no_process_left()


def test_what_does_not_fit_is_sb3s_and_says_why(bench: Workbench) -> None:
    run = bench.train(ELU, "federation.rounds=1")
    (started,) = run.events("run_started")
    assert started["learner"] == "sb3"
    assert "policy_kwargs.activation_fn is elu; it has tanh and relu" in started["learner_reason"]


def test_native_where_it_does_not_fit_is_refused_before_anything_is_rented(
    bench: Workbench,
) -> None:
    done = bench.derl("run", bench.config, "algo.learner=native", ELU)
    assert done.code == 4, done.text
    assert "policy_kwargs.activation_fn is elu; it has tanh and relu" in done.text
    assert "set learner to auto" in done.text
    assert "Traceback" not in done.err
    bench.assert_no_process_left()


def test_a_native_model_plays_the_same_under_either_learner(
    bench: Workbench, reference: Reference
) -> None:
    """Of the run by its name, and of its archive under a config that asks for SB3."""
    archive = reference.run.path / "model.zip"
    copied = bench.write("model.zip", "")
    copied.write_bytes(archive.read_bytes())
    asks_for_sb3 = bench.write(
        "sb3.yaml", bench.config.read_text().replace("{name: ppo,", "{name: ppo, learner: sb3,")
    )
    means = []
    for arguments in (
        (reference.run.path,),
        (copied, "--config", bench.config),
        (copied, "--config", asks_for_sb3),
    ):
        done = bench.derl("evaluate", *arguments, "--episodes", "10", "--json")
        assert done.code == 0, done.text
        means.append(json.loads(done.out)["mean_return"])
    (final,) = [e for e in reference.run.events("evaluated") if e["purpose"] == "final"]
    assert means == [final["mean_return"]] * 3
