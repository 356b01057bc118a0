"""Does drawn work again, at once and beside the round, and says which of it was not done.

Who is drawn, who is wrong and what that is worth is decided in `requestor/trust`; this carries it
out. An audit begins when a result has come in and its sender is committed. With `before_merge` the
round waits for the verdicts; else they come when they come, and what was merged is marked.

Read next: `replaying.py` (how work is done again) and `provenance_log.py` (what is written down).
"""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from provider_image.wire import WireError, order_digest
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.federation.rounds import RoundPlan
from requestor.marketplace.choice.history import Who
from requestor.marketplace.ports import Sanctions
from requestor.training_run import events
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import Finding, Findings
from requestor.training_run.auditing.hearings import Court, Hearing, account_of, held_desk
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.auditing.replaying import Replayed, Replaying, Work
from requestor.training_run.auditing.witnesses import NoWitnesses, Witnesses
from requestor.training_run.open_round import Delivery
from requestor.training_run.order_desk import RoundDesk, RoundFiles
from requestor.training_run.reviewing import Objection
from requestor.trust.audit_draw import AuditCoin
from requestor.trust.disputes import Account, Dispute, Replay, Verdict
from requestor.trust.provenance import Standing

REQUESTOR = "requestor"
"""Who has verified what was done again on this machine."""


class VoiceHistory(Protocol):
    """What is remembered of providers across runs."""

    def verified(self, voice: str) -> int:
        """Return how many items of a voice were verified since it was last suspicious."""
        ...

    def audited(self, who: Who) -> None:
        """Note that an item was done again and found right."""
        ...


@dataclass(frozen=True)
class AuditDoors:
    """What audits need of the marketplace: what is known of voices, and what can be done to one."""

    history: VoiceHistory
    sanctions: Sanctions


