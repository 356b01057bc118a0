"""The ledger: what it adds up to, and that a crash at any byte costs one line at most."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.errors import PreflightError
from requestor.marketplace.money.ledger import Ledger, LedgerSummary, Session, read_ledger
from requestor.marketplace.money.ledger_entries import (
    AgreementApproved,
    EntryKind,
    LedgerEntry,
    WorkDone,
    entry_of,
    read_entries,
)
from requestor.marketplace.money.spending import BILL_ROUNDING_GLM, Prices

AMOUNTS = st.decimals(0, 1000, places=18)


class Clock:
    """Unix time under the test's control."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def summarize(entries: Iterable[dict[str, Any]]) -> LedgerSummary:
    summary = LedgerSummary()
    for entry in entries:
        summary.add(entry_of(entry))
    return summary


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.jsonl", Clock(1000.0))
    yield opened
    opened.close()


def approve(ledger: Ledger, agreement_id: str, node_id: str | None = None) -> None:
    """A free agreement."""
    ledger.approve(
        agreement_id,
        provider_id="0xp",
        provider_name="willow",
        threads=1,
        prices=Prices(),
        approved_unix_seconds=1.0,
        node_id=node_id,
    )


def fill(ledger: Ledger) -> None:
    """A short session: two agreements, one paid, one refused, the allocation released."""
    ledger.write("allocation_intended", amount_glm="0.999999999999999995", budget_glm="1")
    ledger.write("allocation_created", allocation_id="A", amount_glm="0.999999999999999995")
    for agreement, name in (("g1", "willow"), ("g2", "oäk")):
        ledger.approve(
            agreement,
            provider_id=f"0x{agreement}",
            provider_name=name,
            threads=2,
            prices=Prices(Decimal("0.1"), Decimal("1e-9"), Decimal("0.2")),
            approved_unix_seconds=1000.5,
        )
    ledger.write("debit_note_accepted", agreement_id="g1", total_glm="0.000000000000000007")
    ledger.write("agreement_ended", agreement_id="g1")
    ledger.write("invoice_accepted", agreement_id="g1", total_glm="0.25")
    ledger.write("bill_refused", agreement_id="g2", bill="invoice", asked_glm="99", bound_glm="0.1")
    ledger.write("allocation_released", allocation_id="A", amount_glm="0.999999999999999995")


def test_what_a_session_adds_up_to(ledger: Ledger) -> None:
    fill(ledger)
    summary = ledger.summary
    assert summary.accepted_glm == {"g1": Decimal("0.25")}
    assert summary.total_glm == Decimal("0.25")
    assert summary.providers == {"g1": "willow", "g2": "oäk"}
    assert summary.open_agreements == {"g2"}
    assert summary.invoiced == {"g1"}
    assert summary.refused_agreements == {"g2"}
    assert not summary.open_allocations
    assert not summary.intended_amounts
    assert read_ledger(ledger.path) == summary


def test_an_approval_keeps_all_that_bills_are_held_against(ledger: Ledger) -> None:
    fill(ledger)
    assert ledger.approvals["g2"] == AgreementApproved(
        unix_seconds=1000.0,
        agreement_id="g2",
        provider_id="0xg2",
        provider_name="oäk",
        threads=2,
        start_glm=Decimal("0.1"),
        cpu_hour_glm=Decimal("1e-9"),
        hour_glm=Decimal("0.2"),
        approved_unix_seconds=1000.5,
    )
    assert ledger.approvals["g2"].prices.hour_glm == Decimal("0.2")


def test_an_allocation_is_looked_for_by_amount_until_its_id_is_known(ledger: Ledger) -> None:
    ledger.write("allocation_intended", amount_glm="0.50")
    ledger.write("allocation_intended", amount_glm="0.7")
    assert ledger.summary.intended_amounts == {Decimal("0.5"), Decimal("0.7")}
    ledger.write("allocation_created", allocation_id="A", amount_glm="0.5")
    assert ledger.summary.intended_amounts == {Decimal("0.7")}
    assert ledger.summary.open_allocations == {"A"}
    ledger.write("allocation_released", allocation_id="", amount_glm="0.7")
    assert not ledger.summary.intended_amounts


def test_the_last_allocation_of_a_node_dates_its_session(tmp_path: Path) -> None:
    clock = Clock(5.0)
    ledger = Ledger(tmp_path / "ledger.jsonl", clock)
    ledger.write("allocation_intended", amount_glm="1", node_id="A")
    approve(ledger, "g1")
    clock.seconds = 77.1234
    ledger.write("allocation_intended", amount_glm="2", node_id="A")
    approve(ledger, "g2")
    clock.seconds = 99.0
    ledger.write("allocation_intended", amount_glm="3", node_id="B")
    approve(ledger, "g3")
    approve(ledger, "g4", node_id="A")
    assert ledger.summary.sessions == {
        "A": Session(77.123, {"g2", "g4"}),
        "B": Session(99.0, {"g3"}),
    }
    assert ledger.summary.first_unix_seconds == 5.0
    ledger.close()


