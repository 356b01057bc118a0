"""Every kind of wrong bill: it costs nothing, stands in the ledger, and is told once."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ya_payment.exceptions import ApiException

from requestor.marketplace.golem.daemon.api import DaemonError
from requestor.marketplace.golem.paying.auditing import (
    FLOOD_NOTES,
    BillAuditor,
)
from requestor.marketplace.golem.paying.payment_failures import lacks_funds, may_pass
from requestor.marketplace.golem.paying.yapapi_bills import invoice_bill
from requestor.marketplace.money.bills import Parties
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import BillRefused, read_entries
from requestor.marketplace.money.spending import BILL_ROUNDING_GLM, Account, Prices, SpendingGuard

PLATFORM = "erc20-hoodi-tglm"
PRICES = Prices(Decimal("0.1"), Decimal(0), Decimal("3.6"))
"""0.1 GLM at the start, 0.001 a second."""


class Desk:
    """An auditor of one agreement, `g1` with activity `a1`, 100 s after its approval."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self.notices: list[str] = []
        self.guard = SpendingGuard(Decimal(1))
        self.ledger = Ledger(path, lambda: 5000.0 + self.now)
        self.auditor = BillAuditor(
            self.ledger, self.guard, self.notices.append, clock=lambda: self.now
        )
        self.open("g1", "willow", "a1")

    def open(self, agreement: str, name: str, *activities: str, threads: int = 1) -> None:
        """An agreement approved at 0 s."""
        self.ledger.approve(
            agreement,
            provider_id=f"0x{name}",
            provider_name=name,
            threads=threads,
            prices=PRICES,
            approved_unix_seconds=5000.0,
        )
        self.guard.open_account(Account(agreement, f"0x{name}", PRICES, threads, 0.0))
        parties = Parties(f"0x{name}", payee=f"0xPay-{name}", payer="0xMe", platform=PLATFORM)
        self.auditor.expect(agreement, name, parties)
        for activity in activities:
            self.auditor.activity_begun(agreement, activity)

    def invoice(self, amount: str, **changes: Any) -> bool:
        """Let an invoice come, as yapapi handles it (`invoice_manager.py`); is it accepted?"""
        bill = SimpleNamespace(**{**self.common(), "invoice_id": "i1", "amount": amount, **changes})
        self.auditor.invoice_received(bill)
        if not self.auditor.judge_invoice(bill) >= Decimal(amount):
            return False
        self.auditor.invoice_accepted(bill)
        return True

    def note(self, amount: str, **changes: Any) -> bool:
        """Let a debit note come, as yapapi handles it (`engine.py`)."""
        fields = {"debit_note_id": f"n{self.now}", "activity_id": "a1", "payment_due_date": None}
        bill = SimpleNamespace(**{**self.common(), **fields, "total_amount_due": amount, **changes})
        self.auditor.debit_note_received(bill)
        if not self.auditor.judge_debit_note(bill) >= Decimal(amount):
            return False
        self.auditor.debit_note_accepted(bill)
        return True

    def common(self) -> dict[str, Any]:
        """What an invoice and a note of the agreement both say."""
        return {
            "agreement_id": "g1",
            "issuer_id": "0xwillow",
            "recipient_id": "0xMe",
            "payee_addr": "0xPAY-willow",
            "payer_addr": "0xme",
            "payment_platform": PLATFORM,
        }

    @property
    def refused(self) -> list[BillRefused]:
        """What the ledger says was refused."""
        return self.ledger.summary.refused


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path / "ledger.jsonl")
    yield opened
    opened.ledger.close()


# --- amounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["0", "0.2", "0.203", "0.203000001000000000"])
def test_what_can_be_due_is_accepted(desk: Desk, amount: str) -> None:
    # 0.1 + (100 + 3) * 0.001, and 1e-9 for rounding
    assert desk.note(amount)
    assert desk.invoice(amount)
    assert not desk.notices
    assert desk.ledger.summary.accepted_glm == {"g1": Decimal(amount)}
    assert desk.auditor.is_closed("g1")


@pytest.mark.parametrize("amount", ["0.203000001000000001", "99999"])
def test_over_billing_is_refused_and_told(desk: Desk, amount: str) -> None:
    assert not desk.note(amount)
    assert not desk.invoice(amount)
    assert [entry.bill for entry in desk.refused] == ["debit note", "invoice"]
    assert [entry.asked_glm for entry in desk.refused] == [Decimal(amount)] * 2
    for notice, kind in zip(desk.notices, ("debit note", "invoice"), strict=True):
        assert notice == (
            f"willow: {kind} over {Decimal(amount):.9f} GLM refused, "
            "at most 0.203000001 GLM can be due"
        )
    assert desk.ledger.summary.refused_agreements == {"g1"}
    assert desk.auditor.is_closed("g1")
    assert desk.guard.exposure_glm(1e6) == 0


