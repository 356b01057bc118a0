"""The books as plain data, exact, and as a table for human eyes."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from requestor.mock_golem.books import Books
from requestor.mock_golem.clock import SystemClock, rfc3339
from requestor.mock_golem.money import add, plain

_SHORT_ID = 8
_LONGEST_CELL = 18
_SHOWN_GLM = Decimal("1e-7")
# (key in the document, heading); the order is that of the columns
_COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "allocations": (
        ("id", "id"),
        ("state", "state"),
        ("payment_platform", "platform"),
        ("total_glm", "total"),
        ("spent_glm", "spent"),
        ("remaining_glm", "remaining"),
    ),
    "agreements": (
        ("id", "id"),
        ("state", "state"),
        ("provider", "provider"),
        ("provider_id", "node"),
        ("terminator", "ended by"),
        ("invoice", "invoice"),
        ("charged_glm", "charged"),
    ),
    "activities": (
        ("id", "id"),
        ("agreement_id", "agreement"),
        ("state", "state"),
        ("cpu_seconds", "CPU s"),
        ("duration_seconds", "duration s"),
    ),
    "debit_notes": (
        ("id", "id"),
        ("agreement_id", "agreement"),
        ("activity_id", "activity"),
        ("state", "state"),
        ("amount_glm", "amount"),
        ("accepted_glm", "accepted"),
        ("charged_glm", "charged"),
        ("timestamp", "UTC"),
    ),
    "invoices": (
        ("id", "id"),
        ("agreement_id", "agreement"),
        ("state", "state"),
        ("payment_platform", "platform"),
        ("amount_glm", "amount"),
        ("accepted_glm", "accepted"),
        ("charged_glm", "charged"),
        ("allocation_id", "from"),
    ),
}


def books_table(document: Mapping[str, Any]) -> str:
    """Return the document of `books_document` as aligned columns of at most 100 characters.

    Ids are cut to their first characters and amounts rounded to 1e-7 GLM.
    """
    blocks = []
    for title, columns in _COLUMNS.items():
        rows = document[title]
        lines = [f"{title.replace('_', ' ')}: {len(rows)}"]
        if rows:
            lines += _aligned(columns, rows)
        blocks.append("\n".join(lines))
    totals = document["totals"].items()
    lines = ["totals in GLM:"]
    lines += [f"  {name.removesuffix('_glm'):<10}{_glm(value)}" for name, value in totals]
    blocks.append("\n".join(lines))
    blocks.append("Ids and amounts are shortened; --json shows them whole.")
    return "\n\n".join(blocks)


def _aligned(columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    table = [[heading for _, heading in columns]]
    table += [[_cell(key, row[key]) for key, _ in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if key.endswith(("_glm", "_seconds")) else cell.ljust(width)
            for cell, width, (key, _) in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in table
    ]


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key.endswith("_glm"):
        return _glm(value)
    if key.endswith("_seconds"):
        return f"{value:.2f}"
    if key == "timestamp":
        return str(value)[11:19]
    if key == "id" or key.endswith("_id"):
        text = str(value)
        return text[: _SHORT_ID + 2 if text.startswith("0x") else _SHORT_ID]
    text = str(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _glm(amount: str) -> str:
    exact = Decimal(amount)
    rounded = exact.quantize(_SHOWN_GLM) if exact.adjusted() < 15 else exact
    if exact and not rounded:
        return "<0.0000001"
    return plain(rounded) if exact else "0"


def books_document(books: Books) -> dict[str, Any]:
    """Return the books as plain data: one list per kind of record, and totals; amounts as text."""
    now = SystemClock().now()
    bills = [*books.debit_notes.values(), *books.invoices.values()]
    return {
        "allocations": [
            {
                "id": one.allocation_id,
                "state": "open" if one.is_open(now) else "released",
                "payment_platform": one.payment_platform,
                "total_glm": plain(one.total_amount),
                "spent_glm": plain(one.spent_amount),
                "remaining_glm": plain(one.remaining_amount),
            }
            for one in books.allocations.values()
        ],
        "agreements": [
            {
                "id": one.agreement_id,
                "state": one.state,
                "provider": one.provider_name,
                "provider_id": one.provider_id,
                "terminator": one.terminator,
                "invoice": one.invoice,
                "charged_glm": plain(books.charged_for(one.agreement_id)),
            }
            for one in books.agreements.values()
        ],
        "activities": [
            {
                "id": one.activity_id,
                "agreement_id": one.agreement_id,
                "state": "open" if one.ended_at is None else "terminated",
                "cpu_seconds": one.cpu_seconds,
                "duration_seconds": one.duration_seconds,
            }
            for one in books.activities.values()
        ],
        "debit_notes": [
            {
                "id": one.debit_note_id,
                "agreement_id": one.agreement_id,
                "activity_id": one.activity_id,
                "state": one.shown_status(now),
                "amount_glm": plain(one.total_amount_due),
                "accepted_glm": plain(one.accepted_amount),
                "charged_glm": plain(one.charged_amount),
                "timestamp": rfc3339(one.timestamp),
            }
            for one in books.debit_notes.values()
        ],
        "invoices": [
            {
                "id": one.invoice_id,
                "agreement_id": one.agreement_id,
                "state": one.shown_status(now),
                "payment_platform": one.payment_platform,
                "amount_glm": plain(one.amount),
                "accepted_glm": plain(one.accepted_amount),
                "charged_glm": plain(one.charged_amount),
                "allocation_id": one.allocation_id,
            }
            for one in books.invoices.values()
        ],
        "totals": {
            "spent_glm": plain(books.spent_glm()),
            "charged_glm": plain(add(*(bill.charged_amount for bill in bills))),
            "invoiced_glm": plain(add(*(one.amount for one in books.invoices.values()))),
            "reserved_glm": plain(books.reserved_glm()),
        },
    }
