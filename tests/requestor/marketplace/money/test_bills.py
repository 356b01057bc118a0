"""What bills say, whoever wrote them, and what is wrong with them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.money.bills import (
    Bill,
    Parties,
    find_fault,
    payee_of,
    read_amount,
    read_bill,
)
from requestor.marketplace.money.spending import is_amount

# as recorded from yagna 0.17.6
INVOICE: dict[str, Any] = {
    "invoiceId": "i1",
    "issuerId": "0xProvider",
    "recipientId": "0xme",
    "payeeAddr": "0xWallet",
    "payerAddr": "0xme",
    "paymentPlatform": "erc20-hoodi-tglm",
    "timestamp": "2026-11-20T03:37:23.414Z",
    "agreementId": "g1",
    "activityIds": ["a1", "a2"],
    "amount": "0.001115367949",
    "paymentDueDate": "2026-11-20T03:39:23.395209Z",
    "status": "RECEIVED",
}
NOTE: dict[str, Any] = {
    "debitNoteId": "n1",
    "issuerId": "0xProvider",
    "recipientId": "0xme",
    "payeeAddr": "0xWallet",
    "payerAddr": "0xme",
    "paymentPlatform": "erc20-hoodi-tglm",
    "agreementId": "g1",
    "activityId": "a1",
    "totalAmountDue": "0.000502207923",
    "usageCounterVector": [3.019747734069824, 4.00470757484436],
    "status": "RECEIVED",
}
PARTIES = Parties("0xprovider", payee="0xwallet", payer="0xME", platform="erc20-hoodi-tglm")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def test_an_invoice_of_yagna() -> None:
    assert read_bill("invoice", INVOICE) == Bill(
        kind="invoice",
        bill_id="i1",
        agreement_id="g1",
        asked_glm=Decimal("0.001115367949"),
        issuer_id="0xProvider",
        payer="0xme",
        payee="0xWallet",
        platform="erc20-hoodi-tglm",
    )
    assert find_fault(read_bill("invoice", INVOICE), PARTIES) is None


def test_a_debit_note_of_yagna() -> None:
    note = read_bill("debit note", NOTE)
    assert (note.bill_id, note.activity_id, note.is_payable) == ("n1", "a1", False)
    assert note.asked_glm == Decimal("0.000502207923")
    assert find_fault(note, PARTIES) is None
    due = {**NOTE, "paymentDueDate": "2026-11-20T03:39:23Z"}
    assert read_bill("debit note", due).is_payable


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"amount": "-1"}, "that is no amount"),
        ({"amount": "NaN"}, "that is no amount"),
        ({"amount": None}, "that is no amount"),
        ({"amount": [1]}, "that is no amount"),
        ({"paymentPlatform": "erc20-mainnet-glm"}, "it is for erc20-mainnet-glm, agreed was"),
        ({"payerAddr": "0xyou"}, "it is for another payer, 0xyou"),
        ({"issuerId": "0xother"}, "it is from another node, 0xother"),
        ({"payeeAddr": "0xthief"}, "it is to be paid to 0xthief, its offer says 0xwallet"),
        ({"payeeAddr": "0x" + "\x1b[31m" * 999}, "it is to be paid to 0x[31m"),
    ],
)
def test_faults(change: dict[str, Any], fault: str) -> None:
    found = find_fault(read_bill("invoice", {**INVOICE, **change}), PARTIES)
    assert found is not None and found.startswith(fault)
    assert found.isprintable() and len(found) < 250


def test_what_is_not_known_is_no_fault() -> None:
    assert find_fault(read_bill("invoice", INVOICE), Parties("0xprovider")) is None
    bare = {"invoiceId": "i1", "agreementId": "g1", "amount": "0.1"}
    assert find_fault(read_bill("invoice", bare), PARTIES) is None


@given(st.dictionaries(st.sampled_from([*INVOICE, *NOTE]), JSON))
def test_whatever_a_row_holds_it_is_read(row: dict[str, Any]) -> None:
    for kind in ("invoice", "debit note"):
        bill = read_bill(kind, row)
        assert is_amount(bill.asked_glm) or find_fault(bill, PARTIES) is not None
        assert {type(text) for text in (bill.bill_id, bill.agreement_id)} == {str}


@pytest.mark.parametrize("text", ["", "much", "0x10", "1,5", None, [], {}, "sNaN-1", b"1"])
def test_what_is_no_number_is_nan(text: object) -> None:
    assert read_amount(text).is_nan()


def test_the_payee_is_the_offers_address_for_the_platform() -> None:
    offer = {"golem.com.payment.platform.erc20-hoodi-tglm.address": "0xwallet"}
    assert payee_of(offer, "erc20-hoodi-tglm") == "0xwallet"
    assert payee_of(offer, "erc20-polygon-glm") is None
    assert payee_of(offer, None) is None
    assert payee_of("nothing", "erc20-hoodi-tglm") is None
