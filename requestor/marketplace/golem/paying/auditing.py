"""The bills of a session: each is held against what was agreed, used, and timed by our own clock.

yapapi asks here what it may accept, and tells here what it did; ledger and guard are kept in step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon.failure_words import describe_failure
from requestor.marketplace.golem.paying.amounts import REFUSED_GLM, PlainDecimal
from requestor.marketplace.golem.paying.payment_failures import may_pass
from requestor.marketplace.golem.paying.yapapi_bills import debit_note_bill, invoice_bill
from requestor.marketplace.money.bills import Bill, BillKind, Parties, find_fault
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import ZERO, SpendingGuard, presentable_glm

NOTE_SECONDS = 1.0
"""Debit notes of one activity are accepted at most this often, those to be paid at once apart."""

FLOOD_NOTES = 20
"""So many notes left unanswered under one agreement are worth telling of."""

MAX_AMOUNT_CHARACTERS = 100


@dataclass
class _Claims:
    """What one agreement's provider has asked so far."""

    name: str
    parties: Parties
    activities: set[str] = field(default_factory=set)
    notes_glm: dict[str, Decimal] = field(default_factory=dict)
    """Accepted by debit notes, by activity."""

    noted_seconds: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    invoice_id: str | None = None
    is_refused: bool = False
    is_put_off: bool = False
    told: set[str] = field(default_factory=set)


