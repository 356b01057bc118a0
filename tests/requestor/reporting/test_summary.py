from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from requestor.marketplace.money.ledger import LedgerSummary
from requestor.reporting.closing_account import Summary, summarize_run
from requestor.reporting.event_log import TimedEvent
from requestor.reporting.json_output import summary_json, summary_record
from requestor.reporting.model_files import ModelFiles
from requestor.reporting.run_view import RunView
from requestor.reporting.summary import print_summary
from requestor.training_run.events import (
    CheckpointWritten,
    Evaluated,
    ModelPublished,
    ModelRolledBack,
    OrderDone,
    RunFinished,
)

Story = list[TimedEvent]
LEDGER = LedgerSummary(
    accepted_glm={
        "A1": Decimal("0.001234567890123456"),
        "A2": Decimal("0.0004"),
        "A7": Decimal("0.0001"),
    },
    providers={"A1": "willow", "A2": "birch", "A7": "hazel"},
    provider_ids={"A1": "0xaaaa1111", "A2": "0xbbbb2222", "A7": "0xcccc3333"},
)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    (tmp_path / "model.zip").touch()
    (tmp_path / "best_model.zip").touch()
    return ModelFiles(
        "ppo",
        tmp_path / "model.zip",
        tmp_path / "best_model.zip",
        tmp_path / "vecnormalize.pkl",
        tmp_path / "best_vecnormalize.pkl",
    )


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def printed(
    summary: Summary, width: int, encoding: str = "utf-8", kind: type[io.TextIOWrapper] = Terminal
) -> str:
    raw = io.BytesIO()
    stream = kind(raw, encoding=encoding, newline="\n")
    console = Console(file=stream, width=width, color_system=None)
    print_summary(summary, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_numbers_come_from_the_ledger(story: Story, files: ModelFiles) -> None:
    summary = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    assert summary.cost_glm == Decimal("0.001734567890123456")
    # 0.001734567890123456 GLM for 400 steps: times 2500 for a million.
    assert summary.glm_per_million_steps == Decimal("4.33641972530864")
    willow, birch, hazel = summary.providers
    assert (willow.name, willow.orders, willow.steps, willow.steps_per_second) == (
        "willow",
        4,
        400,
        50.0,
    )
    assert willow.paid_glm == Decimal("0.001234567890123456")
    assert (birch.failures, birch.rejections, birch.paid_glm) == (1, 1, Decimal("0.0004"))
    # Paid although no lease ever came of the agreement.
    assert (hazel.name, hazel.orders, hazel.paid_glm) == ("hazel", 0, Decimal("0.0001"))
    assert sum(account.paid_glm for account in summary.providers) == summary.cost_glm


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_fits(story: Story, files: ModelFiles, width: int, encoding: str) -> None:
    summary = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    lines = printed(summary, width, encoding).splitlines()
    opening = f'from stable_baselines3 import PPO; model = PPO.load("{files.model}")'
    assert f"  {opening}" in lines  # whole, to be copied, however narrow the terminal
    assert all(cell_len(line) <= width for line in lines if opening not in line)


def test_text_of_a_run(story: Story, files: ModelFiles) -> None:
    text = printed(summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1"), 100)
    for expected in [
        "The run is complete: 2 of 2 rounds.",
        "49.0 ± 3.0 over 10 held-out episodes",
        "best 50.0 after round 1 · target 60.0",
        "400 in 0:22 · 18 per second",
        "0.001735 GLM of 0.5 · 4.3364 GLM for a million steps",
        # from 20 to 49: 0.001734567890123456 / 29
        "0.00005981 GLM for each point of return above the untrained model's",
        "total          4     0       2    400           0.001735",
        "willow         4     0       0    400       50  0.001235       3.0864",
        "birch          0     0       2      0        -    0.0004            -",
        str(files.best_model),
    ]:
        assert expected in text, expected
    assert "vecnormalize" not in text


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("target_reached", "The target was reached after 2 of 2 rounds."),
        ("budget_reached", "The run stopped within its budget after 2 of 2 rounds."),
        (
            "interrupted",
            "The run was stopped on request after 2 of 2 rounds.",
        ),
        ("failed", "The run failed after 2 of 2 rounds; what it has reached is kept."),
    ],
)
def test_outcomes(story: Story, files: ModelFiles, outcome: str, sentence: str) -> None:
    end = RunFinished(outcome, "the reason", 2, 400, None, 50.0, "0.0019", 22.0)
    view = RunView.replay([*story[:-2], (1022.0, end)])
    text = printed(summarize_run(view, LEDGER, files, "ppo/x_1"), 80)
    assert sentence in text
    assert ("the reason" in text) == (outcome != "target_reached")
    hint = "`derl-request resume ppo/x_1` goes on from there."
    assert (hint in text) == (outcome in ("interrupted", "failed"))
    more = "`derl-request resume ppo/x_1 golem.budget_glm=MORE` goes on."
    assert (more in text) == (outcome == "budget_reached")
    # The last round was rolled back: the model is still that of the first.
    assert "50.0 ± 2.0 over 5 held-out episodes" in text


def test_message_is_told_once(story: Story, files: ModelFiles) -> None:
    end = RunFinished("interrupted", "stopped on request", 2, 400, None, 50.0, "0.0019", 22.0)
    view = RunView.replay([*story[:-2], (1022.0, end)])
    text = printed(summarize_run(view, LEDGER, files, "ppo/x_1"), 200)
    assert text.count("stopped on request") == 1


def test_no_spaces_at_the_ends_of_lines(story: Story, files: ModelFiles) -> None:
    summary = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    for kind in (io.TextIOWrapper, Terminal):
        lines = printed(summary, 80, kind=kind).splitlines()
        assert [line for line in lines if line != line.rstrip()] == []


