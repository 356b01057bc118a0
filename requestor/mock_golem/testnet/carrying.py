"""What a provider decides and bills, carried to the real daemon in order, until it is there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from requestor.mock_golem.clock import rfc3339
from requestor.mock_golem.money import plain
from requestor.mock_golem.records import Agreement, DebitNote, Invoice, Record
from requestor.mock_golem.surroundings import TaskSet
from requestor.mock_golem.testnet.provider_rest import DaemonAway, ProviderRest, RestRefusal

RETRY_SECONDS = 0.5
MAX_REFUSALS = 5

Job = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


class Courier:
    """Carries what is written into one provider's books to the daemon.

    What concerns one agreement goes in order. A daemon that is away is waited for; one that
    refuses for reasons that may pass is asked again a few times.

    Args:
        rest: the daemon.
        tasks: the provider's background tasks.
        approval_failed: called with an agreement's id and a reason if it cannot be approved.
    """

    def __init__(
        self, rest: ProviderRest, tasks: TaskSet, approval_failed: Callable[[str, str], None]
    ) -> None:
        self._rest = rest
        self._tasks = tasks
        self._approval_failed = approval_failed
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._bills: dict[str, str] = {}

    def own_bill(self, remote_id: str) -> str | None:
        """Return the id by which the provider's books know a bill of the daemon's."""
        return self._bills.get(remote_id)

    def heard(self, before: Record | None, after: Record) -> None:
        """Take notice of a record committed to the books; carry what the daemon must know."""
        match after:
            case Agreement():
                self._agreement(before, after)
            case DebitNote() if before is None:
                self._carry(after.agreement_id, _Bill(self._rest, after, self._bills).deliver)
            case Invoice() if before is None:
                self._carry(after.agreement_id, _Bill(self._rest, after, self._bills).deliver)

    def approve(self, agreement_id: str) -> None:
        """Carry an approval."""

        async def job() -> None:
            try:
                await self._rest.approve(agreement_id)
            except RestRefusal as refusal:
                if refusal.status >= 500:
                    raise
                # it may be that an earlier try got through, but not its answer
                shown = await self._rest.agreement(agreement_id)
                if shown.get("state") != "Approved":
                    self._approval_failed(agreement_id, str(refusal))

        self._carry(agreement_id, job)

    def terminate(self, agreement_id: str, reason: dict[str, Any]) -> None:
        """Carry a termination by the provider."""
        self._carry(agreement_id, lambda: self._rest.terminate(agreement_id, reason))

    def _agreement(self, before: Record | None, after: Agreement) -> None:
        old_state = before.state if isinstance(before, Agreement) else None
        if after.state == old_state:
            return
        reason = after.reason or {"message": "no reason given"}
        if after.state == "Approved":
            self.approve(after.agreement_id)
        elif after.state == "Rejected":
            agreement_id = after.agreement_id
            self._carry(agreement_id, lambda: self._rest.reject_agreement(agreement_id, reason))
        elif after.state == "Terminated" and after.terminator == "Provider":
            self.terminate(after.agreement_id, reason)

    def _carry(self, agreement_id: str, job: Job) -> None:
        earlier = self._tails.get(agreement_id)
        tail = self._tasks.spawn(self._after(earlier, job))
        self._tails[agreement_id] = tail

        def finished(_: object) -> None:
            if self._tails.get(agreement_id) is tail:
                del self._tails[agreement_id]

        tail.add_done_callback(finished)

    async def _after(self, earlier: "asyncio.Task[None] | None", job: Job) -> None:
        if earlier is not None:
            await asyncio.wait({earlier})
        await insist(job)


async def insist(job: Job) -> None:
    """Do something at the daemon: again while it is away, a few times if it cannot just now."""
    refusals = 0
    while True:
        try:
            await job()
            return
        except DaemonAway as away:
            _log.debug("%s", away)
        except RestRefusal as refusal:
            refusals += 1
            if not _may_pass(refusal) or refusals >= MAX_REFUSALS:
                _log.warning("given up: %s", refusal)
                return
        await asyncio.sleep(RETRY_SECONDS * max(1, refusals))


def _may_pass(refusal: RestRefusal) -> bool:
    return refusal.status >= 500 or refusal.status in (408, 429)


class _Bill:
    """One debit note or invoice on its way: issued, then sent, each once."""

    def __init__(
        self, rest: ProviderRest, bill: DebitNote | Invoice, known: dict[str, str]
    ) -> None:
        self._rest = rest
        self._bill = bill
        self._known = known
        self._remote_id: str | None = None

    async def deliver(self) -> None:
        kind, body = bill_body(self._bill)
        if self._remote_id is None:
            self._remote_id = await self._rest.issue(kind, body)
            self._known[self._remote_id] = self._bill.key
        await self._rest.send(kind, self._remote_id)


def bill_body(bill: DebitNote | Invoice) -> tuple[str, dict[str, Any]]:
    """Return a bill as the daemon wants it issued, after the name of its kind."""
    if isinstance(bill, DebitNote):
        body: dict[str, Any] = {
            "activityId": bill.activity_id,
            "totalAmountDue": plain(bill.total_amount_due),
            "usageCounterVector": list(bill.usage),
        }
        if bill.payment_due_date is not None:
            body["paymentDueDate"] = rfc3339(bill.payment_due_date)
        return "debitNotes", body
    due: datetime = bill.payment_due_date or bill.timestamp
    return "invoices", {
        "agreementId": bill.agreement_id,
        "activityIds": list(bill.activity_ids),
        "amount": plain(bill.amount),
        "paymentDueDate": rfc3339(due),
    }
