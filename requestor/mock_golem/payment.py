"""The payment API's bills: debit notes and invoices, their events and their acceptance."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from requestor.mock_golem.allocations import read_amount
from requestor.mock_golem.answers import (
    Refusal,
    TextRefusal,
    json_answer,
    missing_field,
    poll_seconds,
    query_count,
    query_instant,
    read_object,
)
from requestor.mock_golem.records import DebitNote, Invoice
from requestor.mock_golem.surroundings import Surroundings

PREFIX = "/payment-api/v1"


class PaymentApi:
    """Routes of debit notes and invoices.

    Args:
        surroundings: books and time.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        note = f"{PREFIX}/debitNotes/{{document_id}}"
        invoice = f"{PREFIX}/invoices/{{document_id}}"
        return [
            web.get(f"{PREFIX}/debitNotes", self._list_notes),
            web.get(f"{PREFIX}/debitNoteEvents", self._note_events),
            web.get(note, self._show_note),
            web.post(f"{note}/accept", self._accept_note),
            web.post(f"{note}/reject", self._reject_note),
            web.get(f"{PREFIX}/invoices", self._list_invoices),
            web.get(f"{PREFIX}/invoiceEvents", self._invoice_events),
            web.get(invoice, self._show_invoice),
            web.post(f"{invoice}/accept", self._accept_invoice),
            web.post(f"{invoice}/reject", self._reject_invoice),
            web.get(f"{invoice}/payments", self._invoice_payments),
        ]

    # ------------------------------------------------------------------ debit notes

    async def _list_notes(self, request: web.Request) -> web.Response:
        return self._list(request, list(self._around.books.debit_notes.values()))

    async def _note_events(self, request: web.Request) -> web.Response:
        books = self._around.books
        return await self._events(request, books.debit_notes)

    async def _show_note(self, request: web.Request) -> web.Response:
        return self._show(self._around.books.debit_notes, request)

    async def _accept_note(self, request: web.Request) -> web.Response:
        amount, allocation_id = await _acceptance(request)
        document_id = request.match_info["document_id"]
        self._around.books.accept_debit_note(document_id, amount, allocation_id)
        return json_answer(None)

    async def _reject_note(self, request: web.Request) -> web.Response:
        raise Refusal(501, None)

    # ------------------------------------------------------------------ invoices

    async def _list_invoices(self, request: web.Request) -> web.Response:
        return self._list(request, list(self._around.books.invoices.values()))

    async def _invoice_events(self, request: web.Request) -> web.Response:
        return await self._events(request, self._around.books.invoices)

    async def _show_invoice(self, request: web.Request) -> web.Response:
        return self._show(self._around.books.invoices, request)

    async def _accept_invoice(self, request: web.Request) -> web.Response:
        amount, allocation_id = await _acceptance(request)
        document_id = request.match_info["document_id"]
        self._around.books.accept_invoice(document_id, amount, allocation_id)
        return json_answer(None)

    async def _reject_invoice(self, request: web.Request) -> web.Response:
        invoice = self._around.books.invoices.get(request.match_info["document_id"])
        if invoice is None:
            raise Refusal(404, None)
        if invoice.status == "ACCEPTED":
            raise Refusal(400, "Invoice accepted")
        self._around.books.commit(invoice.changed(status="REJECTED"))
        return json_answer(None)

    async def _invoice_payments(self, request: web.Request) -> web.Response:
        books = self._around.books
        invoice = books.invoices.get(request.match_info["document_id"])
        if invoice is None:
            raise Refusal(404, None)
        notes = books.debit_notes.values()
        bills: list[DebitNote | Invoice] = [
            *(note for note in notes if note.agreement_id == invoice.agreement_id),
            invoice,
        ]
        now = self._around.clock.now()
        return json_answer([bill.as_payment() for bill in bills if bill.is_paid(now)])

    # ------------------------------------------------------------------ both kinds of bill

    def _show(
        self, bills: dict[str, DebitNote] | dict[str, Invoice], request: web.Request
    ) -> web.Response:
        bill = bills.get(request.match_info["document_id"])
        if bill is None:
            raise Refusal(404, None)
        return json_answer(bill.as_json(self._around.clock.now()))

    def _list(self, request: web.Request, bills: Sequence[DebitNote | Invoice]) -> web.Response:
        now = self._around.clock.now()
        after = query_instant(request, "afterTimestamp")
        shown = [bill.as_json(now) for bill in bills if after is None or bill.timestamp > after]
        return json_answer(shown[: query_count(request, "maxItems")])

    async def _events(
        self, request: web.Request, bills: dict[str, DebitNote] | dict[str, Invoice]
    ) -> web.Response:
        after = query_instant(request, "afterTimestamp")
        limit = query_count(request, "maxEvents")

        def look() -> list[dict[str, Any]]:
            found = [bill for bill in bills.values() if after is None or bill.timestamp > after]
            return [bill.as_event() for bill in sorted(found, key=lambda bill: bill.timestamp)]

        events = await self._around.books.changed.wait_for(look, poll_seconds(request))
        return json_answer(events[:limit])


async def _acceptance(request: web.Request) -> tuple[Decimal, str]:
    body = await read_object(request)
    body_text = await request.text()
    for name in ("totalAmountAccepted", "allocationId"):
        if name not in body:
            raise TextRefusal(400, missing_field(name, body_text))
    return read_amount(body["totalAmountAccepted"], body_text), str(body["allocationId"])
