"""The table of the books: short, aligned, and never wider than a terminal."""

import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.books_view import books_table

AGREEMENT, ACTIVITY = "a" * 64, "b" * 32
PROVIDER = "0x" + "c" * 40
TOTALS = {"spent_glm": "0.5", "charged_glm": "0.5", "invoiced_glm": "0.5", "reserved_glm": "12"}


def document(amount: str = "0.123456789", name: str = "willow", seconds: float = 1.5) -> Any:
    money = {"accepted_glm": amount, "charged_glm": amount}
    return {
        "allocations": [
            {
                "id": "d" * 36,
                "state": "released",
                "payment_platform": "erc20-holesky-tglm",
                "total_glm": amount,
                "spent_glm": amount,
                "remaining_glm": amount,
            }
        ],
        "agreements": [
            {
                "id": AGREEMENT,
                "state": "Terminated",
                "provider": name,
                "provider_id": PROVIDER,
                "terminator": None,
                "invoice": "withheld",
                "charged_glm": amount,
            }
        ],
        "activities": [
            {
                "id": ACTIVITY,
                "agreement_id": AGREEMENT,
                "state": "terminated",
                "cpu_seconds": seconds,
                "duration_seconds": seconds,
            }
        ]
        * 2,
        "debit_notes": [
            {
                "id": "e" * 36,
                "agreement_id": AGREEMENT,
                "activity_id": ACTIVITY,
                "state": "ACCEPTED",
                "amount_glm": amount,
                **money,
                "timestamp": "2026-11-20T03:36:56.000000Z",
            }
        ],
        "invoices": [
            {
                "id": "f" * 36,
                "agreement_id": AGREEMENT,
                "state": "ACCEPTED",
                "payment_platform": "erc20-holesky-tglm",
                "amount_glm": amount,
                **money,
                "allocation_id": "d" * 36,
            }
        ],
        "totals": TOTALS,
    }


def block(text: str, title: str) -> list[str]:
    (found,) = [one for one in text.split("\n\n") if one.startswith(title)]
    return found.splitlines()


def test_ids_are_short_and_amounts_rounded() -> None:
    text = books_table(document())
    assert block(text, "agreements: 1")[1:] == [
        "  id        state       provider  node        ended by  invoice     charged",
        "  aaaaaaaa  Terminated  willow    0xcccccccc  -         withheld  0.1234568",
    ]
    assert block(text, "debit notes: 1")[2].split()[-1] == "03:36:56"
    assert len(block(text, "activities: 2")) == 4
    assert block(text, "totals")[1:] == [
        "  spent     0.5000000",
        "  charged   0.5000000",
        "  invoiced  0.5000000",
        "  reserved  12.0000000",
    ]


def test_what_is_tiny_does_not_look_like_nothing() -> None:
    assert block(books_table(document("0.000000000000000001")), "agreements")[2].endswith(
        "  <0.0000001"
    )
    assert block(books_table(document("0")), "agreements")[2].endswith("  0")
    assert block(books_table(document("1000")), "agreements")[2].endswith("  1000.0000000")


def test_empty_books() -> None:
    empty: dict[str, list[Any]] = {key: [] for key in document() if key != "totals"}
    text = books_table({**empty, "totals": TOTALS})
    assert text.startswith("allocations: 0\n\nagreements: 0\n\n")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.decimals(0, 999, places=18).map(lambda amount: format(amount, "f")),
    st.from_regex(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"), fullmatch=True),
    st.floats(0, 1e9),
)
def test_a_table_fits_100_columns(amount: str, name: str, seconds: float) -> None:
    text = books_table(document(amount, name, seconds))
    assert max(map(len, text.splitlines())) <= 100
    for title in ("allocations", "agreements", "activities", "debit notes", "invoices"):
        heading, *rows = block(text, title)[1:]
        starts = [match.start() for match in re.finditer(r"(?<=  )\S", heading)]
        assert starts[0] == 2
        assert all(row[:2] == "  " and row[2] != " " for row in rows)
