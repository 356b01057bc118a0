"""What providers ask that bill wrongly, and what they are paid: one table, made by one session.

The same on the mock daemon and (marked `testnet`) on a real yagna. Run with `-s` to see the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import pytest_asyncio
from rich.console import Console
from rich.table import Table

from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi
from requestor.marketplace.golem.daemon.private_daemon import private_daemon
from requestor.marketplace.money.bills import Bill, read_bill
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.money.statement import make_statement
from requestor.mock_golem.money import add

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import Market

pytestmark = pytest.mark.asyncio

START_GLM = Decimal("0.02")
ORDERS = 24
FAULTS = {
    "honest": "",
    "invoice-tenfold": "{kind: invoice_too_high, factor: 10}",
    "notes-tenfold": "{kind: debit_note_too_high, factor: 10}",
    "notes-backwards": "{kind: debit_note_backwards, after: 1}",
    "notes-payable": "{kind: debit_note_payable, after: 1, times: 1}",
    "notes-flood": "{kind: debit_note_flood, per_second: 20}",
    "other-platform": "{kind: invoice_wrong_platform}",
    "other-payee": "{kind: invoice_wrong_payee}",
    "invoice-twice": "{kind: duplicate_invoice}",
    "no-invoice": "{kind: no_invoice}",
}
WORDS = {
    "honest": "nothing wrong",
    "invoice-tenfold": "an invoice over ten times what is due",
    "notes-tenfold": "debit notes over ten times what is due",
    "notes-backwards": "debit notes below what was accepted",
    "notes-payable": "a debit note to be paid at once, not agreed",
    "notes-flood": "20 debit notes a second",
    "other-platform": "an invoice on another payment platform",
    "other-payee": "an invoice to be paid to another address",
    "invoice-twice": "the invoice twice",
    "no-invoice": "no invoice",
}


@dataclass(frozen=True)
class Row:
    """One provider's bills, over all its agreements. Amounts are in GLM."""

    provider: str
    notes: int
    notes_accepted: int
    notes_glm: Decimal
    invoices: int
    invoices_accepted: int
    invoices_glm: Decimal
    due_at_most_glm: Decimal
    paid_glm: Decimal
    said: str

    @property
    def asked_glm(self) -> Decimal:
        """The most that any of its bills asks, invoices taken together."""
        return max(self.notes_glm, self.invoices_glm)


def fleet_of(folder: Path, worker_path: str) -> Path:
    """Write a fleet of one provider for each kind of wrong bill."""
    price = f"{{start_glm: {START_GLM}, cpu_hour_glm: 0.1, hour_glm: 0.1}}"
    providers = "\n".join(
        f"  - {{name: {name}, price: {price}, faults: [{fault}], "
        "terms: {debit_note_interval_seconds: 1.2}}"
        for name, fault in FAULTS.items()
    )
    path = folder / "fleet.yaml"
    path.write_text(
        f"runtime: {{isolation: process, path: '{worker_path}'}}\nproviders:\n{providers}\n"
    )
    return path


@pytest_asyncio.fixture(params=["serve", pytest.param("testnet", marks=pytest.mark.testnet)])
async def market(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    worker_path: str,
    market_at: Callable[[Path, DaemonAddress], Market],
) -> AsyncIterator[Market]:
    """A daemon with that fleet: the mock, or a real yagna."""
    program: Literal["serve", "testnet"] = request.param
    state = tmp_path / "state"
    state.mkdir()
    async with AsyncExitStack() as stack:
        fleet = fleet_of(tmp_path, worker_path)
        log = tmp_path / "daemon.log"
        address = await stack.enter_async_context(private_daemon(fleet, state, log, None, program))
        yield market_at(tmp_path, address)


async def test_what_was_asked_and_what_was_paid(
    market: Market, request: pytest.FixtureRequest
) -> None:
    # a flood of notes keeps a real daemon busy for a while before it comes to the invoice
    patience_seconds = 30.0 if "testnet" in request.node.name else 3.0
    terms = {
        "providers": len(FAULTS),
        "budget_glm": Decimal(1),
        "ceilings": Prices(Decimal(1), Decimal(1), Decimal(1)),
        "deploy_timeout_seconds": 30.0,
        "invoice_timeout_seconds": patience_seconds,
    }
    async with market.rent(**terms) as pool, DaemonApi(market.address) as api:
        await market.work(pool, ORDERS)
        await until_billed(api, market)
    async with DaemonApi(market.address) as api:
        rows = [row async for row in read_rows(api, market)]
    show(rows)
    check(rows, market)


async def until_billed(api: DaemonApi, market: Market) -> None:
    """Wait until everybody has sent some debit notes."""
    async with asyncio.timeout(60.0):
        while True:
            notes = [read_bill("debit note", row) async for row in api.debit_notes(0.0)]
            names = [market.ledger.providers.get(note.agreement_id, "") for note in notes]
            if all(names.count(name) >= 3 for name in FAULTS if name != "notes-payable"):
                return
            await asyncio.sleep(0.2)


