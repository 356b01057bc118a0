"""A quote on a terminal and as JSON, and in one line after the run."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from requestor.quoting.record import Figure, Miss, QuotedShare, QuoteOutcome, StoredQuote
from requestor.reporting.quote_view import (
    QuoteView,
    outcome_record,
    outcome_text,
    print_quote,
    quote_json,
)

GLM = Figure(0.008, 0.01, 0.013)
WALL = Figure(50.0, 61.0, 90.0)
SHARES = (
    QuotedShare("oak", "recorded", 2.0, 10, 0.004),
    QuotedShare("\x1b[31mred", "this machine", 4.0, 0, 0.006),
)


def view(**changes: Any) -> QuoteView:
    quote = StoredQuote(1, 1e9, "ppo x", 5, GLM, GLM, WALL, WALL, GLM, WALL, SHARES, ("one", "two"))
    usual: dict[str, Any] = {
        "name": "ppo-x",
        "quote": quote,
        "clients": 4,
        "local_steps": 1000,
        "budget_glm": Decimal(1),
        "offers_seen": 9,
        "offers_left": 7,
        "removed": "CPU price (2)",
    }
    return QuoteView(**{**usual, **changes})


def printed(shown: QuoteView, width: int = 100) -> str:
    output = io.StringIO()
    print_quote(shown, Console(file=output, width=width, color_system=None))
    return output.getvalue()


def test_the_picture_has_every_figure() -> None:
    text = printed(view())
    for part in (
        "ppo-x: 5 rounds of 4 clients, 20,000 steps",
        "0.01 GLM (0.008 to 0.013)",
        # 0.01 GLM for 20,000 steps
        "0.5 for a million steps",
        "budget 1",
        "1:01 (0:50 to 1:30)",
        "7 of 9 can be rented; removed: CPU price (2)",
        # 4000 of 10 orders: 0.004 GLM for 10,000 steps, 1000 steps in 2 s
        "oak       recorded          500      10  0.004           0.4",
        "one",
        "two",
    ):
        assert part in text, (part, text)
    assert "\x1b" not in text
    assert "may end" not in text


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("0.009", "is expected to end before the run does"),
        ("0.012", "may end before the run does"),
        ("0.013", None),
    ],
)
def test_a_budget_that_may_not_do_is_told(budget: str, words: str | None) -> None:
    text = printed(view(budget_glm=Decimal(budget)))
    assert (words in text) if words else ("end before" not in text)


def test_what_a_benchmark_cost_is_told() -> None:
    text = printed(view(measured={"0xa": 3, "0xb": 4}, measured_glm=Decimal("0.002")))
    assert "7 orders by 2 providers for 0.002 GLM" in text


def test_json_has_it_all() -> None:
    document = json.loads(quote_json(view(measured={"0xa": 3}, measured_glm=Decimal("0.002"))))
    assert document["glm"] == {"low": 0.008, "expected": 0.01, "high": 0.013}
    assert document["wall_seconds"]["expected"] == 61.0
    assert document["providers"][0] == {
        "name": "oak",
        "source": "recorded",
        "order_seconds": 2.0,
        "orders": 10,
        "glm": 0.004,
    }
    assert document["assumptions"] == ["one", "two"]
    assert (document["steps"], document["budget_glm"]) == (20_000, "1")
    assert (document["measured_orders"], document["measured_glm"]) == ({"0xa": 3}, "0.002")


@pytest.mark.parametrize(
    ("actual", "words", "error", "is_within"),
    [
        (0.008, "0.01 GLM (25% too much)", 0.25, True),
        (0.0125, "0.01 GLM (20% too little)", -0.2, True),
        (0.02, "0.01 GLM (50% too little)", -0.5, False),
        (0.01, "0.01 GLM (right)", 0.0, True),
        (0.0, "0.01 GLM,", None, False),
    ],
)
def test_how_far_off_a_quote_was(
    actual: float, words: str, error: float | None, is_within: bool
) -> None:
    outcome = QuoteOutcome(5, Miss(GLM, actual), Miss(WALL, 61.0))
    assert outcome_text(outcome).startswith(words)
    assert outcome_text(outcome).endswith("1:01 (right)")
    record = outcome_record(outcome)["glm"]
    assert (record["error"], record["is_within"]) == (error, is_within)
    assert (record["expected"], record["actual"]) == (0.01, actual)
