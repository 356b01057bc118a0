"""Does drawn work again, at once and beside the round, and says which of it was not done.

Who is drawn, who is wrong and what that is worth is decided in `requestor/trust`; this has it
carried out. An audit begins when a result has come in and its sender is committed. With
`before_merge` the round waits for the verdicts; else they come when they come, and what was merged
is marked.

Read next: `own_hearings.py` and `hearings.py` (from a question to a verdict), `consequences.py`,
then `replaying.py` (how work is done again) and `provenance_log.py` (what is written down).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from requestor.federation.rounds import RoundPlan
from requestor.training_run import events
from requestor.training_run.auditing.audited_rounds import AuditedRounds
from requestor.training_run.auditing.consequences import Consequences
from requestor.training_run.auditing.drawing import Drawing, Suspects
from requestor.training_run.auditing.findings import REQUESTOR, Finding
from requestor.training_run.auditing.hearings import Court, Hearing, account_of
from requestor.training_run.auditing.means import AuditDoors, AuditTools
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.auditing.own_hearings import OwnCourt
from requestor.training_run.auditing.replaying import Work
from requestor.training_run.dispatching.reviewing import Objection
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.round_files import RoundFiles
from requestor.trust.disputes import Dispute


class Auditor:
    """The `reviewing.Reviewer` that does work again."""

    def __init__(
        self,
        tools: AuditTools,
        doors: AuditDoors,
        options: AuditOptions,
        *,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float],
        on_finding: Callable[[Finding], None] = lambda _: None,
    ) -> None:
        """Audit with `tools`; `on_finding` hears of everything that becomes known."""
        self._options = options
        self._clock = clock
        self._findings = tools.findings
        self._witnesses = tools.witnesses
        self._rounds = AuditedRounds(tools.held)
        suspects = Suspects.known_from(tools.findings)
        self._drawing = Drawing(tools.coin, doors.history, options, suspects, tools.has_equal_bits)
        self._own_court = OwnCourt(tools.replays, tools.has_equal_bits)
        self._court = Court(tools.replays, tools.witnesses, tools.has_equal_bits)
        self._consequences = Consequences(
            tools.findings,
            tools.evidence,
            doors,
            self._rounds,
            self._drawing,
            emit=emit,
            on_finding=on_finding,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._bought: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()

    # --- what the round tells ------------------------------------------------------------------

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        """Take notice of a round that begins."""
        self._rounds.begin(plan.round, files)
        self._witnesses.wait_less(is_all_in=False)

    def note(self, delivery: Delivery) -> None:
        """Draw a delivery or not; start its audit if it is drawn."""
        source = delivery.source
        if source is None or source.is_own or self._options.rates.is_off:
            return
        finding = self._findings.of_delivery(delivery)
        if finding is None:
            finding = self._drawing.draw(delivery, source)
            self._findings.write(finding)
        if finding.standing == "pending":  # drawn now, or before a crash
            self._begin_audit(delivery, finding)

    def suspect(self, delivery: Delivery, reason: str) -> None:
        """Audit a delivery for sure that is odd, if the coin has not drawn it anyway."""
        finding, source = self._findings.of_delivery(delivery), delivery.source
        if finding is None or source is None or finding.standing != "unaudited":
            return
        if delivery.update.item.round not in self._rounds:  # it cannot be done again any more
            return
        finding = replace(finding, standing="pending", reason=reason)
        self._consequences.write(finding)
        self._begin_audit(delivery, finding)

    def compare(self, first: Delivery, second: Delivery) -> None:
        """Hold two deliveries of one item against each other: an audit that costs nothing.

        If they are equal and of two voices, the work is verified; neither voice's record grows by
        that, since both may have one owner. If not, one of them is wrong.
        """
        one, two = account_of(first), account_of(second)
        if one is None or two is None:
            return
        dispute = Dispute(one, two)
        if one.by == two.by and dispute.verdict is None:
            self.suspect(first, "another of its wallet sent something else")
            return
        if dispute.verdict is not None:
            finding = self._findings.of_delivery(first)
            if one.by != two.by and finding is not None and finding.standing == "unaudited":
                by = REQUESTOR if two.by is None else two.by
                found = replace(finding, standing="verified", verified_by=(by,))
                self._consequences.write(found)
            return
        if first.update.item.round in self._rounds:
            self._spawn(self._arbitrate(first, second, dispute, self._rounds.hold(first)))

    async def review(self, plan: RoundPlan, deliveries: Sequence[Delivery]) -> Sequence[Objection]:
        """Return what turned out to be faked, and what else came from those who fake."""
        for delivery in deliveries:
            if self._findings.of_delivery(delivery) is None:
                self.note(delivery)
        self._witnesses.wait_less(is_all_in=True)
        is_waiting = self._options.when == "before_merge"
        await self._finish([task for task in self._tasks if task.done() or is_waiting])
        if self._suspect_mates(deliveries) and is_waiting:
            await self._finish(list(self._tasks))
        found = (self._consequences.objection(delivery) for delivery in deliveries)
        return [objection for objection in found if objection is not None]

    def _suspect_mates(self, deliveries: Sequence[Delivery]) -> bool:
        """Audit what others of the wallets of those who fake have sent; False if there is none."""
        mates = [
            delivery
            for delivery in deliveries
            if (finding := self._findings.of_delivery(delivery)) is not None
            and self._drawing.suspects.has_bad_company(finding)
        ]
        for delivery in mates:
            self.suspect(delivery, "another of its wallet faked work")
        return bool(mates)

    async def drain(self) -> None:
        """Wait until every audit that was begun has come to an end."""
        self._witnesses.wait_less(is_all_in=True)
        while self._tasks:
            await self._finish(list(self._tasks))

    async def drain_bought(self) -> None:
        """Wait until every audit by providers has come to an end."""
        self._witnesses.wait_less(is_all_in=True)
        while bought := [task for task in self._tasks if task in self._bought]:
            await self._finish(bought)

    async def close(self) -> None:
        """Give up what is going on; a resumed run takes it up again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._findings.close()

    # --- audits --------------------------------------------------------------------------------

    def _begin_audit(self, delivery: Delivery, finding: Finding) -> None:
        is_bought = self._drawing.is_bought(delivery)
        work = self._rounds.hold(delivery)
        hear = self._hear_providers if is_bought else self._own_court.hear
        task = self._spawn(self._audit(delivery, finding, work, hear))
        if is_bought:
            self._bought.add(task)
        self._drawing.begun(finding)

    async def _audit(
        self,
        delivery: Delivery,
        finding: Finding,
        work: Work,
        hear: Callable[[Delivery, Work], Coroutine[Any, Any, Hearing]],
    ) -> None:
        started = self._clock()
        try:
            hearing = await hear(delivery, work)
        finally:
            self._drawing.ended(finding)
            self._rounds.release(work)
        self._consequences.follow_audit(delivery, finding, work, hearing)
        self._consequences.tell(delivery, hearing.verdict, self._clock() - started)

    async def _hear_providers(self, delivery: Delivery, work: Work) -> Hearing:
        desk = self._rounds.held_desk(delivery, work)
        return await self._court.hear(delivery, work, desk, self._drawing.suspects.convicted)

    async def _arbitrate(
        self, first: Delivery, second: Delivery, dispute: Dispute, work: Work
    ) -> None:
        started = self._clock()
        try:
            hearing = await self._own_court.arbitrate(first, second, dispute, work)
        finally:
            self._rounds.release(work)
        self._consequences.follow_arbitration((first, second), work, hearing)
        self._consequences.tell(first, hearing.verdict, self._clock() - started)

    def _spawn(self, audit: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(audit)
        self._tasks.add(task)
        return task

    async def _finish(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)  # cancelling the wait cancels none of them
        for task in tasks:
            self._tasks.discard(task)
            task.result()