async def read_rows(api: DaemonApi, market: Market) -> AsyncIterator[Row]:
    """Read from the daemon, not from our ledger, what was asked and what is paid.

    (How many notes we accepted is from the ledger: a real daemon also calls those accepted that
    ask for no more than was accepted anyway.)
    """
    statement = make_statement(read_entries(market.folder / "ledger.jsonl"))
    notes = [(read_bill("debit note", row), row) async for row in api.debit_notes(0.0)]
    invoices = [(read_bill("invoice", row), row) for row in await api.invoices(0.0)]
    ledger = market.ledger
    for name in FAULTS:
        agreements = {key for key, provider in ledger.providers.items() if provider == name}
        own_notes = [(bill, row) for bill, row in notes if bill.agreement_id in agreements]
        own_invoices = [(bill, row) for bill, row in invoices if bill.agreement_id in agreements]
        told = [one for one in market.notices if one.startswith(f"{name}:")]
        told += [one for one in market.notices if one.startswith("no invoice") and name in one]
        yield Row(
            provider=name,
            notes=len(own_notes),
            notes_accepted=sum(statement.agreements[key].debit_notes for key in agreements),
            notes_glm=add(*(noted(key, own_notes) for key in agreements)),
            invoices=len(own_invoices),
            invoices_accepted=len(accepted(own_invoices)),
            invoices_glm=add(*(bill.asked_glm for bill, _ in own_invoices)),
            due_at_most_glm=add(
                *(ledger.account(key).bound_glm(ledger.endings[key]) for key in agreements)
            ),
            paid_glm=add(*(paid(key, own_notes, own_invoices) for key in agreements)),
            said=told[0].partition(": ")[2] or told[0] if told else "",
        )


def accepted(bills: list[tuple[Bill, dict[str, Any]]]) -> list[Bill]:
    return [bill for bill, row in bills if row["status"] in ("ACCEPTED", "SETTLED")]


def noted(agreement_id: str, notes: list[tuple[Bill, dict[str, Any]]]) -> Decimal:
    """The most that debit notes ask for an agreement (each activity's are cumulative)."""
    return max(
        (bill.asked_glm for bill, _ in notes if bill.agreement_id == agreement_id),
        default=Decimal(0),
    )


def paid(
    agreement_id: str,
    notes: list[tuple[Bill, dict[str, Any]]],
    invoices: list[tuple[Bill, dict[str, Any]]],
) -> Decimal:
    """What the daemon pays for an agreement: its invoice, or else what its notes add up to."""
    by_activity: dict[str, Decimal] = {}
    for note in accepted(notes):
        if note.agreement_id == agreement_id:
            before = by_activity.get(note.activity_id, Decimal(0))
            by_activity[note.activity_id] = max(before, note.asked_glm)
    whole = [one.asked_glm for one in accepted(invoices) if one.agreement_id == agreement_id]
    return max(add(*by_activity.values()), *whole, Decimal(0))


def show(rows: list[Row]) -> None:
    """Print the table, as Markdown and for the eye."""
    titles = ("what is wrong", "notes", "invoices", "asked", "due at most", "paid", "told")
    table = Table(*titles)
    print("\n| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for row in rows:
        cells = (
            WORDS[row.provider],
            f"{row.notes_accepted} of {row.notes}",
            f"{row.invoices_accepted} of {row.invoices}",
            f"{row.asked_glm:.6f}",
            f"{row.due_at_most_glm:.6f}",
            f"{row.paid_glm:.6f}",
            row.said,
        )
        table.add_row(*cells)
        print("| " + " | ".join(cells) + " |")
    Console(width=200).print(table)


def check(rows: list[Row], market: Market) -> None:
    by_name = {row.provider: row for row in rows}
    ledger = market.ledger
    for row in rows:
        assert row.paid_glm <= row.due_at_most_glm, row
        assert row.paid_glm >= START_GLM or row.provider in ("notes-tenfold",), row
    assert ledger.total_glm == sum((row.paid_glm for row in rows), Decimal(0)) <= 1
    assert not ledger.is_open
    honest = by_name["honest"]
    # on a busy machine a provider may be rented a second time: what counts is each agreement
    assert honest.invoices == honest.invoices_accepted >= 1
    assert honest.said == ""
    assert honest.paid_glm == honest.asked_glm
    tenfold = by_name["invoice-tenfold"]
    assert tenfold.invoices_accepted == 0 < tenfold.invoices
    assert tenfold.paid_glm < tenfold.asked_glm / 5
    assert "can be due" in tenfold.said
    notes = by_name["notes-tenfold"]
    assert notes.notes_accepted == 0
    # a provider's own daemon refuses to send an invoice below its debit notes
    assert notes.invoices == notes.paid_glm == 0
    assert "can be due" in notes.said
    backwards = by_name["notes-backwards"]
    assert backwards.notes_accepted < backwards.notes
    assert "notes are cumulative" in backwards.said
    payable = by_name["notes-payable"]
    assert payable.invoices_accepted == payable.invoices
    flood = by_name["notes-flood"]
    assert 1 <= flood.notes_accepted < flood.notes / 4
    assert "many debit notes" in flood.said
    twice = by_name["invoice-twice"]
    assert 2 * twice.invoices_accepted == twice.invoices >= 2
    assert twice.paid_glm < twice.asked_glm
    silent = by_name["no-invoice"]
    assert (silent.invoices, silent.said != "") == (0, True)
    for name, words in (("other-platform", "it is for"), ("other-payee", "it is to be paid to")):
        row = by_name[name]
        # a real daemon fills these in itself, from the agreement
        assert (row.invoices_accepted == 0 and words in row.said) or row.paid_glm == row.asked_glm