@dataclass(frozen=True)
class AuditTools:
    """By what an auditor draws, replays, remembers and keeps evidence."""

    coin: AuditCoin
    findings: Findings
    replays: Replaying
    evidence: EvidenceFolder
    held: HeldFiles
    has_equal_bits: Callable[[Delivery], bool]
    """Tells whether an honest machine of that provider makes the same bits as this one."""

    witnesses: Witnesses = field(default_factory=NoWitnesses)
    """The providers that can do work again."""


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
        self._tools = tools
        self._doors = doors
        self._options = options
        self._emit = emit
        self._clock = clock
        self._on_finding = on_finding
        self._files: dict[int, RoundFiles] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._bought: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()
        self._running: Counter[str] = Counter()
        self._convicted = dict.fromkeys(tools.findings.convicted, "it has faked work before")
        self._doubted = set(tools.findings.doubted)
        self._court = Court(tools.replays, tools.witnesses, tools.has_equal_bits)

    # --- what the round tells ------------------------------------------------------------------

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        """Take notice of a round that begins."""
        last = {number: known for number, known in self._files.items() if number == plan.round - 1}
        self._files = {**last, plan.round: files}  # a late copy may be of the round before
        self._tools.witnesses.wait_less(is_all_in=False)

    def note(self, delivery: Delivery) -> None:
        """Draw a delivery or not; start its audit if it is drawn."""
        source = delivery.source
        if source is None or source.is_own or self._options.rates.is_off:
            return
        findings = self._tools.findings
        finding = findings.of_delivery(delivery)
        if finding is None:
            finding = self._drawn(delivery, source.voice)
            findings.write(finding)
        if finding.standing == "pending":  # drawn now, or before a crash
            self._begin_audit(delivery, finding)

    def suspect(self, delivery: Delivery, reason: str) -> None:
        """Audit a delivery for sure that is odd, if the coin has not drawn it anyway."""
        finding, source = self._tools.findings.of_delivery(delivery), delivery.source
        if finding is None or source is None or finding.standing != "unaudited":
            return
        finding = replace(finding, standing="pending", reason=reason)
        self._write(finding)
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
        if dispute.verdict is not None:
            finding = self._tools.findings.of_delivery(first)
            if one.by != two.by and finding is not None and finding.standing == "unaudited":
                by = REQUESTOR if two.by is None else two.by
                self._write(replace(finding, standing="verified", verified_by=(by,)))
            return
        if first.update.item.round in self._files:
            self._spawn(self._arbitrate(first, second, dispute, self._work(first)))

    async def review(self, plan: RoundPlan, deliveries: Sequence[Delivery]) -> Sequence[Objection]:
        """Return what turned out to be faked, and what else came from those who fake."""
        for delivery in deliveries:
            if self._tools.findings.of_delivery(delivery) is None:
                self.note(delivery)
        self._tools.witnesses.wait_less(is_all_in=True)
        is_waiting = self._options.when == "before_merge"
        await self._finish([task for task in self._tasks if task.done() or is_waiting])
        found = (self._objection(delivery) for delivery in deliveries)
        return [objection for objection in found if objection is not None]

    async def drain(self) -> None:
        """Wait until every audit that was begun has come to an end."""
        self._tools.witnesses.wait_less(is_all_in=True)
        while self._tasks:
            await self._finish(list(self._tasks))

    async def drain_bought(self) -> None:
        """Wait until every audit by providers has come to an end."""
        self._tools.witnesses.wait_less(is_all_in=True)
        while bought := [task for task in self._tasks if task in self._bought]:
            await self._finish(bought)

    async def close(self) -> None:
        """Give up what is going on; a resumed run takes it up again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tools.findings.close()

    # --- audits --------------------------------------------------------------------------------

    def _drawn(self, delivery: Delivery, voice: str) -> Finding:
        known = self._doors.history.verified(voice) + self._running[voice]
        is_suspicious = voice in self._convicted or voice in self._doubted
        chance = self._options.rates.chance(0 if is_suspicious else known)
        if self._is_bought(delivery) and not is_suspicious:
            chance = min(chance, self._options.bought)
        order, result = delivery.order_sha256, delivery.result_sha256
        is_drawn = self._tools.coin.draws(order, result, chance)
        item = delivery.update.item
        return Finding(
            order,
            result,
            item.round,
            item.client,
            voice,
            chance,
            "pending" if is_drawn else "unaudited",
        )

    def _is_bought(self, delivery: Delivery) -> bool:
        """Tell whether a provider has to do it again."""
        by = self._options.by
        return by == "providers" or (by == "auto" and not self._tools.has_equal_bits(delivery))

    def _begin_audit(self, delivery: Delivery, finding: Finding) -> None:
        work = self._work(delivery)
        if self._is_bought(delivery):
            self._bought.add(self._spawn(self._audit_by_providers(delivery, finding, work)))
        else:
            self._spawn(self._audit(delivery, finding, work))
        self._running[finding.voice] += 1

    async def _audit_by_providers(self, delivery: Delivery, finding: Finding, work: Work) -> None:
        started = self._clock()
        desk = held_desk(self._files[finding.round], work)
        try:
            hearing = await self._court.hear(delivery, work, desk, self._convicted.keys())
        finally:
            self._running[finding.voice] -= 1
            self._tools.held.release(work)
        for liar in hearing.liars:
            self._convict(liar.delivery, work, liar.dispute, liar.verdict, None)
        verdict = hearing.verdict
        self._doubted |= hearing.doubted
        finding = replace(finding, doubted=tuple(sorted(hearing.doubted)))
        if verdict.convicted:
            self._convict(delivery, work, hearing.dispute, verdict, hearing.other)
        elif verdict.outcome == "verified":
            self._verify(delivery, finding, hearing)
        elif hearing.is_unheard:
            reason = "no machine with equal bits did it again"
            self._write(replace(finding, standing="unaudited", chance=0.0, reason=reason))
        else:
            standing: Standing = "contradicted" if verdict.contradicted else "undecided"
            self._write(replace(finding, standing=standing, reason=verdict.reason))
        self._tell(delivery, verdict, self._clock() - started)

    def _verify(self, delivery: Delivery, finding: Finding, hearing: Hearing) -> None:
        witness, source = hearing.dispute.witness, delivery.source
        assert witness is not None and source is not None
        if witness.by is None:  # another provider's word makes no record: it may be the same owner
            who = Who(source.provider_id, source.provider_name, source.wallet)
            self._doors.history.audited(who)
        by = witness.by or REQUESTOR
        self._write(replace(finding, standing="verified", verified_by=(by,)))

    async def _audit(self, delivery: Delivery, finding: Finding, work: Work) -> None:
        started = self._clock()
        replayed: Replayed | None = None
        accused = account_of(delivery)
        assert accused is not None
        try:
            replayed = await self._tools.replays.replay(work, Replay())
            dispute = Dispute(accused, replayed.account)
            dispute = await self._settled(dispute, work, delivery)
        except (LocalWorkerError, WireError) as error:
            dispute = Dispute(accused, Account(None, ())).given_up()
            verdict = Verdict("undecided", reason=f"this machine can't do it again: {error}")
        else:
            assert dispute.verdict is not None
            verdict = dispute.verdict
        finally:
            self._running[finding.voice] -= 1
            self._tools.held.release(work)
        if verdict.convicted:
            self._convict(delivery, work, dispute, verdict, replayed)
        elif verdict.outcome == "verified" and delivery.source is not None:
            source = delivery.source
            self._doors.history.audited(
                Who(source.provider_id, source.provider_name, source.wallet)
            )
            self._write(replace(finding, standing="verified", verified_by=(REQUESTOR,)))
        else:
            self._write(replace(finding, standing="undecided", reason=verdict.reason))
        self._tell(delivery, verdict, self._clock() - started)

    async def _arbitrate(
        self, first: Delivery, second: Delivery, dispute: Dispute, work: Work
    ) -> None:
        """Find out who of two is wrong."""
        started = self._clock()
        try:
            dispute = await self._settled(dispute, work, first, second)
        except (LocalWorkerError, WireError):
            dispute = dispute.given_up()
        finally:
            self._tools.held.release(work)
        verdict = dispute.verdict
        assert verdict is not None
        for delivery in (first, second):
            if delivery.source is not None and delivery.source.voice in verdict.convicted:
                self._convict(delivery, work, dispute, verdict, None)
        self._tell(first, verdict, self._clock() - started)

    async def _settled(self, dispute: Dispute, work: Work, *parties: Delivery) -> Dispute:
        """Have done once more what it takes, where bits can be compared at all."""
        while (step := dispute.next_replay) is not None:
            if not all(self._tools.has_equal_bits(party) for party in parties):
                return dispute.given_up()
            again = await self._tools.replays.replay(work, step, is_fresh=True)
            dispute = dispute.heard(again.account)
        return dispute

    def _work(self, delivery: Delivery) -> Work:
        """Return the very order that a delivery answers, with its files, held."""
        item, desk = delivery.update.item, self._desk(delivery)
        inputs = desk.job(item, "audit", 0).inputs
        return self._tools.held.hold(Work(desk.order(item), inputs, desk.files.model_specs))

    def _desk(self, delivery: Delivery) -> RoundDesk:
        """Return a desk that makes the very order that a delivery answers."""
        item = delivery.update.item
        desk = RoundDesk(self._files[item.round])
        if order_digest(desk.order(item)) != delivery.order_sha256:
            desk.leave_state_out(item)
        return desk

    # --- consequences --------------------------------------------------------------------------

    def _convict(
        self,
        delivery: Delivery,
        work: Work,
        dispute: Dispute,
        verdict: Verdict,
        replayed: Replayed | None,
    ) -> None:
        source = delivery.source
        assert source is not None
        item = delivery.update.item
        files = self._files.get(item.round)
        is_accused = delivery.source is not None and delivery.source.voice == dispute.accused.by
        kept = None
        if files is not None and is_accused:
            kept = files.inbox / f"{delivery.order_sha256}.result"
        self._tools.evidence.keep(
            work, delivery, dispute, verdict, delivered=kept, replayed=replayed
        )
        finding = self._tools.findings.of_delivery(delivery)
        if finding is None:  # a copy that never counted
            finding = self._drawn(delivery, source.voice)
        if finding.standing == "faked":
            return
        is_news = source.voice not in self._convicted
        self._convicted[source.voice] = verdict.reason
        if is_news:  # before it is written that the audit is over: a crash leaves it to be done
            who = Who(source.provider_id, source.provider_name, source.wallet)
            refuse_bills = self._options.refuse_bills
            self._doors.sanctions.convict(who, verdict.reason, refuse_bills=refuse_bills)
        self._write(replace(finding, standing="faked", reason=verdict.reason))
        self._emit(
            events.ProviderConvicted(
                round=item.round,
                client=item.client,
                provider_name=source.provider_name,
                provider_id=source.provider_id,
                reason=verdict.reason,
                bills_refused=self._options.refuse_bills,
            )
        )

    def _objection(self, delivery: Delivery) -> Objection | None:
        finding = self._tools.findings.of_delivery(delivery)
        if finding is None or finding.stands(self._convicted):
            return None
        if finding.standing == "faked":
            return Objection(delivery, "fraud", f"the work was faked: {finding.reason}")
        if finding.voice in self._convicted:
            return Objection(delivery, "fraud", "its provider was convicted of faking work")
        if finding.standing == "contradicted":
            return Objection(delivery, "screened", finding.reason)
        return None

    # --- small things --------------------------------------------------------------------------

    def _write(self, finding: Finding) -> None:
        self._tools.findings.write(finding)
        self._on_finding(finding)

    def _tell(self, delivery: Delivery, verdict: Verdict, seconds: float) -> None:
        item, source = delivery.update.item, delivery.source
        self._emit(
            events.WorkAudited(
                round=item.round,
                client=item.client,
                provider_name=source.provider_name if source else "",
                provider_id=source.provider_id if source else "",
                outcome=verdict.outcome,
                reason=verdict.reason,
                seconds=seconds,
            )
        )

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
