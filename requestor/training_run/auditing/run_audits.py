"""The audits and the records of one run, from its first round to its last."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from provider_image.wire import (
    MAX_FILE_BYTES,
    order_digest,
    sha256_file,
    tensors_digest,
)
from requestor.federation.rounds import WorkItem
from requestor.marketplace.ports import Lease, LeaseInfo
from requestor.training_run import events
from requestor.training_run.auditing.auditor import Auditor
from requestor.training_run.auditing.canaries import Canaries, keep_canary_model, open_canaries
from requestor.training_run.auditing.equal_bits import equal_bits_of
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import REQUESTOR, Findings, audit_key
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.means import AuditDoors, AuditTools
from requestor.training_run.auditing.provenance_log import ProvenanceFolder, ProvenanceLog
from requestor.training_run.auditing.replaying import LocalReplays
from requestor.training_run.auditing.way_back import WayBack
from requestor.training_run.auditing.witnesses import ProviderWitnesses
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.errands import Errands
from requestor.training_run.open_round import Delivery, Rejection
from requestor.training_run.order_desk import RoundDesk
from requestor.training_run.referee import Candidate
from requestor.training_run.reviewing import Reviewer
from requestor.training_run.round_making import ClosedRound
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.settings import RunSettings
from requestor.trust.audit_draw import AuditCoin
from requestor.trust.fingerprints import fingerprint_without_canary
from requestor.trust.provenance import FIRST_PREVIOUS, RefusedRecord, RoundRecord, WorkRecord

Decision = Literal["published", "kept", "rolled_back"]

PACKAGES = ("derl", "numpy", "torch", "stable-baselines3", "gymnasium", "scipy")


class RunAudits:
    """Audits and records of one run; `open` it once its learner is settled, in `async with`."""

    def __init__(
        self,
        doors: AuditDoors | None,
        directory: RunDirectory,
        store: CheckpointStore,
        *,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float],
    ) -> None:
        """Keep records of the run in `directory`; without `doors` there are no audits."""
        self._doors = doors
        self._directory = directory
        self._store = store
        self._emit = emit
        self._clock = clock
        self._settings: RunSettings | None = None
        self._findings: Findings | None = None
        self._replays: LocalReplays | None = None
        self._auditor: Auditor | None = None
        self._log: ProvenanceLog | None = None
        self._canaries: Canaries | None = None
        self._config_sha256 = ""
        self.errands = Errands()

    async def __aenter__(self) -> Self:
        """Begin; nothing is started before `open`."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End audits that are going on; a resumed run takes them up."""
        if self._auditor is not None:
            await self._auditor.close()
        if self._canaries is not None:
            self._canaries.known.close()
        if self._replays is not None:
            await self._replays.__aexit__(kind, error, trace)

    async def open(self, settings: RunSettings, checkpoint: Checkpoint) -> Sequence[Reviewer]:
        """Go on after `checkpoint`; return who looks at deliveries."""
        self._settings = settings
        round_index = checkpoint.round
        config = self._directory.config
        if config.exists():
            self._config_sha256 = sha256_file(config, MAX_FILE_BYTES)
        folder = ProvenanceFolder(self._directory.provenance)
        run_id, options = settings.terms.run_id, settings.audits
        self._log = ProvenanceLog(folder, run_id, options.keep_rounds, options.keep_bytes)
        if (fault := self._log.open(round_index)) is not None:
            self._emit(events.Notice(fault))
        if self._doors is None or options.rates.is_off:
            return ()
        self._findings = Findings(self._directory.audits)
        self._findings.abandon(round_index)
        self._replays = LocalReplays(self._directory.local_audits, settings.learner)
        has_equal_bits = equal_bits_of(settings)
        has_bits_of: Callable[[LeaseInfo, Delivery], bool] = _always
        if fingerprint_without_canary(settings.learner, settings.environment) is None:
            keep_canary_model(self._directory, self._store.path(checkpoint.model))
            self._canaries = open_canaries(
                settings,
                self._directory,
                self._replays,
                lambda text: self._emit(events.Notice(text)),
            )
            await self._canaries.take_up()
            has_equal_bits = self._canaries.has_equal_bits
            has_bits_of = self._canaries.has_bits_of
        tools = AuditTools(
            AuditCoin(audit_key(self._directory.audit_key)),
            self._findings,
            self._replays,
            EvidenceFolder(self._directory.evidence),
            HeldFiles(self._directory.provenance / "held"),
            has_equal_bits,
            ProviderWitnesses(self.errands, has_bits_of),
        )
        self._auditor = Auditor(
            tools,
            self._doors,
            options,
            emit=self._emit,
            clock=self._clock,
            on_finding=self._log.found,
        )
        return (self._auditor,)

    def suspect(self, delivery: Delivery, reason: str) -> None:
        """Have a delivery audited that is odd."""
        if self._auditor is not None:
            self._auditor.suspect(delivery, reason)

    @property
    def greet(self) -> Callable[[Lease], Awaitable[None]] | None:
        """What a lease has to do before any order; None for nothing."""
        return self._canaries.greet if self._canaries is not None else None

    async def drain_bought(self) -> None:
        """Wait for the verdicts of the audits that leases have to do."""
        if self._auditor is not None:
            await self._auditor.drain_bought()

    async def drain(self) -> None:
        """Wait for the verdicts of all audits that were begun."""
        if self._auditor is not None:
            await self._auditor.drain()

    def record(self, before: Checkpoint, closed: ClosedRound, after: Checkpoint, cost: str) -> None:
        """Write the record of a round, and keep what it takes to do it again."""
        assert self._log is not None and self._settings is not None
        settings, number = self._settings, closed.plan.round
        work = tuple(self._work(closed.desk, one) for one in closed.harvest.deliveries)
        if settings.audits.on_fraud == "redo":
            way = self._way_back
            way.keep(before)
            self._log.keep(number, {**way.files(before), **self._files(before, closed)})
        else:
            self._log.keep(number, self._files(before, closed))
        self._log.append(
            RoundRecord(
                previous=FIRST_PREVIOUS,
                run_id=settings.terms.run_id,
                round=number,
                config_sha256=self._config_sha256,
                packages=_packages(),
                image=settings.terms.image,
                base_sha256=before.model.sha256,
                work=work,
                refused=tuple(
                    self._refused(closed.desk, item, one)
                    for item, rejections in closed.harvest.rejections.items()
                    for one in rejections
                ),
                screening=settings.audits.screening[:2000],
                merge=repr(settings.merger)[:2000],
                merge_state_sha256=before.merge_state.sha256 if before.merge_state else "",
                candidate_sha256=tensors_digest(closed.candidate.tensors),
                decision=_decision(after, closed.candidate),
                model_sha256=after.model.sha256,
                cost_glm=cost,
            )
        )

        for one in closed.harvest.deliveries:
            finding = self._findings.of_delivery(one) if self._findings else None
            if finding is not None and finding.standing == "unaudited" and finding.reason:
                self._log.found(finding)

    @property
    def is_to_go_back(self) -> bool:
        """True if fakes were merged, and the rounds since then are to be done again."""
        return (
            self._settings is not None
            and self._settings.audits.on_fraud == "redo"
            and self._log is not None
            and self._log.suspect_round() is not None
        )

    def go_back(self) -> Checkpoint:
        """Go back to before the first round with work of a convicted provider that nobody
        verified; return the checkpoint, which is the newest now.

        Raises:
            RunFailed: it was not kept.
        """
        assert self._log is not None
        number = self._log.suspect_round()
        assert number is not None
        checkpoint = self._way_back.take(number)
        self._log.void(number, "faked work had been merged before it was found out")
        self._emit(
            events.Notice(
                f"faked work had been merged: the rounds from {number + 1} on are done again"
            )
        )
        return checkpoint

    @property
    def _way_back(self) -> WayBack:
        return WayBack(ProvenanceFolder(self._directory.provenance), self._store)

    def _files(self, before: Checkpoint, closed: ClosedRound) -> dict[str, Path]:
        files = {before.model.sha256: self._store.path(before.model)}
        if before.merge_state is not None:
            files[before.merge_state.sha256] = self._store.path(before.merge_state)
        for delivery in closed.harvest.deliveries:
            item = delivery.update.item
            if closed.desk.order(item).client_state is not None:
                state = before.client_states[item.client]
                files[state.sha256] = self._store.path(state)
        return files

    def _work(self, desk: RoundDesk, delivery: Delivery) -> WorkRecord:
        item, source, is_own = delivery.update.item, delivery.source, delivery.is_own
        finding = self._findings.of_delivery(delivery) if self._findings else None
        state = desk.order(item).client_state
        return WorkRecord(
            client=item.client,
            seed=item.seed,
            order_sha256=delivery.order_sha256,
            result_sha256=delivery.result_sha256,
            last_link=delivery.links[-1] if delivery.links else "",
            state_sha256=state.sha256 if state is not None else "",
            provider_id=source.provider_id if source else "",
            provider_name=source.provider_name if source else "",
            wallet=source.wallet if source else None,
            agreement_id=source.agreement_id if source else "",
            chance=finding.chance if finding else 0.0,
            standing="verified" if is_own else finding.standing if finding else "unaudited",
            verified_by=(REQUESTOR,) if is_own else finding.verified_by if finding else (),
        )

    def _refused(self, desk: RoundDesk, item: WorkItem, rejection: Rejection) -> RefusedRecord:
        order_sha256 = order_digest(desk.order(item))
        key = order_sha256, rejection.result_sha256, rejection.voice
        finding = self._findings.get(key) if self._findings else None
        source = rejection.source
        return RefusedRecord(
            client=item.client,
            order_sha256=order_sha256,
            result_sha256=rejection.result_sha256,
            provider_id=source.provider_id if source else "",
            provider_name=source.provider_name if source else "",
            wallet=source.wallet if source else None,
            agreement_id=source.agreement_id if source else "",
            chance=finding.chance if finding else 0.0,
            kind="fraud" if rejection.kind == "fraud" else "screened",
            reason=rejection.reason[:2000],
        )


def _always(_: LeaseInfo, __: Delivery) -> bool:
    return True


def _decision(
    after: Checkpoint, candidate: Candidate
) -> Literal["published", "kept", "rolled_back"]:
    if f"-{candidate.round:05d}." not in after.model.name:
        return "rolled_back"
    return "published" if after.judged == after.model else "kept"


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
