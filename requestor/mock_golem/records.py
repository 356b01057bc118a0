"""What the daemon remembers: allocations, agreements, activities, debit notes and invoices.

Records are frozen; a change makes a new one (`changed`) that the books then commit.
"""

import base64
import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from requestor.mock_golem.clock import rfc3339
from requestor.mock_golem.money import plain, subtract
from requestor.mock_golem.offers import chosen_platform

SETTLED_AFTER = timedelta(seconds=5)
AgreementState = Literal[
    "Proposal", "Pending", "Cancelled", "Rejected", "Approved", "Expired", "Terminated"
]


class Record(BaseModel):
    """One row of the books."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type_name: ClassVar[str]

    @property
    def key(self) -> str:
        """The record's id."""
        raise NotImplementedError

    def changed(self, **values: Any) -> Self:
        """Return a copy with some values replaced."""
        return self.model_copy(update=values)


class Allocation(Record):
    """GLM set aside by the requestor."""

    type_name: ClassVar[str] = "allocation"
    allocation_id: str
    address: str
    payment_platform: str
    total_amount: Decimal
    spent_amount: Decimal = Decimal(0)
    timestamp: datetime
    timeout: datetime
    released_at: datetime | None = None
    make_deposit: bool = False

    @property
    def key(self) -> str:
        """The allocation's id."""
        return self.allocation_id

    @property
    def remaining_amount(self) -> Decimal:
        """GLM not yet spent."""
        return subtract(self.total_amount, self.spent_amount)

    def is_open(self, now: datetime) -> bool:
        """Tell whether it is neither released nor past its timeout."""
        return self.released_at is None and now < self.timeout

    def as_json(self) -> dict[str, Any]:
        """Return it as the payment API shows it."""
        return {
            "allocationId": self.allocation_id,
            "address": self.address,
            "paymentPlatform": self.payment_platform,
            "totalAmount": plain(self.total_amount),
            "spentAmount": plain(self.spent_amount),
            "remainingAmount": plain(self.remaining_amount),
            "timestamp": rfc3339(self.timestamp),
            "timeout": rfc3339(self.timeout),
            "createdTs": rfc3339(self.timestamp),
            "updatedTs": rfc3339(self.timestamp),
            "makeDeposit": self.make_deposit,
        }


class Agreement(Record):
    """Signed (or not yet signed) terms; `invoice` says what became of its bill."""

    type_name: ClassVar[str] = "agreement"
    agreement_id: str
    proposal_id: str
    provider_id: str
    provider_name: str
    demand: dict[str, Any]
    offer: dict[str, Any]
    valid_to: datetime
    timestamp: datetime
    state: AgreementState = "Proposal"
    app_session_id: str | None = None
    approved_at: datetime | None = None
    ended_at: datetime | None = None
    terminator: Literal["Requestor", "Provider"] | None = None
    reason: dict[str, Any] | None = None
    invoice: Literal["none", "owed", "sent", "withheld"] = "none"

    @property
    def key(self) -> str:
        """The agreement's id."""
        return self.agreement_id

    @property
    def coefficients(self) -> list[float]:
        """The offer's price coefficients; the last is the start price."""
        values: list[float] = self.offer["properties"]["golem.com.pricing.model.linear.coeffs"]
        return values

    @property
    def requestor_id(self) -> str:
        """The node id of the other side."""
        return str(self.demand["requestorId"])

    @property
    def platform(self) -> str:
        """The payment platform agreed."""
        return str(chosen_platform(self.demand["properties"]))

    def as_json(self) -> dict[str, Any]:
        """Return it as the market API shows it."""
        shown: dict[str, Any] = {
            "agreementId": self.agreement_id,
            "demand": self.demand,
            "offer": self.offer,
            "validTo": rfc3339(self.valid_to),
            "state": self.state,
            "timestamp": rfc3339(self.timestamp),
        }
        if self.state != "Proposal":
            shown["proposedSignature"] = "NoSignature"
        if self.approved_at is not None:
            shown["approvedDate"] = rfc3339(self.approved_at)
            shown |= {"approvedSignature": "NoSignature", "committedSignature": "NoSignature"}
        if self.app_session_id is not None:
            shown["appSessionId"] = self.app_session_id
        return shown

    def as_list_entry(self) -> dict[str, Any]:
        """Return its line in the market API's list of agreements."""
        entry = {
            "id": self.agreement_id,
            "timestamp": rfc3339(self.timestamp),
            "role": "Requestor",
        }
        if self.approved_at is not None:
            entry["approvedDate"] = rfc3339(self.approved_at)
        return entry


class Activity(Record):
    """An activity; its usage is the last one known."""

    type_name: ClassVar[str] = "activity"
    activity_id: str
    agreement_id: str
    provider_id: str
    created_at: datetime
    ended_at: datetime | None = None
    cpu_seconds: float = 0.0
    duration_seconds: float = 0.0
    reason: str | None = None
    error_message: str | None = None

    @property
    def key(self) -> str:
        """The activity's id."""
        return self.activity_id

    @property
    def usage(self) -> list[float]:
        """CPU seconds and seconds, in the order of the offer's usage vector."""
        return [self.cpu_seconds, self.duration_seconds]


