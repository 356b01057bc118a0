"""Commands that do not train, and those that look at what a run has left behind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            (),
            (
                "derl-request run configs/cartpole.yaml",
                "no tokens, no daemon and no network",
                "evaluate",
                "130 interrupted",
            ),
        ),
        (
            ("run",),
            (
                "CONFIG [KEY=VALUE]...",
                "seed=7",
                "--dry-run",
                "--yes",
                "real money",
                "DERL_RUNS_DIR",
                "--json",
            ),
        ),
        (("resume",), ("[RUN]", "`last`", "Ctrl-C", "golem.budget_glm=2", "--json")),
        (("status",), ("`last`", "cost", "--json")),
        (("ls",), ("List the runs", "--json")),
        (("evaluate",), ("RUN|MODEL", "model.zip", "--best", "--episodes", "--json")),
        (("init",), ("derl.yaml", "--env", "--algo", "ppo")),
    ],
)
def test_help_says_what_a_newcomer_needs(
    bench: Workbench, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = bench.derl(*command, "--help")
    assert done.code == 0
    for word in words:
        assert word in done.text, (word, done.text)


def test_dry_run_rents_nothing_and_creates_nothing(bench: Workbench) -> None:
    config = bench.config
    before = sorted(bench.folder.iterdir())
    plain = bench.start("run", config, "--dry-run", "seed=7")
    machine = bench.start("run", config, "--dry-run", "--json", "seed=7")
    text, document = bench.finish(plain), bench.finish(machine)
    assert (text.code, document.code) == (0, 0)
    resolved = yaml.safe_load(text.out)  # what follows the config is comments
    assert resolved["seed"] == 7
    assert resolved["algo"]["learning_rate"] == document.document["config"]["algo"]["learning_rate"]
    for part in (
        "would rent 2 providers through a private mock Golem daemon",
        "3 rounds of 4 clients, 256 steps each: 3,072 steps of CartPole-v1",
        "price ceilings",
        "budget: 1 GLM, never exceeded",
    ):
        assert part in text.text.replace("# ", "")
    assert document.document["plan"]["steps"] == 3072
    assert document.document["plan"]["providers"] == 2
    outputs = {bench.folder / f"{kind}-{n}" for kind in ("out", "err") for n in (0, 1)}
    assert set(bench.folder.iterdir()) == {*before, *outputs}


def test_init_writes_a_config_that_runs(bench: Workbench) -> None:
    first = bench.derl("init", "mine.yaml", "--env", "Pendulum-v1", "--algo", "sac")
    assert first.code == 0
    assert "derl-request run mine.yaml" in first.out
    again = bench.derl("init", "mine.yaml")
    assert again.code == 2
    assert "mine.yaml exists" in again.err
    assert "--force" in again.err
    tried = bench.derl("run", "mine.yaml", "--dry-run", "--json")
    assert tried.code == 0, tried.text
    config = tried.document["config"]
    assert (config["env"]["id"], config["algo"]["name"]) == ("Pendulum-v1", "sac")


@pytest.fixture
def with_reference(bench: Workbench, reference: Reference) -> Workbench:
    """A workbench whose runs folder has a copy of the reference run."""
    copy = bench.runs / "ppo" / "CartPole-v1_1"
    shutil.copytree(reference.run.path, copy, ignore=shutil.ignore_patterns("*.sock"))
    return bench


def test_ls_and_status(with_reference: Workbench, reference: Reference) -> None:
    listed = with_reference.derl("ls")
    assert listed.code == 0
    for part in ("ppo/CartPole-v1_1", "completed", "3/3", "3,072"):
        assert part in listed.text, listed.text
    (entry,) = with_reference.derl("ls", "--json").document
    status = with_reference.derl("status", "--json").document
    assert status == entry
    assert status["state"] == "completed"
    finished = reference.printed.document
    for name in ("run_id", "outcome", "rounds_done", "mean_return", "cost_glm", "providers"):
        assert status[name] == finished[name], name
    shown = with_reference.derl("status", "CartPole-v1_1")
    assert shown.code == 0
    for part in ("complete: 3 of 3 rounds", "willow", "GLM paid", "model.zip"):
        assert part in shown.text, shown.text


def test_evaluate_repeats_the_final_evaluation(
    with_reference: Workbench, reference: Reference
) -> None:
    """Each way to name the last model gives the very same returns."""
    archive = with_reference.runs / "ppo" / "CartPole-v1_1" / "model.zip"
    ten = ("--episodes", "10", "--json")
    started = with_reference.start("evaluate", "last", *ten)
    by_file = with_reference.derl("evaluate", archive, *ten)
    by_run = with_reference.finish(started)
    assert by_run.code == 0, by_run.text
    assert by_file.code == 0, by_file.text
    assert by_run.document["mean_return"] == reference.printed.document["mean_return"]
    assert by_run.document["returns"] == by_file.document["returns"]
    assert len(by_run.document["returns"]) == 10
    assert by_run.document["returns"] == reference.played["model.zip"]


def test_evaluate_the_best_model(with_reference: Workbench, reference: Reference) -> None:
    started = with_reference.start("evaluate", "last", "--best", "--episodes", "3", "--json")
    told = with_reference.derl("evaluate", "last", "--best", "--episodes", "3")
    done = with_reference.finish(started)
    assert done.code == 0, done.text
    assert reference.run.checkpoint["best"]["model"]["name"] in done.document["model"]
    assert "ppo/CartPole-v1_1, best model: mean return" in told.text
    assert "over 3 episodes" in told.text


def test_evaluate_an_archive_from_elsewhere(bench: Workbench, reference: Reference) -> None:
    """It needs to be told which environment it is for."""
    archive = bench.folder / "brought.zip"
    shutil.copy(reference.run.path / "best_model.zip", archive)
    refused = bench.derl("evaluate", archive)
    assert refused.code == 2
    assert "does not say which environment it is for" in refused.err
    assert "--config" in refused.err
    done = bench.derl("evaluate", archive, "--config", bench.config, "--episodes", "2", "--json")
    assert done.code == 0, done.text
    assert len(done.document["returns"]) == 2
