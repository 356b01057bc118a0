"""Bills as yapapi hands them over."""

from __future__ import annotations

from typing import Any

from requestor.marketplace.money.bills import Bill, BillKind, read_amount


def invoice_bill(invoice: Any) -> Bill:
    """Return the bill in yapapi's `Invoice`."""
    return _bill("invoice", invoice, "invoice_id", "amount")


def debit_note_bill(note: Any) -> Bill:
    """Return the bill in yapapi's `DebitNote`."""
    return _bill("debit note", note, "debit_note_id", "total_amount_due")


def _bill(kind: BillKind, model: Any, name_of_id: str, name_of_amount: str) -> Bill:
    is_note = kind == "debit note"
    return Bill(
        kind=kind,
        bill_id=str(getattr(model, name_of_id, "")),
        agreement_id=str(model.agreement_id),
        asked_glm=read_amount(getattr(model, name_of_amount)),
        activity_id=str(getattr(model, "activity_id", "")),
        issuer_id=getattr(model, "issuer_id", None),
        payer=getattr(model, "payer_addr", None),
        payee=getattr(model, "payee_addr", None),
        platform=getattr(model, "payment_platform", None),
        is_payable=is_note and getattr(model, "payment_due_date", None) is not None,
    )