class _Bill(Record):
    issuer_id: str
    recipient_id: str
    payment_platform: str
    timestamp: datetime
    agreement_id: str
    payment_due_date: datetime | None = None
    status: Literal["RECEIVED", "ACCEPTED", "REJECTED"] = "RECEIVED"
    accepted_at: datetime | None = None
    accepted_amount: Decimal = Decimal(0)
    allocation_id: str | None = None
    charged_amount: Decimal = Decimal(0)
    payee_address: str | None = None

    def shown_status(self, now: datetime) -> str:
        """The status, SETTLED once five seconds have passed since it was accepted."""
        if self.accepted_at is not None and now >= self.accepted_at + SETTLED_AFTER:
            return "SETTLED"
        return self.status

    def is_paid(self, now: datetime) -> bool:
        """Tell whether a payment of its own has settled it."""
        return self.charged_amount > 0 and self.shown_status(now) == "SETTLED"

    def _payment(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.key.encode()).digest()  # for a transaction's hash
        assert self.accepted_at is not None
        return {
            "paymentId": digest.hex()[:32],
            "payerId": self.recipient_id,
            "payeeId": self.issuer_id,
            "payerAddr": self.recipient_id,
            "payeeAddr": self.payee_address or self.issuer_id,
            "paymentPlatform": self.payment_platform,
            "amount": plain(self.charged_amount),
            "timestamp": rfc3339(self.accepted_at + SETTLED_AFTER),
            "details": base64.b64encode(digest).decode(),
        }

    def _json(self, now: datetime) -> dict[str, Any]:
        shown = {
            "issuerId": self.issuer_id,
            "recipientId": self.recipient_id,
            "payeeAddr": self.payee_address or self.issuer_id,
            "payerAddr": self.recipient_id,
            "paymentPlatform": self.payment_platform,
            "timestamp": rfc3339(self.timestamp),
            "agreementId": self.agreement_id,
            "status": self.shown_status(now),
        }
        if self.payment_due_date is not None:
            shown["paymentDueDate"] = rfc3339(self.payment_due_date)
        return shown


class DebitNote(_Bill):
    """A running bill of one activity: what it has cost since its start."""

    type_name: ClassVar[str] = "debit_note"
    debit_note_id: str
    activity_id: str
    previous_debit_note_id: str | None = None
    total_amount_due: Decimal
    usage: tuple[float, ...]

    @property
    def key(self) -> str:
        """The debit note's id."""
        return self.debit_note_id

    def as_json(self, now: datetime) -> dict[str, Any]:
        """Return it as the payment API shows it."""
        shown = {
            "debitNoteId": self.debit_note_id,
            "activityId": self.activity_id,
            "totalAmountDue": plain(self.total_amount_due),
            "usageCounterVector": list(self.usage),
            **self._json(now),
        }
        if self.previous_debit_note_id is not None:
            shown["previousDebitNoteId"] = self.previous_debit_note_id
        return shown

    def as_payment(self) -> dict[str, Any]:
        """Return the payment that settled it, as the payment API shows it."""
        part = {"activityId": self.activity_id, "amount": plain(self.charged_amount)}
        return {**self._payment(), "agreementPayments": [], "activityPayments": [part]}

    def as_event(self) -> dict[str, Any]:
        """Return the event of its arrival."""
        return {
            "debitNoteId": self.debit_note_id,
            "eventDate": rfc3339(self.timestamp),
            "eventType": "DebitNoteReceivedEvent",
        }


class Invoice(_Bill):
    """The final bill of an agreement."""

    type_name: ClassVar[str] = "invoice"
    invoice_id: str
    activity_ids: tuple[str, ...]
    amount: Decimal

    @property
    def key(self) -> str:
        """The invoice's id."""
        return self.invoice_id

    def as_json(self, now: datetime) -> dict[str, Any]:
        """Return it as the payment API shows it."""
        return {
            "invoiceId": self.invoice_id,
            "activityIds": list(self.activity_ids),
            "amount": plain(self.amount),
            **self._json(now),
        }

    def as_payment(self) -> dict[str, Any]:
        """Return the payment that settled it, as the payment API shows it."""
        part = {"agreementId": self.agreement_id, "amount": plain(self.charged_amount)}
        return {**self._payment(), "agreementPayments": [part], "activityPayments": []}

    def as_event(self) -> dict[str, Any]:
        """Return the event of its arrival."""
        return {
            "invoiceId": self.invoice_id,
            "eventDate": rfc3339(self.timestamp),
            "eventType": "InvoiceReceivedEvent",
        }


RECORD_TYPES: dict[str, type[Record]] = {
    record_type.type_name: record_type
    for record_type in (Allocation, Agreement, Activity, DebitNote, Invoice)
}
