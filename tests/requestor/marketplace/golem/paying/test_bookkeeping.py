"""From yapapi's events to ledger and guard."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from ya_payment.exceptions import ApiException
from yapapi import events

from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.money.ledger import Ledger, read_ledger
from requestor.marketplace.money.spending import BILL_ROUNDING_GLM, SpendingGuard

api_error: Any = ApiException


def agreement(agreement_id: str = "g1", name: str = "willow") -> Any:
    """An agreement as yapapi hands it over: 3.6 GLM an hour of duration, 0.1 at the start."""
    properties = {
        "golem.com.pricing.model": "linear",
        "golem.com.scheme": "payu",
        "golem.com.pricing.model.linear.coeffs": [0.001, 0.1],
        "golem.com.usage.vector": ["golem.usage.duration_sec"],
        "golem.node.id.name": name,
        "golem.inf.cpu.threads": 2,
        "golem.com.payment.platform.erc20-hoodi-tglm.address": f"0xWallet-{agreement_id}",
    }
    offer = SimpleNamespace(properties=properties, provider_id=f"0x{agreement_id}")
    demand = SimpleNamespace(
        properties={
            "golem.srv.comp.expiration": 2_000_500,
            "golem.com.payment.chosen-platform": "erc20-hoodi-tglm",
        }
    )
    details = SimpleNamespace(raw_details=SimpleNamespace(offer=offer, demand=demand))
    return SimpleNamespace(id=agreement_id, details=details)


def event(kind: type[events.Event], **fields: Any) -> events.Event:
    """An event of yapapi's; the fields that nobody reads are None."""
    made = object.__new__(kind)
    for name, value in {"agreement": agreement(), **fields}.items():
        object.__setattr__(made, name, value)
    return made


class Office:
    """A bookkeeper with its books and its clock."""

    def __init__(self, path: Path) -> None:
        self.now = 50.0
        self.notices: list[str] = []
        self.guard = SpendingGuard(Decimal(10))
        self.ledger = Ledger(path, lambda: 1000.0 + self.now)
        self.books = Bookkeeper(
            self.ledger,
            self.guard,
            self.notices.append,
            clock=lambda: self.now,
            unix_clock=lambda: 1000.0 + self.now,
        )

    def on(self, kind: type[events.Event], **fields: Any) -> None:
        """Let an event happen."""
        self.books.on_event(event(kind, **fields))

    def invoice(self, amount: str) -> dict[str, Any]:
        """The fields of an event about an invoice."""
        return {"invoice": SimpleNamespace(invoice_id="i1", agreement_id="g1", amount=amount)}

    def acceptable(self) -> Decimal:
        """The most that a bill of the agreement may ask for."""
        return self.guard.acceptable_glm("g1", self.now)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path / "ledger.jsonl")
    opened.on(events.AgreementConfirmed)
    yield opened
    opened.ledger.close()


def test_a_confirmed_agreement_opens_an_account_once(office: Office) -> None:
    office.now = 60.0
    office.on(events.AgreementConfirmed)
    account = office.books.account_of("g1")
    assert account.approved_seconds == 50.0
    assert account.prices.hour_glm == Decimal("3.6")
    assert (account.provider_id, account.threads) == ("0xg1", 2)
    entry = office.ledger.approvals["g1"]
    assert (entry.approved_unix_seconds, entry.expires_unix_seconds) == (1050.0, 2000.5)
    assert (entry.platform, entry.payee) == ("erc20-hoodi-tglm", "0xWallet-g1")
    assert office.ledger.path.read_bytes().count(b"agreement_approved") == 1