def test_each_node_pays_what_it_has_made(ledger: Ledger) -> None:
    for node, amount in (("A", "0.5"), ("B", "0.7"), ("C", "0.9")):
        ledger.write("allocation_intended", amount_glm=amount, node_id=node)
        approve(ledger, f"g-{node}")
    ledger.write("allocation_created", allocation_id="of-A", amount_glm="0.50")
    summary = ledger.summary
    assert summary.open_payers() == {"A", "B", "C"}
    assert summary.paid_by("A", summary.open_agreements) == {"g-A"}
    assert summary.paid_by("A", summary.open_allocations) == {"of-A"}
    assert summary.paid_by("B", summary.open_allocations) == set()
    assert summary.paid_by("B", summary.intended_amounts) == {Decimal("0.7")}
    assert read_ledger(ledger.path) == summary


def test_every_line_is_on_the_disk_when_write_returns(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(ledger.path.read_bytes()))
    ledger.write("agreement_ended", agreement_id="g1")
    ledger.write("agreement_ended", agreement_id="g2")
    assert [whole.count(b"\n") for whole in synced] == [1, 2]


def test_a_line_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, Clock(1.0))
    fill(ledger)
    ledger.close()
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = max((end for end in ends if end <= cut), default=0)
        entries = [json.loads(line) for line in whole[:kept].splitlines()]
        assert read_ledger(path) == summarize(entries)
        assert path.stat().st_size == cut
        reopened = Ledger(path, Clock(2.0))
        assert path.read_bytes() == whole[:kept]
        reopened.close()
    path.write_bytes(whole[:-1])
    reopened = Ledger(path, Clock(2.0))
    reopened.write("agreement_ended", agreement_id="g2")
    reopened.close()
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert last == {"kind": "agreement_ended", "unix_seconds": 2.0, "agreement_id": "g2"}
    assert read_ledger(path).open_agreements == set()


def test_a_ledger_damaged_in_its_middle_is_neither_used_nor_cut(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, Clock(1.0))
    fill(ledger)
    ledger.close()
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], lines[3][1:], *lines[4:]])
    path.write_bytes(damaged)
    with pytest.raises(PreflightError, match=r"line 4 of .*ledger\.jsonl is damaged"):
        Ledger(path, Clock(2.0))
    assert path.read_bytes() == damaged


def test_a_missing_ledger_is_empty(tmp_path: Path) -> None:
    summary = read_ledger(tmp_path / "none.jsonl")
    assert summary.total_glm == 0
    assert not summary.providers


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), AMOUNTS), max_size=20))
def test_totals_only_grow_and_are_exact(bills: list[tuple[str, bool, Decimal]]) -> None:
    entries: list[dict[str, Any]] = [
        {
            "kind": "invoice_accepted" if is_invoice else "debit_note_accepted",
            "agreement_id": agreement,
            "total_glm": f"{amount:f}",
        }
        for agreement, is_invoice, amount in bills
    ]
    expected = {
        agreement: max(amount for name, _, amount in bills if name == agreement)
        for agreement in {name for name, _, _ in bills}
    }
    summary = summarize(entries)
    assert summary.accepted_glm == expected
    # in units of 1e-18, where sums are whole numbers
    units = sum(int(amount.scaleb(18)) for amount in expected.values())
    assert int(summary.total_glm.scaleb(18)) == units
    assert summary.invoiced == {name for name, is_invoice, _ in bills if is_invoice}


def test_only_a_refused_invoice_closes_an_agreement(ledger: Ledger) -> None:
    ledger.write("bill_refused", agreement_id="g1", bill="debit note", asked_glm="9")
    ledger.write("bill_refused", agreement_id="g2", bill="invoice", asked_glm="9")
    assert ledger.summary.refused_agreements == {"g2"}


def test_only_an_invoice_that_could_not_be_paid_closes_an_agreement(ledger: Ledger) -> None:
    ledger.write("payment_failed", agreement_id="g1", bill="debit note", reason="500")
    ledger.write("payment_failed", agreement_id="g2", bill="invoice", reason="500")
    assert ledger.summary.refused_agreements == {"g2"}


def test_an_invoice_that_can_be_paid_later_stays_owed(ledger: Ledger) -> None:
    ledger.write("payment_failed", agreement_id="g1", bill="invoice", reason="503", is_passing=True)
    assert ledger.summary.refused_agreements == set()
    assert len(ledger.summary.failed_payments) == 1


def test_the_summary_is_kept_and_not_made_anew(ledger: Ledger) -> None:
    fill(ledger)
    before = ledger.summary
    ledger.write("invoice_accepted", agreement_id="g2", total_glm="0.5")
    assert ledger.summary is before
    assert before.total_glm == Decimal("0.75")


