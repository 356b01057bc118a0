"""What a bill says, read with the suspicion due to a stranger's text, and what is wrong with it.

Pure. A requestor can accept a bill to the last digit or leave it alone, there is nothing between;
`MONEY.md` beside this file tells what that means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from requestor.marketplace.money.spending import is_amount

BillKind = Literal["invoice", "debit note"]
MAX_WORDS = 80
NOT_A_NUMBER = Decimal("NaN")


@dataclass(frozen=True)
class Bill:
    """An invoice, or a debit note: the running bill of one activity.

    asked_glm: NaN if it is no number.
    is_payable: a debit note that is to be paid at once, an interim payment.
    platform, payer, payee, issuer_id: None where it does not say.
    """

    kind: BillKind
    bill_id: str
    agreement_id: str
    asked_glm: Decimal
    activity_id: str = ""
    issuer_id: str | None = None
    payer: str | None = None
    payee: str | None = None
    platform: str | None = None
    is_payable: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others: its id alone is its issuer's choice."""
        return self.agreement_id, self.kind, self.bill_id


@dataclass(frozen=True)
class Parties:
    """Between whom an agreement is, and by which platform it is paid; None where not known."""

    provider_id: str
    payee: str | None = None
    payer: str | None = None
    platform: str | None = None


def read_bill(kind: BillKind, row: Mapping[str, Any]) -> Bill:
    """Return the bill in a row of the payment API."""
    is_invoice = kind == "invoice"
    return Bill(
        kind=kind,
        bill_id=str(row.get("invoiceId" if is_invoice else "debitNoteId", "")),
        agreement_id=str(row.get("agreementId", "")),
        asked_glm=read_amount(row.get("amount" if is_invoice else "totalAmountDue")),
        activity_id=str(row.get("activityId", "")),
        issuer_id=_text(row.get("issuerId")),
        payer=_text(row.get("payerAddr")),
        payee=_text(row.get("payeeAddr")),
        platform=_text(row.get("paymentPlatform")),
        is_payable=not is_invoice and row.get("paymentDueDate") is not None,
    )


def read_amount(value: object) -> Decimal:
    """Return what is asked; NaN if it is no number."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return NOT_A_NUMBER


def payee_of(offer_properties: object, platform: str | None) -> str | None:
    """Return the address at which an offer wants to be paid on a platform."""
    if platform is None or not isinstance(offer_properties, Mapping):
        return None
    return _text(offer_properties.get(f"golem.com.payment.platform.{platform}.address"))


def find_fault(bill: Bill, parties: Parties) -> str | None:
    """Return why a bill cannot be one of this agreement, whatever it asks; None if it can."""
    if not is_amount(bill.asked_glm):
        return "that is no amount"
    if _differ(bill.platform, parties.platform):
        return f"it is for {_words(bill.platform)}, agreed was {_words(parties.platform)}"
    if _differ(bill.payer, parties.payer):
        return f"it is for another payer, {_words(bill.payer)}"
    if _differ(bill.issuer_id, parties.provider_id):
        return f"it is from another node, {_words(bill.issuer_id)}"
    if _differ(bill.payee, parties.payee):
        return f"it is to be paid to {_words(bill.payee)}, its offer says {_words(parties.payee)}"
    return None


def _differ(found: str | None, agreed: str | None) -> bool:
    # addresses are hexadecimal: some write them in capitals
    return found is not None and agreed is not None and found.lower() != agreed.lower()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _words(text: str | None) -> str:
    return "".join(c for c in text or "" if c.isprintable())[:MAX_WORDS]