def test_pipe_gets_everything_whatever_its_width(story: Story, files: ModelFiles) -> None:
    summary = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    text = printed(summary, 30, kind=io.TextIOWrapper)
    assert f"model    {files.model}\n" in text.replace("\n ", "\n")
    assert text == printed(summary, 100, kind=io.TextIOWrapper)


def test_cost_of_a_killed_run_is_at_least_what_was_due(story: Story, files: ModelFiles) -> None:
    view = RunView.replay(story[:20])  # 0.001 GLM were due, nothing accepted
    nothing = summarize_run(view, LedgerSummary(), files, "ppo/x_1")
    assert (nothing.cost_glm, nothing.is_cost_open) == (Decimal("0.001"), True)
    text = printed(nothing, 120)
    assert "at least 0.001 GLM of 0.5 · open bills are settled on resume" in text
    assert "after 1 of 2 rounds.\n `derl-request resume ppo/x_1` goes on from there." in text
    more = summarize_run(view, LEDGER, files, "ppo/x_1")
    assert more.cost_glm == LEDGER.total_glm  # the larger of the two
    ended = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    assert (ended.cost_glm, ended.is_cost_open) == (LEDGER.total_glm, False)
    held = LedgerSummary(open_agreements={"A1"})  # the daemon was lost: the run ended, bills open
    assert summarize_run(RunView.replay(story), held, files, "ppo/x_1").is_cost_open


def test_late_copies_are_not_in_the_total(story: Story, files: ModelFiles) -> None:
    late = (1008.5, OrderDone(0, 1, "L2", 5.0, 100, False))
    summary = summarize_run(
        RunView.replay([*story[:13], late, *story[13:]]), LEDGER, files, "ppo/x_1"
    )
    assert [account.steps for account in summary.providers] == [400, 0, 0]
    text = printed(summary, 80)
    assert "late copies did 100 more steps that no round needed" in text
    assert "total          4     1       2    400" in text
    assert "of these steps" not in text


def test_surplus_steps_are_named(story: Story, files: ModelFiles) -> None:
    end = RunFinished("interrupted", "", 1, 200, None, 50.0, "0.0019", 22.0)
    view = RunView.replay([*story[:22], (1022.0, end)])  # 100 steps of the second round are in
    text = printed(summarize_run(view, LEDGER, files, "ppo/x_1"), 80)
    assert "100 of these steps are of rounds that were not finished or were done again" in text


def test_run_without_a_published_round_says_so(story: Story, files: ModelFiles) -> None:
    rolled_back = (1009.0, ModelRolledBack(0, -3.0, "worse"))
    events = [rolled_back if isinstance(entry[1], ModelPublished) else entry for entry in story]
    summary = summarize_run(RunView.replay(events), LEDGER, files, "ppo/x_1")
    assert summary.is_untrained
    assert summary_record(summary)["is_untrained"] is True
    text = " ".join(printed(summary, 80).split())
    assert "NO ROUND WAS PUBLISHED" in text and "evaluation.gate" in text
    published = summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1")
    assert "NO ROUND" not in printed(published, 80)
    # A round that nobody judged is no failure: its model is the run's model.
    unjudged = [e for e in events if not isinstance(e[1], ModelRolledBack)]
    assert any(isinstance(event, CheckpointWritten) for _, event in unjudged)
    assert not RunView.replay(unjudged).is_untrained


def test_run_that_never_began(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    files = ModelFiles("ppo", nothing, nothing, nothing, nothing)
    summary = summarize_run(RunView(), LedgerSummary(), files, "ppo/x_1")
    text = printed(summary, 80)
    assert "never evaluated" in text
    assert "stable_baselines3" not in text
    assert summary_record(summary)["model"] is None
    json.loads(summary_json(summary))


def test_json_is_exact_and_one_line(story: Story, files: ModelFiles) -> None:
    line = summary_json(summarize_run(RunView.replay(story), LEDGER, files, "ppo/x_1"))
    assert "\n" not in line
    record = json.loads(line)
    assert record["cost_glm"] == "0.001734567890123456"
    assert record["outcome"] == "completed"
    assert (record["mean_return"], record["episodes"], record["is_final_evaluation"]) == (
        49.0,
        10,
        True,
    )
    assert record["providers"][0]["paid_glm"] == "0.001234567890123456"
    assert record["providers"][0]["glm_per_million_steps"].startswith("3.08641972")
    assert record["providers"][1]["glm_per_million_steps"] is None
    assert record["glm_per_million_steps"].startswith("4.33641972")
    assert float(record["glm_per_return_point"]) == pytest.approx(0.001734567890123456 / 29)
    assert (record["untrained_return"], record["owed_glm"]) == (20.0, "0")
    assert record["model"] == str(files.model)
    assert record["normalizer"] is None


def test_without_a_gain_it_says_so(story: Story, files: ModelFiles) -> None:
    worse = [
        (at, replace(event, mean_return=20.0) if isinstance(event, Evaluated) else event)
        for at, event in story
    ]
    summary = summarize_run(RunView.replay(worse), LEDGER, files, "ppo/x_1")
    assert summary.glm_per_return_point is None
    assert "it has bought no return above the untrained model's" in printed(summary, 100)


def test_what_is_owed_beyond_the_budget_is_told(story: Story, files: ModelFiles) -> None:
    ledger = replace(LEDGER, put_off_glm={"A2": Decimal("0.0009"), "A9": Decimal("0.25")})
    summary = summarize_run(RunView.replay(story), ledger, files, "ppo/x_1")
    assert summary.owed_glm == Decimal("0.2505")
    assert "0.2505 GLM are owed beyond the budget" in printed(summary, 120)