@pytest.mark.parametrize(
    "line",
    [b"{}", b"5", b'{"kind": "agreement_ended"}', b'{"kind": "invoice_accepted"}', b'{"kind": 5}'],
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, Clock(1.0))
    fill(ledger)
    ledger.close()
    number = path.read_bytes().count(b"\n") + 1
    path.write_bytes(path.read_bytes() + line + b"\n")
    for read in (Ledger, read_ledger):
        with pytest.raises(PreflightError, match=rf"line {number} of .*ledger\.jsonl is damaged"):
            read(path)


def test_an_agreement_ended_when_it_first_ended(tmp_path: Path) -> None:
    clock = Clock(10.0)
    ledger = Ledger(tmp_path / "ledger.jsonl", clock)
    ledger.write("agreement_ended", agreement_id="g1")
    clock.seconds = 20.0
    ledger.write("agreement_ended", agreement_id="g1")
    ledger.write("agreement_ended", agreement_id="g2")
    assert ledger.endings == {"g1": 10.0, "g2": 20.0}
    ledger.close()


# --- entries ---------------------------------------------------------------------------------


def test_every_kind_has_its_record() -> None:
    kinds = {kind.__struct_config__.tag for kind in get_args(LedgerEntry)}
    assert kinds == set(get_args(EntryKind))


def test_entries_are_read_as_they_were_written(ledger: Ledger) -> None:
    fill(ledger)
    ledger.write(
        "work_done",
        agreement_id="g1",
        round=3,
        client=1,
        outcome="counted",
        steps=2048,
        seconds=1.5,
    )
    read = list(read_entries(ledger.path))
    assert [json.loads(line)["kind"] for line in ledger.path.read_bytes().splitlines()] == [
        type(entry).__struct_config__.tag for entry in read
    ]
    assert read[-1] == WorkDone(
        unix_seconds=1000.0,
        agreement_id="g1",
        round=3,
        client=1,
        outcome="counted",
        steps=2048,
        seconds=1.5,
    )


def test_what_is_no_entry_is_not_written(ledger: Ledger) -> None:
    before = ledger.path.read_bytes()
    with pytest.raises(ValueError, match="total_glm"):
        ledger.write("invoice_accepted", agreement_id="g1", total_glm="much")
    with pytest.raises(ValueError, match="agreement_id"):
        ledger.write("agreement_ended")
    assert ledger.path.read_bytes() == before


# --- what is owed ----------------------------------------------------------------------------


def test_what_unsettled_agreements_may_still_cost(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    ledger = Ledger(tmp_path / "ledger.jsonl", clock)
    for name in ("paid", "refused", "silent", "noted", "asked"):
        ledger.approve(
            name,
            provider_id=f"0x{name}",
            provider_name=name,
            threads=2,
            prices=Prices(Decimal("0.1"), Decimal("1.8"), Decimal("3.6")),
            approved_unix_seconds=1000.0,
            expires_unix_seconds=1107.0,
        )
    clock.seconds = 1097.0
    for name in ("paid", "refused", "silent", "noted"):
        ledger.write("agreement_ended", agreement_id=name)
    ledger.write("activity_created", agreement_id="silent", activity_id="a1")
    ledger.write("activity_created", agreement_id="silent", activity_id="a2")
    ledger.write("invoice_accepted", agreement_id="paid", total_glm="0.2")
    ledger.write("bill_refused", agreement_id="refused", bill="invoice", asked_glm="9")
    ledger.write("debit_note_accepted", agreement_id="noted", total_glm="0.15")
    ledger.write("bill_put_off", agreement_id="asked", asked_glm="0.21")
    assert ledger.summary.owed_glm(99_999.0) == {
        # (1.8 * 2 + 3.6) / 3600 = 0.002 GLM/s; 97 s and 3 s of slack; two start prices
        "silent": Decimal("0.4") + BILL_ROUNDING_GLM,
        "noted": Decimal("0.3") + BILL_ROUNDING_GLM - Decimal("0.15"),
        "asked": Decimal("0.21"),
    }
    ledger.write("invoice_accepted", agreement_id="asked", total_glm="0.21")
    assert "asked" not in ledger.summary.owed_glm(99_999.0)
    assert ledger.summary.accepted_by_provider == {
        "0xpaid": Decimal("0.2"),
        "0xnoted": Decimal("0.15"),
        "0xasked": Decimal("0.21"),
    }
    ledger.close()


def test_a_second_invoice_that_is_refused_closes_nothing(ledger: Ledger) -> None:
    ledger.write(
        "bill_refused", agreement_id="g1", bill="invoice", asked_glm="9", bill_id="i2", closes=False
    )
    assert ledger.summary.refused_agreements == set()
    assert ledger.summary.refused_bills == {("g1", "invoice", "i2")}


def test_a_reason_that_quotes_the_key_is_kept_without_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", "3c5f9d0be2a14f6e")
    reason = "POST accept: 401 no application with key 3c5f9d0be2a14f6e"
    ledger.write("payment_failed", agreement_id="g1", bill="invoice", reason=reason)
    assert b"3c5f9d0be2a14f6e" not in ledger.path.read_bytes()
    (entry,) = ledger.summary.failed_payments
    assert entry.reason == "POST accept: 401 no application with key <redacted>"
