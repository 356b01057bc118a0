"""What each agreement's money was for, entered as it happens."""

from __future__ import annotations

from pathlib import Path

from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import WorkDone, read_entries
from requestor.training_run import events
from requestor.training_run.work_entries import WorkEntries


def test_every_answered_order_is_entered_under_its_agreement(tmp_path: Path) -> None:
    now = 10.0
    ledger = Ledger(tmp_path / "ledger.jsonl", lambda: 5.0)
    told: list[events.Event] = []
    entries = WorkEntries(ledger, told.append, lambda: now)
    for lease, agreement in (("l1", "g1"), ("l2", "g2")):
        entries(events.LeaseOpened(lease, "willow", "0xp", agreement))
    entries(events.OrderSent(0, 3, "l1", is_copy=False))
    entries(events.OrderSent(0, 4, "l2", is_copy=False))
    now = 12.5
    entries(events.OrderFailed(0, 4, "l2", "it stumbled"))
    entries(events.OrderDone(0, 3, "l1", seconds=2.4999, steps=2048, counts=True))
    entries(events.OrderSent(1, 3, "l1", is_copy=True))
    entries(events.OrderDone(1, 3, "l1", seconds=4.0, steps=1024, counts=False))
    entries(events.OrderSent(1, 5, "l2", is_copy=False))
    now = 20.0
    entries(events.UpdateRejected(1, 5, "l2", "not finite"))
    entries(events.OrderFailed(1, 6, "nobody", "the lease is over"))
    ledger.close()
    found = [entry for entry in read_entries(ledger.path) if isinstance(entry, WorkDone)]
    assert [
        (one.agreement_id, one.round, one.client, one.outcome, one.steps, one.seconds)
        for one in found
    ] == [
        ("g2", 0, 4, "failed", 0, 2.5),
        ("g1", 0, 3, "counted", 2048, 2.5),
        ("g1", 1, 3, "late", 1024, 4.0),
        ("g2", 1, 5, "refused", 0, 7.5),
    ]
    assert len(told) == 11
