"""Bills: debit notes at their interval, invoices equal to usage times price, books that add up."""

from decimal import Decimal
from typing import Any

import pytest

from requestor.mock_golem.exe_unit import ContainerSpec, ExeUnit, Usage
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.surroundings import CommandFaultsOf

pytestmark = pytest.mark.asyncio
MARKET, PAYMENT = "/market-api/v1", "/payment-api/v1"
FLEET = """
providers:
  - name: willow
    price: {start_glm: 0.01, cpu_hour_glm: 3.6, hour_glm: 0.36}
    terms: {debit_note_interval_seconds: 60}
"""


@pytest.fixture
def metered(manual_clock: Any, tmp_path: Any) -> Any:
    """Launch exe-units that use half a CPU, on the clock that is moved by hand."""

    def launch(spec: ContainerSpec, faults: CommandFaultsOf) -> ExeUnit:
        started = manual_clock.now()

        class Metered(ExeUnit):
            _last = Usage(0.0, 0.0)

            def usage(self) -> Usage:
                if self.state != "Terminated":
                    seconds = (manual_clock.now() - started).total_seconds()
                    self._last = Usage(cpu_seconds=seconds / 2, duration_seconds=seconds)
                return self._last

        return Metered(spec, GftpStore(tmp_path), faults)

    return {"clock": manual_clock, "launch": launch}


async def accept(requestor: Any, kind: str, bill: dict[str, Any], allocation: str) -> Any:
    amount = bill["amount" if kind == "invoices" else "totalAmountDue"]
    document = bill["invoiceId" if kind == "invoices" else "debitNoteId"]
    body = {"totalAmountAccepted": amount, "allocationId": allocation}
    return await requestor.call("POST", f"{PAYMENT}/{kind}/{document}/accept", body)