@pytest.mark.parametrize("amount", ["-0.1", "1e9999999", "1e-9999999", "Infinity", "-5"])
def test_what_is_no_amount_is_refused_in_few_words(desk: Desk, amount: str) -> None:
    assert not desk.note(amount)
    assert not desk.invoice(amount)
    assert [entry.reason for entry in desk.refused] == ["that is no amount"] * 2
    assert desk.ledger.path.stat().st_size < 3000
    assert all(len(notice) < 200 for notice in desk.notices)
    assert len(desk.notices) == 2


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "much", "", "9" * 1_000_000])
def test_what_is_no_number_is_refused(desk: Desk, amount: str) -> None:
    bill = SimpleNamespace(**desk.common(), invoice_id="i1", amount=amount)
    desk.auditor.invoice_received(bill)
    assert desk.auditor.judge_invoice(bill) == Decimal("-Infinity")
    desk.auditor.payment_failed("g1", ValueError("yapapi compares it all the same"))
    assert len(desk.refused) == len(desk.notices) == 1
    assert not desk.ledger.summary.failed_payments
    assert desk.ledger.path.stat().st_size < 3000


def test_what_the_budget_does_not_carry_stays_owed(desk: Desk) -> None:
    desk.open("g2", "oak")
    desk.guard.accepted("g2", Decimal("0.9"), is_final=True)
    assert not desk.note("0.15")
    assert "the budget of 1 GLM does not carry it" in desk.notices[0]
    assert not desk.invoice("0.15")
    assert desk.auditor.put_off == {"g1"}
    assert desk.auditor.is_closed("g1")  # there is nothing to wait for
    assert desk.ledger.summary.put_off_glm == {"g1": Decimal("0.15")}
    assert desk.ledger.summary.refused_agreements == set()
    assert "stays unpaid" in desk.notices[1]
    assert desk.guard.exposure_glm(100.0) > Decimal("1.1")


# --- parties ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payment_platform": "erc20-holesky-tglm"}, "it is for erc20-holesky-tglm, agreed was"),
        ({"payer_addr": "0xother"}, "it is for another payer, 0xother"),
        ({"issuer_id": "0xother"}, "it is from another node, 0xother"),
        ({"payee_addr": "0xthief\x1b[2J"}, "it is to be paid to 0xthief[2J, its offer says"),
    ],
)
def test_a_bill_of_others_is_refused_once_for_each_kind(
    desk: Desk, change: dict[str, str], reason: str
) -> None:
    for _ in range(3):
        desk.now += 10
        assert not desk.note("0.15", **change)
    assert not desk.invoice("0.15", **change)
    # yapapi finds no allocation for some of them, and tells of that
    desk.auditor.payment_failed("g1", ValueError("No allocation for it."))
    assert {entry.reason.startswith(reason) for entry in desk.refused} == {True}
    assert len(desk.refused) == 4
    assert len(desk.notices) == 2
    assert all(notice.isprintable() for notice in desk.notices)
    assert not desk.ledger.summary.accepted_glm
    assert not desk.ledger.summary.failed_payments


def test_a_bill_of_an_agreement_that_is_not_ours_is_left_alone(desk: Desk) -> None:
    assert not desk.invoice("0.15", agreement_id="foreign")
    assert not desk.note("0.15", agreement_id="foreign")
    assert not desk.notices
    assert not desk.refused


def test_a_second_invoice_is_refused_whether_the_first_was_paid_or_not(desk: Desk) -> None:
    assert desk.invoice("0.15")
    bill = SimpleNamespace(**desk.common(), invoice_id="i2", amount="0.15")
    desk.auditor.invoice_received(bill)
    desk.auditor.invoice_received(bill)
    assert [(entry.bill_id, entry.closes) for entry in desk.refused] == [("i2", False)]
    assert desk.notices == [
        "willow: invoice over 0.150000000 GLM refused: it is the agreement's second"
    ]
    assert desk.ledger.summary.accepted_glm == {"g1": Decimal("0.15")}


# --- debit notes -----------------------------------------------------------------------------


def test_notes_are_cumulative(desk: Desk) -> None:
    assert desk.note("0.15")
    desk.now += 10
    assert not desk.note("0.149999999")
    assert "0.150000000 GLM were accepted before" in desk.notices[0]
    desk.now += 10
    assert desk.note("0.15")
    assert desk.ledger.summary.total_glm == Decimal("0.15")


def test_the_notes_of_all_activities_together_stay_below_the_bound(desk: Desk) -> None:
    desk.auditor.activity_begun("g1", "a2")
    # two start prices and 103 s of 0.001: 0.303
    assert desk.note("0.2")
    assert not desk.note("0.104", activity_id="a2", debit_note_id="too much")
    desk.now += 1.5
    assert desk.note("0.1", activity_id="a2")
    assert desk.ledger.summary.accepted_glm == {"g1": Decimal("0.3")}
    assert desk.ledger.summary.notes_glm == {"g1": {"a1": Decimal("0.2"), "a2": Decimal("0.1")}}
    assert desk.guard.accepted_glm == Decimal("0.3")
    assert desk.invoice("0.304")