def test_a_life_from_approval_to_payment(office: Office) -> None:
    office.on(events.ActivityCreated, activity=SimpleNamespace(id="a1"))
    assert list(office.books.live_activities()) == [("g1", "a1")]
    office.now = 150.0
    office.books.usage_reported("g1", [99.0])
    # 0.1 + 99 * 0.001, and 3 s of slack; by the clock it would be 0.1 + 103 * 0.001
    assert office.acceptable() == Decimal("0.202") + BILL_ROUNDING_GLM
    note = SimpleNamespace(
        debit_note_id="n1", agreement_id="g1", activity_id="a1", total_amount_due="0.15"
    )
    office.on(events.DebitNoteAccepted, debit_note=note)
    office.on(events.AgreementTerminated)
    assert list(office.books.live_activities()) == []
    assert office.books.unpaid() == ["willow"]
    office.now = 9000.0
    assert office.acceptable() == Decimal("0.202") + BILL_ROUNDING_GLM
    office.on(events.InvoiceReceived, **office.invoice("0.2"))
    office.on(events.InvoiceAccepted, **office.invoice("0.2"))
    assert office.books.unpaid() == []
    assert office.guard.accepted_glm == Decimal("0.2")
    summary = read_ledger(office.ledger.path)
    assert summary.accepted_glm == {"g1": Decimal("0.2")}
    assert not summary.open_agreements
    assert office.ledger.endings == {"g1": 1150.0}


def test_a_finished_worker_is_asked_for_usage_no_more(office: Office) -> None:
    office.on(events.ActivityCreated, activity=SimpleNamespace(id="a1"))
    office.on(events.WorkerFinished)
    assert list(office.books.live_activities()) == []


def test_usage_of_an_agreement_we_do_not_know_is_no_concern_of_ours(office: Office) -> None:
    office.books.usage_reported("foreign", [1.0])
    assert "foreign" not in office.guard.accounts


def test_activities_are_written_down_and_each_has_its_meter(office: Office) -> None:
    office.on(events.ActivityCreated, activity=SimpleNamespace(id="a1"))
    office.now = 200.0
    office.books.usage_reported("g1", [40.0])
    office.on(events.WorkerFinished)
    office.on(events.ActivityCreated, activity=SimpleNamespace(id="a2"))
    office.now = 220.0
    office.books.usage_reported("g1", [10.0])
    assert office.ledger.summary.activities == {"g1": ["a1", "a2"]}
    account = office.books.account_of("g1")
    # 0.1 + 40 * 0.001, and 0.1 + 10 * 0.001: a start price for each
    assert account.reported_glm == Decimal("0.25")
    # nobody knows what was used in the 20 s between the reports; 3 s of slack for each
    assert office.acceptable() == Decimal("0.25") + 26 * Decimal("0.001") + BILL_ROUNDING_GLM


def failed_payment() -> dict[str, Any]:
    """The fields of an event about a payment that failed."""
    error = ValueError("no allocation\nfor \x1b[2Jit")
    return {"exc_info": (ValueError, error, None)}


def test_a_note_that_could_not_be_paid_leaves_the_account_open(office: Office) -> None:
    office.on(events.PaymentFailed, **failed_payment())
    assert office.books.unpaid() == ["willow"]
    assert office.guard.exposure_glm(100.0) > Decimal("0.1")
    assert office.ledger.summary.refused_agreements == set()
    assert len(office.ledger.summary.failed_payments) == 1


def test_an_invoice_that_could_not_be_paid_settles_the_account(office: Office) -> None:
    office.on(events.InvoiceReceived, **office.invoice("0.2"))
    office.on(events.PaymentFailed, **failed_payment())
    assert office.books.unpaid() == []
    assert office.ledger.summary.refused_agreements == {"g1"}
    assert len(office.notices) == 1
    assert office.notices[0].startswith("willow: a bill could not be paid: no allocation")
    assert office.notices[0].isprintable()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        aiohttp.ClientConnectionError("reset by peer"),
        TimeoutError(),
        api_error(503),
    ],
)
def test_an_invoice_that_may_be_paid_later_stays_owed(office: Office, error: Exception) -> None:
    office.on(events.InvoiceReceived, **office.invoice("0.2"))
    office.on(events.PaymentFailed, exc_info=(type(error), error, None))
    assert office.ledger.summary.refused_agreements == set()
    assert office.guard.exposure_glm(100.0) > Decimal("0.1")
    assert office.books.put_off == {"g1"}
    assert office.books.unpaid() == []  # yapapi will not pay it: there is nothing to wait for
    assert office.notices[0].endswith("(it will be tried again)")
    office.on(events.InvoiceAccepted, **office.invoice("0.2"))
    assert not office.books.put_off


def test_two_providers_of_one_name_are_two(office: Office) -> None:
    office.on(events.AgreementConfirmed, agreement=agreement("g2"))
    assert office.books.unpaid() == ["willow", "willow"]
