from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from requestor.marketplace.ledger import LedgerSummary
from requestor.reporting.event_log import TimedEvent
from requestor.reporting.json_output import summary_json, summary_record
from requestor.reporting.run_view import RunView
from requestor.reporting.summary import ModelFiles, Summary, print_summary, summarize_run
from requestor.training_run.events import RunFinished

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


def printed(summary: Summary, width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=stream, width=width, color_system=None)
    print_summary(summary, console)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_numbers_come_from_the_ledger(story: Story, files: ModelFiles) -> None:
    summary = summarize_run(RunView.replay(story), LEDGER, files)
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
    summary = summarize_run(RunView.replay(story), LEDGER, files)
    lines = printed(summary, width, encoding).splitlines()
    opening = f'from stable_baselines3 import PPO; model = PPO.load("{files.model}")'
    assert f"  {opening}" in lines  # whole, to be copied, however narrow the terminal
    assert all(cell_len(line) <= width for line in lines if opening not in line)


def test_text_of_a_run(story: Story, files: ModelFiles) -> None:
    text = printed(summarize_run(RunView.replay(story), LEDGER, files), 100)
    for expected in [
        "The run is complete: 2 of 2 rounds.",
        "49.0 ± 3.0 over 10 held-out episodes",
        "best 50.0 after round 1 · target 60.0",
        "400 in 0:22 · 18 per second",
        "0.001735 GLM of 0.5 · 4.3364 GLM for a million steps",
        "total          4             2    400           0.001735",
        str(files.best_model),
    ]:
        assert expected in text, expected
    assert "vecnormalize" not in text


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("target_reached", "The target was reached after 2 of 2 rounds."),
        ("budget_reached", "The run stopped within its budget after 2 of 2 rounds."),
        ("interrupted", "The run was stopped after 2 of 2 rounds; `derl-request resume` goes on."),
        ("failed", "The run failed after 2 of 2 rounds; what it has reached is kept."),
    ],
)
def test_outcomes(story: Story, files: ModelFiles, outcome: str, sentence: str) -> None:
    end = RunFinished(outcome, "the reason", 2, 400, None, 50.0, "0.0019", 22.0)
    view = RunView.replay([*story[:-2], (1022.0, end)])
    text = printed(summarize_run(view, LEDGER, files), 80)
    assert sentence in text
    assert ("the reason" in text) == (outcome != "target_reached")
    # The last round was rolled back: the model is still that of the first.
    assert "50.0 ± 2.0 over 5 held-out episodes" in text


def test_run_that_never_began(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    files = ModelFiles("ppo", nothing, nothing, nothing, nothing)
    summary = summarize_run(RunView(), LedgerSummary(), files)
    text = printed(summary, 80)
    assert "never evaluated" in text
    assert "stable_baselines3" not in text
    assert summary_record(summary)["model"] is None
    json.loads(summary_json(summary))


def test_json_is_exact_and_one_line(story: Story, files: ModelFiles) -> None:
    line = summary_json(summarize_run(RunView.replay(story), LEDGER, files))
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
    assert record["model"] == str(files.model)
    assert record["normalizer"] is None