async def test_debit_notes_come_at_the_providers_interval(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    await requestor.activity()
    await manual_clock.advance(179.9)
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    assert [one["totalAmountDue"] for one in notes] == ["0.046", "0.082"]
    assert [one["usageCounterVector"] for one in notes] == [[30.0, 60.0], [60.0, 120.0]]
    assert all("paymentDueDate" not in one for one in notes)
    events = await requestor.ok(
        "GET", f"{PAYMENT}/debitNoteEvents", afterTimestamp=notes[0]["timestamp"]
    )
    assert [one["debitNoteId"] for one in events] == [notes[1]["debitNoteId"]]


async def test_a_negotiated_interval_and_payments_in_between(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    properties = {
        "golem.com.scheme.payu.debit-note.interval-sec?": 100,
        "golem.com.scheme.payu.payment-timeout-sec?": 300,
    }
    await requestor.activity(await requestor.agreement(properties=properties))
    await manual_clock.advance(601)
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    # the first notes were not accepted within 240 s, so the agreement ended
    assert len(notes) == 3
    assert ["paymentDueDate" in one for one in notes] == [False, False, True]


async def test_debit_notes_that_are_not_accepted_end_the_agreement(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    agreement = await requestor.agreement()
    await requestor.activity(agreement)
    allocation = await requestor.allocation()
    path = f"{MARKET}/agreements/{agreement}"
    await manual_clock.advance(125)
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    await accept(requestor, "debitNotes", notes[-1], allocation)  # and with it the first
    await manual_clock.advance(60 + 239)  # the third note came at 180 s
    assert (await requestor.ok("GET", path))["state"] == "Terminated"
    (event,) = [
        one
        for one in await requestor.ok("GET", f"{MARKET}/agreementEvents")
        if one["eventType"] == "AgreementTerminatedEvent"
    ]
    assert event["reason"]["golem.provider.code"] == "DebitNotesDeadline"
    assert event["eventDate"].startswith("2026-11-20T03:43:56")  # 180 s + 240 s


async def test_accepted_notes_are_not_charged_twice(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    agreement = await requestor.agreement()
    await requestor.activity(agreement)
    allocation = await requestor.allocation("1")
    await manual_clock.advance(130)
    for note in await requestor.ok("GET", f"{PAYMENT}/debitNotes"):
        assert (await accept(requestor, "debitNotes", note, allocation))[0] == 200
    shown = await requestor.ok("GET", f"{PAYMENT}/allocations/{allocation}")
    assert (shown["spentAmount"], shown["remainingAmount"]) == ("0.082", "0.918")
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    assert invoice["amount"] == "0.088"  # 0.01 + 65 s x 0.001 + 130 s x 0.0001
    assert (await accept(requestor, "invoices", invoice, allocation))[0] == 200
    assert (await accept(requestor, "invoices", invoice, allocation))[0] == 200
    shown = await requestor.ok("GET", f"{PAYMENT}/allocations/{allocation}")
    assert (shown["spentAmount"], shown["remainingAmount"]) == ("0.088", "0.912")
    await requestor.ok("DELETE", f"{PAYMENT}/allocations/{allocation}")
    again = await accept(requestor, "invoices", invoice, allocation)
    assert again[0] == 200  # accepted is accepted


async def test_a_released_allocation_pays_nothing(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    agreement = await requestor.agreement()
    await requestor.activity(agreement)
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    allocation = await requestor.allocation()
    await requestor.ok("DELETE", f"{PAYMENT}/allocations/{allocation}")
    status, answer = await accept(requestor, "invoices", invoice, allocation)
    assert (status, answer["message"]) == (400, f"Allocation {allocation} not found")


async def test_the_sum_over_activities(serve: Any, metered: Any, manual_clock: Any) -> None:
    requestor = await serve(FLEET, **metered)
    agreement = await requestor.agreement()
    first = await requestor.activity(agreement)
    await manual_clock.advance(10)
    await requestor.ok("DELETE", f"/activity-api/v1/activity/{first}")
    await manual_clock.advance(20)
    second = await requestor.activity(agreement)
    await manual_clock.advance(30)
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    assert invoice["activityIds"] == [first, second]
    # 2 x 0.01 + 40 s x 0.0001 + 20 CPU s x 0.001
    assert Decimal(invoice["amount"]) == Decimal("0.044")


async def test_an_agreement_never_used_brings_no_invoice(serve: Any, metered: Any) -> None:
    requestor = await serve(FLEET, **metered)
    unused = await requestor.agreement()
    await requestor.terminate(unused)
    used = await requestor.agreement()
    await requestor.activity(used)
    await requestor.terminate(used)
    await requestor.invoices(used)
    assert len(await requestor.ok("GET", f"{PAYMENT}/invoices")) == 1


async def test_an_idle_agreement_is_ended(serve: Any, metered: Any, manual_clock: Any) -> None:
    requestor = await serve(FLEET, **metered)
    agreement = await requestor.agreement()
    path = f"{MARKET}/agreements/{agreement}"
    await manual_clock.advance(80)
    activity = await requestor.activity(agreement)
    await manual_clock.advance(100)  # working is not idling
    assert (await requestor.ok("GET", path))["state"] == "Approved"
    await requestor.ok("DELETE", f"/activity-api/v1/activity/{activity}")
    await manual_clock.advance(89)
    assert (await requestor.ok("GET", path))["state"] == "Approved"
    await manual_clock.advance(1)
    assert (await requestor.ok("GET", path))["state"] == "Terminated"


async def test_an_agreement_ends_when_it_expires(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    requestor = await serve(FLEET, **metered)
    long = {"golem.com.payment.debit-notes.accept-timeout?": "none"}
    agreement = await requestor.agreement(properties=long)
    await requestor.activity(agreement)
    path = f"{MARKET}/agreements/{agreement}"
    await manual_clock.advance(899)
    assert (await requestor.ok("GET", path))["state"] == "Approved"
    await manual_clock.advance(1)
    assert (await requestor.ok("GET", path))["state"] == "Terminated"


async def test_books_equal_sums(serve: Any, metered: Any, manual_clock: Any) -> None:
    fleet = """
providers:
  - name: oak
    count: 3
    price: {start_glm: 0.0007, cpu_hour_glm: 0.123, hour_glm: 0.0456}
    terms: {debit_note_interval_seconds: 20}
"""
    requestor = await serve(fleet, **metered)
    allocations = [await requestor.allocation("0.5"), await requestor.allocation("7.25")]
    agreements = [await requestor.agreement() for _ in range(3)]
    for agreement in agreements:
        await requestor.activity(agreement)
    for index in range(3):
        await manual_clock.advance(17.000001 * (index + 1))
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    assert len(notes) > 2
    for index, note in enumerate(notes):
        if index % 2:
            await accept(requestor, "debitNotes", note, allocations[index % 2])
    for agreement in agreements:
        await requestor.terminate(agreement)
        (invoice,) = await requestor.invoices(agreement)
        assert (await accept(requestor, "invoices", invoice, allocations[0]))[0] == 200
    invoices = await requestor.ok("GET", f"{PAYMENT}/invoices")
    shown = [await requestor.ok("GET", f"{PAYMENT}/allocations/{one}") for one in allocations]
    spent = sum(Decimal(one["spentAmount"]) for one in shown)
    assert spent == sum(Decimal(one["amount"]) for one in invoices)
    for one in shown:
        total = Decimal(one["spentAmount"]) + Decimal(one["remainingAmount"])
        assert total == Decimal(one["totalAmount"])


async def test_funds_are_shared_by_allocations(serve: Any) -> None:
    requestor = await serve("requestor: {funds_glm: 10}\nproviders: [{name: willow}]")
    first = await requestor.allocation("6")
    body = {"totalAmount": "6", "paymentPlatform": "erc20-hoodi-tglm"}
    status, problem = await requestor.call("POST", f"{PAYMENT}/allocations", body)
    assert status == 400
    assert problem["reservedFunds"] == "6" and problem["availableFunds"] == "10"
    status, _ = await requestor.call("PUT", f"{PAYMENT}/allocations/{first}", {"totalAmount": "11"})
    assert status == 400
    await requestor.ok("DELETE", f"{PAYMENT}/allocations/{first}")
    await requestor.allocation("6")


async def test_bills_of_the_dishonest(serve: Any, metered: Any, manual_clock: Any) -> None:
    faults = """
    faults:
      - {kind: debit_note_backwards, after: 1, times: 1}
      - {kind: debit_note_payable, after: 2, times: 1}
      - {kind: invoice_wrong_payee}
"""
    requestor = await serve(FLEET.rstrip() + faults, **metered)
    agreement = await requestor.agreement()
    await requestor.activity(agreement)
    await manual_clock.advance(235)
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    # 0.01 + 30 s x 0.001 + 60 s x 0.0001 = 0.046 in the first minute, 0.036 in each that follows
    assert [one["totalAmountDue"] for one in notes] == ["0.046", "0.041", "0.118"]
    assert ["paymentDueDate" in one for one in notes] == [False, False, True]
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    assert invoice["payeeAddr"] == "0x" + "5" * 40
    assert notes[0]["payeeAddr"] == invoice["issuerId"]


async def test_an_invoice_below_the_debit_notes_cannot_be_sent(
    serve: Any, metered: Any, manual_clock: Any
) -> None:
    """yagna: "Requested amount for agreement cannot be lowered"."""
    faults = "\n    faults: [{kind: debit_note_too_high, factor: 10}]"
    requestor = await serve(FLEET.rstrip() + faults, **metered)
    agreement = await requestor.agreement()
    await requestor.activity(agreement)
    await manual_clock.advance(65)
    (note,) = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    assert note["totalAmountDue"] == "0.46"  # ten times 0.01 + 30 s x 0.001 + 60 s x 0.0001
    await requestor.terminate(agreement)

    async def is_decided() -> bool:
        return bool(requestor.daemon.books.agreements[agreement].invoice != "owed")

    await requestor.until(is_decided)
    assert requestor.daemon.books.agreements[agreement].invoice == "withheld"
    assert await requestor.ok("GET", f"{PAYMENT}/invoices") == []


async def test_event_dates_never_repeat(serve: Any, metered: Any, manual_clock: Any) -> None:
    fleet = "providers: [{name: oak, count: 4, faults: [{kind: duplicate_invoice}]}]"
    requestor = await serve(fleet, **metered)
    agreements = [await requestor.agreement() for _ in range(4)]
    for agreement in agreements:
        await requestor.activity(agreement)
    for agreement in agreements:
        await requestor.terminate(agreement)
    for agreement in agreements:
        await requestor.invoices(agreement, count=2)
    events = await requestor.ok("GET", f"{PAYMENT}/invoiceEvents")
    dates = [one["eventDate"] for one in events]
    assert len(set(dates)) == 8 and dates == sorted(dates)
    after = dates[3]
    later = await requestor.ok("GET", f"{PAYMENT}/invoiceEvents", afterTimestamp=after)
    assert [one["eventDate"] for one in later] == dates[4:]
    some = await requestor.ok("GET", f"{PAYMENT}/invoiceEvents", maxEvents=3)
    assert [one["eventDate"] for one in some] == dates[:3]


@pytest.mark.parametrize(
    "amount", ["1e300", "NaN", "Infinity", "", ".", "9" * 200, True, None, []]
)
async def test_amounts_must_be_moderate_decimals(serve: Any, amount: Any) -> None:
    requestor = await serve()
    status, _ = await requestor.call("POST", f"{PAYMENT}/allocations", {"totalAmount": amount})
    assert status == 400


@pytest.mark.parametrize(
    ("amount", "total"), [("1.55E-7", "0.000000155"), ("1e2", "100"), (".5", "0.5"), ("2.", "2")]
)
async def test_amounts_as_programs_write_them(serve: Any, amount: str, total: str) -> None:
    """Python's `str(Decimal("0.000000155"))` has an exponent, and yapapi sends it as it is."""
    requestor = await serve()
    made = await requestor.ok("POST", f"{PAYMENT}/allocations", {"totalAmount": amount})
    assert made["totalAmount"] == total


async def test_a_binary_float_budget(serve: Any) -> None:
    requestor = await serve()
    amount = str(Decimal.from_float(0.1))
    allocation = await requestor.allocation(amount)
    shown = await requestor.ok("GET", f"{PAYMENT}/allocations/{allocation}")
    assert shown["remainingAmount"] == amount
