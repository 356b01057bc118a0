"""What follows from a verdict: it is written down and told; who faked work is convicted for it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from requestor.marketplace.choice.history import Who
from requestor.training_run import events
from requestor.training_run.auditing.audited_rounds import AuditedRounds
from requestor.training_run.auditing.drawing import Drawing, Suspects
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import REQUESTOR, Finding, Findings
from requestor.training_run.auditing.hearings import Hearing
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.auditing.replaying import Replayed, Work
from requestor.training_run.dispatching.reviewing import Objection
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.trust.disputes import Dispute, Verdict
from requestor.trust.provenance import Standing


class Consequences:
    """Draws the consequences of audits for findings, providers and the round."""

    def __init__(
        self,
        findings: Findings,
        evidence: EvidenceFolder,
        doors: AuditDoors,
        rounds: AuditedRounds,
        drawing: Drawing,
        *,
        emit: Callable[[events.Event], None],
        on_finding: Callable[[Finding], None],
    ) -> None:
        """Write to `findings` and `evidence`; `on_finding` hears of what becomes known."""
        self._findings = findings
        self._evidence = evidence
        self._doors = doors
        self._rounds = rounds
        self._drawing = drawing
        self._emit = emit
        self._on_finding = on_finding

    @property
    def _suspects(self) -> Suspects:
        return self._drawing.suspects

    def write(self, finding: Finding) -> None:
        """Note what became known."""
        self._findings.write(finding)
        self._on_finding(finding)

    def follow_audit(
        self, delivery: Delivery, finding: Finding, work: Work, hearing: Hearing
    ) -> None:
        """Do what follows from the audit of a delivery that was drawn."""
        for liar in hearing.liars:
            self._convict(liar.delivery, work, liar.dispute, liar.verdict, None)
        verdict = hearing.verdict
        self._suspects.doubted |= hearing.doubted
        finding = replace(finding, doubted=tuple(sorted(hearing.doubted)))
        if verdict.convicted:
            self._convict(delivery, work, hearing.dispute, verdict, hearing.other)
        elif verdict.outcome == "verified":
            self._verify(delivery, finding, hearing)
        elif hearing.is_unheard:
            reason = "no machine with equal bits did it again"
            self.write(replace(finding, standing="unaudited", chance=0.0, reason=reason))
        else:
            standing: Standing = "contradicted" if verdict.contradicted else "undecided"
            self.write(replace(finding, standing=standing, reason=verdict.reason))

    def follow_arbitration(
        self, parties: tuple[Delivery, Delivery], work: Work, hearing: Hearing
    ) -> None:
        """Do what follows where it was found out which of two deliveries is wrong."""
        for delivery in parties:
            if delivery.source and delivery.source.voice in hearing.verdict.convicted:
                self._convict(delivery, work, hearing.dispute, hearing.verdict, None)

    def tell(self, delivery: Delivery, verdict: Verdict, seconds: float) -> None:
        """Tell what came of an audit that took so long."""
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

    def objection(self, delivery: Delivery) -> Objection | None:
        """Return why a delivery must not be merged, if it must not."""
        finding, convicted = self._findings.of_delivery(delivery), self._suspects.convicted
        if finding is None or finding.stands(convicted):
            return None
        if finding.standing == "faked":
            return Objection(delivery, "fraud", f"the work was faked: {finding.reason}")
        if finding.node in self._suspects.convicted_nodes:
            return Objection(delivery, "fraud", "its provider was convicted of faking work")
        if finding.standing == "contradicted":
            return Objection(delivery, "screened", finding.reason)
        return None

    def _verify(self, delivery: Delivery, finding: Finding, hearing: Hearing) -> None:
        witness, source = hearing.dispute.witness, delivery.source
        assert witness is not None and source is not None
        if witness.by is None:  # another provider's word makes no record: it may be the same owner
            self._doors.history.audited(_who(source))
        by = witness.by or REQUESTOR
        self.write(replace(finding, standing="verified", verified_by=(by,)))

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
        is_accused = source.voice == dispute.accused.by
        kept = self._rounds.kept_result(delivery) if is_accused else None
        self._evidence.keep(work, delivery, dispute, verdict, delivered=kept, replayed=replayed)
        finding = self._findings.of_delivery(delivery)
        if finding is None:  # a copy that never counted
            finding = self._drawing.draw(delivery, source)
        if finding.standing == "faked":
            return
        refuse_bills = self._drawing.options.refuse_bills
        is_news = source.provider_id not in self._suspects.convicted_nodes
        self._suspects.convicted.add(source.voice)
        self._suspects.convicted_nodes.add(source.provider_id)
        if is_news:  # before it is written that the audit is over: a crash leaves it to be done
            who = _who(source)
            self._doors.sanctions.convict(who, verdict.reason, refuse_bills=refuse_bills)
        self.write(replace(finding, standing="faked", reason=verdict.reason))
        self._emit(
            events.ProviderConvicted(
                round=item.round,
                client=item.client,
                provider_name=source.provider_name,
                provider_id=source.provider_id,
                reason=verdict.reason,
                bills_refused=refuse_bills,
            )
        )


def _who(source: Source) -> Who:
    return Who(source.provider_id, source.provider_name, source.wallet)
