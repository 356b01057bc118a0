"""The records of one run's rounds, and the way back to before one that merged faked work."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from provider_image.wire import MAX_FILE_BYTES, order_digest, sha256_file, tensors_digest
from requestor.federation.rounds import WorkItem
from requestor.training_run import events
from requestor.training_run.auditing.findings import REQUESTOR, Finding, Findings
from requestor.training_run.auditing.provenance_log import ProvenanceFolder, ProvenanceLog
from requestor.training_run.auditing.way_back import WayBack
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.judging.referee import Candidate
from requestor.training_run.orders.deliveries import Delivery, Rejection
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.round_making import ClosedRound
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.settings import RunSettings
from requestor.trust.provenance import FIRST_PREVIOUS, RefusedRecord, RoundRecord, WorkRecord

PACKAGES = ("derl", "numpy", "torch", "stable-baselines3", "gymnasium", "scipy")


class RoundRecords:
    """Writes down who did what in a run's rounds, and keeps what it takes to do it again."""

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory,
        store: CheckpointStore,
        findings: Findings | None,
        emit: Callable[[events.Event], None],
    ) -> None:
        """Keep the records of the run in `directory`; without audits there are no `findings`."""
        folder, options = ProvenanceFolder(directory.provenance), settings.audits
        self._settings = settings
        self._store = store
        self._findings = findings
        self._emit = emit
        self._log = ProvenanceLog(
            folder, settings.terms.run_id, options.keep_rounds, options.keep_bytes
        )
        self._way_back = WayBack(folder, store)
        config = directory.config
        self._config_sha256 = sha256_file(config, MAX_FILE_BYTES) if config.exists() else ""

    def open(self, round_index: int) -> None:
        """Go on with the records of the rounds before; tell of it if they are damaged."""
        if (fault := self._log.open(round_index)) is not None:
            self._emit(events.Notice(fault))

    def found(self, finding: Finding) -> None:
        """Note what became known of work that may have been merged."""
        self._log.found(finding)

    def record(self, before: Checkpoint, closed: ClosedRound, after: Checkpoint, cost: str) -> None:
        """Write the record of a round, and keep what it takes to do it again."""
        settings, number = self._settings, closed.plan.round
        work = tuple(self._work(closed.desk, one) for one in closed.harvest.deliveries)
        if settings.audits.on_fraud == "redo":
            self._way_back.keep(before)
            files = {**self._way_back.files(before), **self._files(before, closed)}
            self._log.keep(number, files)
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
        is_wanted = self._settings.audits.on_fraud == "redo"
        return is_wanted and self._log.suspect_round() is not None

    def go_back(self) -> Checkpoint:
        """Go back to before the first round with work of a convicted provider that nobody
        verified; return the checkpoint, which is the newest now.

        Raises:
            RunFailed: it was not kept.
        """
        number = self._log.suspect_round()
        assert number is not None
        checkpoint = self._way_back.take(number)
        if self._findings is not None:
            self._findings.go_back(number)
        self._log.void(number, "faked work had been merged before it was found out")
        self._emit(
            events.Notice(
                f"faked work had been merged: the rounds from {number + 1} on are done again"
            )
        )
        return checkpoint

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
