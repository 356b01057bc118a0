"""The audits of one run, from its first round to its last; `round_records.py` has its records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from requestor.marketplace.ports import Lease, LeaseInfo
from requestor.training_run import events
from requestor.training_run.auditing.auditor import Auditor
from requestor.training_run.auditing.canaries import Canaries, keep_canary_model, open_canaries
from requestor.training_run.auditing.equal_bits import equal_bits_of
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import Findings, audit_key
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.means import AuditDoors, AuditTools
from requestor.training_run.auditing.replaying import LocalReplays
from requestor.training_run.auditing.round_records import RoundRecords
from requestor.training_run.auditing.witnesses import ProviderWitnesses
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.dispatching.errands import Errands
from requestor.training_run.dispatching.reviewing import Reviewer
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.settings import RunSettings
from requestor.trust.audit_draw import AuditCoin
from requestor.trust.fingerprints import fingerprint_without_canary


class RunAudits:
    """Audits and records of one run; `open` them once its learner is settled, in `async with`."""

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
        self._records: RoundRecords | None = None
        self._replays: LocalReplays | None = None
        self._auditor: Auditor | None = None
        self._canaries: Canaries | None = None
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
        round_index, options = checkpoint.round, settings.audits
        doors = None if options.rates.is_off else self._doors
        findings = Findings(self._directory.audits) if doors is not None else None
        self._records = RoundRecords(settings, self._directory, self._store, findings, self._emit)
        self._records.open(round_index)
        if doors is None or findings is None:
            return ()
        findings.go_back(round_index)  # the rounds from here on may have been done before
        findings.abandon(round_index, self._records.found)
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
            findings,
            self._replays,
            EvidenceFolder(self._directory.evidence),
            HeldFiles(self._directory.provenance / "held"),
            has_equal_bits,
            ProviderWitnesses(self.errands, has_bits_of),
        )
        self._auditor = Auditor(
            tools,
            doors,
            options,
            emit=self._emit,
            clock=self._clock,
            on_finding=self._records.found,
        )
        return (self._auditor,)

    @property
    def records(self) -> RoundRecords:
        """The records of the run's rounds; there are some once it is open."""
        assert self._records is not None
        return self._records

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


def _always(_: LeaseInfo, __: Delivery) -> bool:
    return True