class BillAuditor:
    """Judges the bills of the agreements that it was told to expect bills of.

    Nothing is accepted that is above what can be due or above the budget, twice, to another
    payee, or for another's work. Every refusal is in the ledger, and told once for its kind.
    """

    def __init__(
        self,
        ledger: Ledger,
        spending: SpendingGuard,
        notice: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """Write to `ledger` and `spending`; `clock` is the one of the accounts."""
        self._ledger = ledger
        self._spending = spending
        self._notice = notice
        self._clock = clock
        self._claims: dict[str, _Claims] = {}

    # --- what there is to expect ---------------------------------------------------------------

    def expect(self, agreement_id: str, name: str, parties: Parties) -> None:
        """Expect bills of an agreement whose account is open; `name` is the provider's."""
        self._claims[agreement_id] = _Claims(
            name,
            parties,
            activities=set(self._ledger.summary.activities.get(agreement_id, ())),
            notes_glm=dict(self._ledger.summary.notes_glm.get(agreement_id, {})),
        )

    def activity_begun(self, agreement_id: str, activity_id: str) -> None:
        """Expect debit notes of this activity."""
        claims = self._claims.get(agreement_id)
        if claims is not None:
            claims.activities.add(activity_id)
            self._spending.begin_activity(agreement_id, len(claims.activities))

    def agreement_ended(self, agreement_id: str) -> None:
        """Write down how many notes were left unanswered."""
        claims = self._claims.get(agreement_id)
        if claims is not None and claims.skipped:
            self._ledger.write(
                "debit_notes_skipped", agreement_id=agreement_id, count=claims.skipped
            )
            claims.skipped = 0

    def refuse_work(self, agreement_id: str) -> None:
        """Accept no bill of an agreement any more, as its ledger entry says; wait for none."""
        if agreement_id in self._spending.accounts:
            self._spending.refuse(agreement_id)

    def is_closed(self, agreement_id: str) -> bool:
        """Say whether no invoice is waited for: it is paid, refused, or cannot be paid now."""
        claims = self._claims.get(agreement_id)
        account = self._spending.accounts.get(agreement_id)
        return (claims is not None and claims.is_put_off) or (
            account is not None and account.is_settled
        )

    @property
    def put_off(self) -> frozenset[str]:
        """Agreements whose invoice is here and could not be paid for a reason that may pass."""
        return frozenset(name for name, claims in self._claims.items() if claims.is_put_off)

    # --- what yapapi asks ----------------------------------------------------------------------

    def judge_invoice(self, invoice: Any) -> Decimal:
        """Return what is accepted of yapapi's `Invoice`: all it asks, or less than any amount."""
        bill = invoice_bill(invoice)
        claims = self._claims.get(bill.agreement_id)
        if claims is None or claims.is_refused:
            return REFUSED_GLM
        fault = find_fault(bill, claims.parties) or self._work_fault(bill)
        bound = self._bound_glm(bill.agreement_id)
        if fault is not None or bill.asked_glm > bound:
            self._refuse(claims, bill, bound, fault)
            return REFUSED_GLM
        if bill.asked_glm > self._spending.affordable_glm(bill.agreement_id):
            self._put_off(claims, bill)
            return REFUSED_GLM
        return PlainDecimal(bill.asked_glm)

    def judge_debit_note(self, note: Any) -> Decimal:
        """Return what is accepted of yapapi's `DebitNote`, as for an invoice.

        Notes are cumulative, so that of a flood only one a second needs to be accepted. One that
        is to be paid at once is never left out: its provider counts on that payment.
        """
        bill = debit_note_bill(note)
        claims = self._claims.get(bill.agreement_id)
        if claims is None:
            return REFUSED_GLM
        if self._is_surplus(claims, bill):
            return REFUSED_GLM
        fault = find_fault(bill, claims.parties) or self._note_fault(claims, bill)
        others = sum(
            (glm for name, glm in claims.notes_glm.items() if name != bill.activity_id), ZERO
        )
        bound = self._bound_glm(bill.agreement_id) - others
        affordable = self._spending.affordable_glm(bill.agreement_id) - others
        if fault is None and bound >= bill.asked_glm > affordable:
            fault = f"the budget of {self._spending.budget_glm:f} GLM does not carry it"
        if fault is not None or bill.asked_glm > bound:
            self._refuse(claims, bill, bound, fault)
            return REFUSED_GLM
        return PlainDecimal(bill.asked_glm)

    # --- what yapapi tells ---------------------------------------------------------------------

    def invoice_received(self, invoice: Any) -> None:
        """Enter an invoice. yapapi looks at an agreement's first one only."""
        bill = invoice_bill(invoice)
        claims = self._claims.get(bill.agreement_id)
        if claims is None:
            return
        self._ledger.write(
            "invoice_received",
            agreement_id=bill.agreement_id,
            invoice_id=bill.bill_id,
            total_glm=str(invoice.amount)[:MAX_AMOUNT_CHARACTERS],
        )
        if claims.invoice_id is not None:
            if claims.invoice_id != bill.bill_id:
                reason = "it is the agreement's second"
                self._refuse(claims, bill, ZERO, reason, closes=False)
            return
        claims.invoice_id = bill.bill_id
        self._refuse_strange(claims, bill)

    def debit_note_received(self, note: Any) -> None:
        """Look whether a note is one of the agreement's at all: yapapi fails over some that are
        not before it asks."""
        bill = debit_note_bill(note)
        claims = self._claims.get(bill.agreement_id)
        if claims is not None:
            self._refuse_strange(claims, bill)

    def invoice_accepted(self, invoice: Any) -> None:
        """Enter that the invoice was accepted."""
        bill = invoice_bill(invoice)
        claims = self._claims.get(bill.agreement_id)
        if claims is not None:
            claims.is_put_off = False
        self._ledger.write(
            "invoice_accepted",
            agreement_id=bill.agreement_id,
            total_glm=f"{bill.asked_glm:f}",
            bill_id=bill.bill_id,
        )
        if bill.agreement_id in self._spending.accounts:
            self._spending.accepted(bill.agreement_id, bill.asked_glm, is_final=True)

    def debit_note_accepted(self, note: Any) -> None:
        """Enter that a note was accepted: what is accepted of its agreement in all is the sum
        over its activities."""
        bill = debit_note_bill(note)
        claims = self._claims.get(bill.agreement_id)
        total = bill.asked_glm
        if claims is not None:
            before = claims.notes_glm.get(bill.activity_id, ZERO)
            claims.notes_glm[bill.activity_id] = max(before, bill.asked_glm)
            total = sum(claims.notes_glm.values(), ZERO)
        self._ledger.write(
            "debit_note_accepted",
            agreement_id=bill.agreement_id,
            total_glm=f"{total:f}",
            note_glm=f"{bill.asked_glm:f}",
            bill_id=bill.bill_id,
            activity_id=bill.activity_id,
            is_payable=bill.is_payable,
        )
        if bill.agreement_id in self._spending.accounts:
            self._spending.accepted(bill.agreement_id, total, is_final=False)

    def payment_failed(self, agreement_id: str, error: BaseException | None) -> None:
        """Enter that the daemon would not accept a bill.

        yapapi does not say which one it was; before the invoice it can only be a debit note.
        """
        claims = self._claims.get(agreement_id)
        bill: BillKind = "invoice" if claims and claims.invoice_id is not None else "debit note"
        if claims is not None and (claims.is_refused or f"{bill}: strange" in claims.told):
            return  # told already, with the reason
        passing = error is not None and may_pass(error)
        if claims is not None and bill == "invoice":
            claims.is_put_off = passing  # yapapi will not try again
            claims.is_refused = not passing
            if not passing and agreement_id in self._spending.accounts:
                self._spending.refuse(agreement_id)
        reason = describe_failure(error) if error else "unknown"
        self._ledger.write(
            "payment_failed",
            agreement_id=agreement_id,
            bill=bill,
            reason=reason,
            is_passing=passing,
        )
        later = " (it will be tried again)" if passing else ""
        name = claims.name if claims else agreement_id[:12]
        self._notice(f"{name}: a bill could not be paid: {reason}{later}")

    # --- small things --------------------------------------------------------------------------

    def _bound_glm(self, agreement_id: str) -> Decimal:
        return self._spending.accounts[agreement_id].bound_glm(self._clock())

    def _is_surplus(self, claims: _Claims, bill: Bill) -> bool:
        now = self._clock()
        last = claims.noted_seconds.get(bill.activity_id)
        if bill.is_payable or last is None or now - last >= NOTE_SECONDS:
            claims.noted_seconds[bill.activity_id] = now
            return False
        claims.skipped += 1
        if claims.skipped >= FLOOD_NOTES and "flood" not in claims.told:
            claims.told.add("flood")
            self._notice(
                f"{claims.name}: it sends many debit notes; one a second is answered, the rest "
                "costs nothing"
            )
        return True

    def _work_fault(self, bill: Bill) -> str | None:
        """Return why nothing at all is paid under an agreement; None if bills are."""
        return self._ledger.summary.refused_work.get(bill.agreement_id)

    def _note_fault(self, claims: _Claims, bill: Bill) -> str | None:
        if (refused := self._work_fault(bill)) is not None:
            return refused
        if self._spending.accounts[bill.agreement_id].is_settled:
            return "the agreement is settled"
        if claims.activities and bill.activity_id not in claims.activities:
            return "it is for an activity that we did not begin"
        before = claims.notes_glm.get(bill.activity_id, ZERO)
        if bill.asked_glm < before:
            return f"{before:.9f} GLM were accepted before, and notes are cumulative"
        return None

    def _refuse_strange(self, claims: _Claims, bill: Bill) -> None:
        fault = find_fault(bill, claims.parties)
        if fault is not None:
            claims.told.add(f"{bill.kind}: strange")
            self._refuse(claims, bill, self._bound_glm(bill.agreement_id), fault)

    def _refuse(
        self,
        claims: _Claims,
        bill: Bill,
        bound: Decimal,
        fault: str | None,
        *,
        closes: bool | None = None,
    ) -> None:
        """Enter that a bill is not accepted; an invoice's agreement is closed with it."""
        if bill.bill_id and bill.key in self._ledger.summary.refused_bills:
            return
        asked = presentable_glm(bill.asked_glm)
        if bill.kind == "invoice" and closes is None:
            claims.is_refused = True
            self._spending.refuse(bill.agreement_id)
        reason = fault or f"at most {bound:.9f} GLM can be due"
        self._ledger.write(
            "bill_refused",
            agreement_id=bill.agreement_id,
            bill=bill.kind,
            asked_glm=f"{asked:f}",
            bound_glm=f"{bound:f}",
            bill_id=bill.bill_id,
            reason=reason,
            closes=closes,
        )
        matter = f"{bill.kind}: {'over' if fault is None else fault.split(',')[0][:30]}"
        if matter not in claims.told:
            claims.told.add(matter)
            comma = "," if fault is None else ":"
            self._notice(f"{claims.name}: {bill.kind} over {asked:.9f} GLM refused{comma} {reason}")

    def _put_off(self, claims: _Claims, bill: Bill) -> None:
        claims.is_put_off = True
        self._ledger.write(
            "bill_put_off",
            agreement_id=bill.agreement_id,
            asked_glm=f"{bill.asked_glm:f}",
            bill_id=bill.bill_id,
            reason="budget",
        )
        self._notice(put_off_notice(claims.name, bill.asked_glm, self._spending.budget_glm))


def put_off_notice(name: str, asked: Decimal, budget: Decimal) -> str:
    """Return the message that an invoice stays owed for want of budget."""
    return (
        f"{name}: invoice over {asked:.9f} GLM stays unpaid: it does not fit into the budget of "
        f"{budget:f} GLM any more; `derl-request resume golem.budget_glm=…` pays it"
    )
