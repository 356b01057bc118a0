"""The account with each provider, for people and as data."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.money.statement import Statement, make_statement
from requestor.reporting.money_view import MAX_REFUSALS, money_record, print_money


def approve(ledger: Ledger, agreement: str, name: str, provider: str) -> None:
    ledger.approve(
        agreement,
        provider_id=provider,
        provider_name=name,
        threads=1,
        prices=Prices(hour_glm=Decimal("0.1")),
        approved_unix_seconds=10.0,
    )


def done(ledger: Ledger, agreement: str, steps: int, seconds: float) -> None:
    ledger.write(
        "work_done",
        agreement_id=agreement,
        round=0,
        client=0,
        outcome="counted",
        steps=steps,
        seconds=seconds,
    )


@pytest.fixture
def statement(tmp_path: Path) -> Statement:
    ledger = Ledger(tmp_path / "ledger.jsonl", lambda: 20.0)
    ledger.write("allocation_intended", amount_glm="0.5", budget_glm="0.5")
    ledger.write("allocation_created", allocation_id="A", amount_glm="0.5")
    approve(ledger, "g1", "willow", "0xaaaa1111")
    approve(ledger, "g2", "willow", "0xbbbb2222")
    approve(ledger, "g3", "gr\x1b[2Jeedy", "0xcccc3333")
    done(ledger, "g1", 400_000, 61.0)
    done(ledger, "g2", 100_000, 30.0)
    ledger.write("invoice_accepted", agreement_id="g1", total_glm="0.002")
    ledger.write("bill_put_off", agreement_id="g2", asked_glm="0.01", reason="budget")
    ledger.write(
        "bill_refused",
        agreement_id="g3",
        bill="invoice",
        asked_glm="1000000",
        bound_glm="0.003",
        reason="at most 0.003000000 GLM can be due",
    )
    ledger.close()
    return make_statement(read_entries(ledger.path))


def printed(statement: Statement, width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    print_money(statement, Console(file=stream, width=width, color_system=None))
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_a_line_for_each_provider_and_for_each_refusal(statement: Statement) -> None:
    text = printed(statement, 110)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "provider agreements asked paid orders steps work GLM/M steps" in rows
    # 0.002 GLM for 400,000 steps
    assert "willow 0xaaaa 1 0.002 0.002 1 400,000 1:01 0.005" in rows
    assert "willow 0xbbbb 1 0.01 0 1 100,000 0:30 0" in rows
    assert "total 3 1000000.012 0.002 2 500,000 1:31 0.004" in rows
    assert (
        "0.002 GLM accepted of a budget of 0.5 · 1 allocation · 1 of them open · "
        "0.01 GLM owed beyond the budget"
    ) in rows
    assert (
        "gr [2Jeedy: invoice over 1000000 GLM not accepted: at most 0.003000000 GLM can be due"
    ) in rows
    assert "\x1b" not in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits(statement: Statement, width: int, encoding: str) -> None:
    lines = printed(statement, width, encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert any("0.005" in line for line in lines)


def test_of_very_many_refusals_the_first_are_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", lambda: 20.0)
    approve(ledger, "g1", "oak", "0xa")
    for number in range(MAX_REFUSALS + 5):
        ledger.write(
            "bill_refused",
            agreement_id="g1",
            bill="debit note",
            asked_glm=str(number + 1),
            bound_glm="0",
            reason="no",
        )
    ledger.close()
    text = printed(make_statement(read_entries(ledger.path)), 100)
    assert text.count("not accepted") == MAX_REFUSALS
    assert "and 5 more; --json has them all" in text


def test_the_data_are_exact(statement: Statement) -> None:
    record = json.loads(json.dumps(money_record(statement)))
    assert (record["budget_glm"], record["accepted_glm"], record["owed_glm"]) == (
        "0.5",
        "0.002",
        "0.01",
    )
    first, second, third = record["providers"]
    assert (first["steps"], first["glm_per_million_steps"]) == (400_000, "0.005")
    assert [one["agreements"][0]["state"] for one in (first, second, third)] == [
        "paid",
        "owed",
        "refused",
    ]
    assert third["agreements"][0]["refused_bills"][0]["asked_glm"] == "1000000"


def test_an_empty_account_says_so() -> None:
    assert "nothing was rented" in printed(Statement(), 80)
