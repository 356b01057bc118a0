"""What a run's money was for, as it can be read from the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.money.statement import Statement, make_statement


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.jsonl", lambda: 100.0)
    yield opened
    opened.close()


def approve(ledger: Ledger, agreement: str, provider: str) -> None:
    """A free agreement with an activity."""
    ledger.approve(
        agreement,
        provider_id=f"0x{provider}",
        provider_name=provider,
        threads=1,
        prices=Prices(),
        approved_unix_seconds=90.0,
    )
    ledger.write("activity_created", agreement_id=agreement, activity_id=f"a-{agreement}")


def work(ledger: Ledger, agreement: str, outcome: str, steps: int, seconds: float) -> None:
    """An order that was answered."""
    ledger.write(
        "work_done",
        agreement_id=agreement,
        round=0,
        client=0,
        outcome=outcome,
        steps=steps,
        seconds=seconds,
    )


def state(ledger: Ledger) -> Statement:
    """The statement of what was written so far."""
    return make_statement(read_entries(ledger.path))


def test_the_price_of_a_providers_work(ledger: Ledger) -> None:
    ledger.write("allocation_intended", amount_glm="0.9", budget_glm="1")
    ledger.write("allocation_created", allocation_id="A", amount_glm="0.9")
    for agreement, provider in (("g1", "willow"), ("g2", "oak"), ("g3", "willow")):
        approve(ledger, agreement, provider)
    work(ledger, "g1", "counted", 2000, 2.0)
    work(ledger, "g1", "late", 1000, 1.5)
    work(ledger, "g3", "counted", 3000, 2.5)
    work(ledger, "g3", "failed", 0, 0.25)
    work(ledger, "g2", "refused", 0, 4.0)
    work(ledger, "unknown", "counted", 7, 1.0)
    ledger.write("debit_note_accepted", agreement_id="g1", total_glm="0.01", is_payable=True)
    ledger.write("debit_note_accepted", agreement_id="g1", total_glm="0.015")
    ledger.write("debit_notes_skipped", agreement_id="g1", count=12)
    ledger.write("invoice_received", agreement_id="g1", invoice_id="i1", total_glm="0.02")
    ledger.write("invoice_accepted", agreement_id="g1", total_glm="0.02")
    ledger.write("agreement_ended", agreement_id="g1")
    ledger.write("debit_note_accepted", agreement_id="g3", total_glm="0.005")
    statement = state(ledger)
    assert statement.budget_glm == 1
    assert (statement.allocations, statement.open_allocations) == (1, {"A"})
    willow, oak = statement.providers
    assert (willow.provider_id, willow.name, len(willow.agreements)) == ("0xwillow", "willow", 2)
    assert willow.accepted_glm == willow.asked_glm == Decimal("0.025")
    assert (willow.work.orders, willow.work.late_orders, willow.work.failed_orders) == (2, 1, 1)
    assert (willow.work.steps, willow.work.late_steps, willow.work.seconds) == (5000, 1000, 6.25)
    # 0.025 GLM for 5,000 steps
    assert willow.glm_per_million_steps == 5
    assert oak.glm_per_million_steps is None
    assert (oak.work.failed_orders, oak.work.seconds) == (1, 4.0)
    first = statement.agreements["g1"]
    assert (first.debit_notes, first.debit_notes_skipped, first.activities) == (2, 12, 1)
    assert first.interim_glm == Decimal("0.01")
    assert statement.accepted_glm == Decimal("0.025")
    assert statement.owed_glm == 0


def test_where_the_money_of_an_agreement_stands(ledger: Ledger) -> None:
    for name in ("open", "paid", "owed", "refused", "failed", "unbilled", "doubled"):
        approve(ledger, name, name)
        if name != "open":
            ledger.write("agreement_ended", agreement_id=name)
    ledger.write("invoice_accepted", agreement_id="paid", total_glm="0.2")
    ledger.write("debit_note_accepted", agreement_id="owed", total_glm="0.05")
    ledger.write("bill_put_off", agreement_id="owed", asked_glm="0.3", reason="budget")
    ledger.write("invoice_received", agreement_id="refused", invoice_id="i", total_glm="1e9999")
    ledger.write(
        "bill_refused", agreement_id="refused", bill="invoice", asked_glm="9", bound_glm="0.1"
    )
    ledger.write("payment_failed", agreement_id="failed", bill="invoice", reason="404")
    ledger.write("payment_failed", agreement_id="unbilled", bill="debit note", reason="404")
    ledger.write("invoice_accepted", agreement_id="doubled", total_glm="0.1")
    ledger.write(
        "bill_refused",
        agreement_id="doubled",
        bill="invoice",
        asked_glm="0.1",
        reason="it is the agreement's second",
        closes=False,
    )
    statement = state(ledger)
    states = {name: one.state for name, one in statement.agreements.items()}
    assert states == {
        "open": "open",
        "paid": "paid",
        "owed": "owed",
        "refused": "refused",
        "failed": "refused",
        "unbilled": "unbilled",
        "doubled": "paid",
    }
    assert statement.owed_glm == Decimal("0.25")
    assert statement.accepted_glm == Decimal("0.35")
    refused = statement.agreements["refused"]
    assert refused.asked_glm == 9
    assert len(statement.agreements["doubled"].refusals) == 1
    ledger.write("invoice_accepted", agreement_id="owed", total_glm="0.3")
    assert state(ledger).agreements["owed"].state == "paid"
    assert state(ledger).owed_glm == 0


def test_an_empty_ledger_has_an_empty_statement(tmp_path: Path) -> None:
    statement = make_statement(read_entries(tmp_path / "none.jsonl"))
    assert statement.providers == []
    assert statement.accepted_glm == statement.owed_glm == 0


def test_interim_payments_are_those_of_the_activities_that_asked_for_them(ledger: Ledger) -> None:
    approve(ledger, "g1", "willow")
    for total, note, activity, is_payable in (
        ("5", "5", "a1", False),  # paid with the invoice
        ("6", "1", "a2", True),
        ("8", "3", "a2", True),  # of the whole activity: 2 more than before
        ("9", "4", "a2", False),
    ):
        ledger.write(
            "debit_note_accepted",
            agreement_id="g1",
            total_glm=total,
            note_glm=note,
            activity_id=activity,
            is_payable=is_payable,
        )
    agreement = state(ledger).agreements["g1"]
    assert agreement.accepted_glm == 9
    assert agreement.interim_glm == 3