def test_a_note_for_an_activity_that_we_did_not_begin_is_refused(desk: Desk) -> None:
    assert not desk.note("0.11", activity_id="a9")
    assert "an activity that we did not begin" in desk.notices[0]


def test_a_note_after_the_invoice_is_refused(desk: Desk) -> None:
    assert desk.invoice("0.15")
    assert not desk.note("0.151")
    assert "the agreement is settled" in desk.notices[0]


def test_of_a_flood_one_a_second_is_accepted(desk: Desk) -> None:
    accepted = 0
    for _ in range(100):
        desk.now += 0.1
        accepted += desk.note("0.15")
    assert 9 <= accepted <= 11
    assert desk.notices == [
        "willow: it sends many debit notes; one a second is answered, the rest costs nothing"
    ]
    desk.auditor.agreement_ended("g1")
    last = list(read_entries(desk.ledger.path))[-1]
    assert (type(last).__name__, getattr(last, "count", 0)) == ("DebitNotesSkipped", 100 - accepted)
    assert 100 - accepted > FLOOD_NOTES


def test_a_note_to_be_paid_at_once_is_never_left_out(desk: Desk) -> None:
    assert desk.note("0.15")
    assert not desk.note("0.151")
    assert desk.note("0.152", payment_due_date="2026-11-20T12:00:00Z")
    assert not desk.note("9", payment_due_date="2026-11-20T12:00:00Z", debit_note_id="n9")
    (paid,) = [
        entry for entry in read_entries(desk.ledger.path) if getattr(entry, "is_payable", False)
    ]
    assert getattr(paid, "total_glm", None) == Decimal("0.152")


def test_an_agreement_that_is_taken_up_again_goes_on_where_it_was(desk: Desk) -> None:
    assert desk.note("0.15")
    guard = SpendingGuard(
        Decimal(1), Decimal("0.15"), owed_before_glm=desk.ledger.summary.owed_glm(5100.0)
    )
    assert guard.owed_before_glm == {"g1": Decimal("0.053") + BILL_ROUNDING_GLM}
    auditor = BillAuditor(desk.ledger, guard, desk.notices.append, clock=lambda: desk.now)
    account = Account("g1", "0xwillow", PRICES, 1, 0.0, accepted_glm=Decimal("0.15"))
    guard.open_account(account)
    auditor.expect("g1", "willow", Parties("0xwillow"))
    assert guard.owed_before_glm == {}
    assert guard.accepted_glm == Decimal("0.15")
    desk.guard, desk.auditor, desk.now = guard, auditor, 120.0
    assert not desk.note("0.14")
    desk.now += 2
    assert desk.note("0.2")
    assert guard.accepted_glm == desk.ledger.summary.total_glm == Decimal("0.2")


# --- what the daemon would not accept ----------------------------------------------------------

api_error: Any = ApiException


def api_answer(status: int, message: str) -> Any:
    """An answer as ya_payment hands it over."""
    error = api_error(status=status)
    error.body = f'{{"message": "{message}"}}'
    return error


@pytest.mark.parametrize(
    ("error", "passes", "wants_money"),
    [
        (api_answer(400, "Not enough funds. Allocated: 0.1 Needed: 0.2"), True, True),
        (api_answer(400, "Allocation 8d0c-11 not found"), True, True),
        (api_answer(410, "Allocation 8d0c-11 has been already released"), True, True),
        (DaemonError("POST accept", 400, "Not enough funds. Allocated: 0"), True, True),
        (api_answer(400, "Invalid amount accepted"), False, False),
        (api_answer(404, "null"), False, False),
        (api_answer(503, "later"), True, False),
        (ConnectionResetError("reset by peer"), True, False),
        (ValueError("No allocation for erc20-holesky-tglm 0xme."), False, False),
    ],
)
def test_a_bill_that_is_not_to_blame_may_be_paid_later(
    error: BaseException, passes: bool, wants_money: bool
) -> None:
    assert may_pass(error) is passes
    assert lacks_funds(error) is wants_money


def test_an_amount_is_read_from_yapapis_bill() -> None:
    bill = invoice_bill(SimpleNamespace(agreement_id="g1", amount="0.5"))
    assert (bill.asked_glm, bill.platform, bill.is_payable) == (Decimal("0.5"), None, False)


def test_an_invoice_under_the_id_of_a_refused_note_is_refused_all_the_same(desk: Desk) -> None:
    assert not desk.note("9", debit_note_id="i1")
    assert not desk.invoice("9")
    assert desk.auditor.is_closed("g1")
    assert [entry.bill for entry in desk.refused] == ["debit note", "invoice"]
