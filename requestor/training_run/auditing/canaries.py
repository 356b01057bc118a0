"""Finds out whose machine makes the same bits as ours: every lease does the run's canary first.

Only where that is not promised of all machines (`requestor/trust/fingerprints.py`). It costs each
lease a second or two of CPU time, and nothing where the native learner steps native environments.
Model and fingerprints lie in the run's `provenance/`: what came in before a crash is compared after
it, though its lease is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from provider_image.wire import (
    MAX_FILE_BYTES,
    FileRef,
    WireError,
    encode_order,
    order_digest,
    read_bundle,
    result_bytes,
    sha256_file,
    specs_of,
    tensors_digest,
)
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.federation.rounds import plan_round
from requestor.marketplace.ports import Job, Lease, LeaseInfo, OrderFailed, OutputFile
from requestor.training_run.auditing.replaying import Replaying, Work
from requestor.training_run.json_lines import JsonLines, read_json_lines
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import MODEL_NAME, RoundFiles
from requestor.training_run.run_directory import RunDirectory, write_whole
from requestor.training_run.settings import RunSettings
from requestor.trust.disputes import Replay
from requestor.trust.fingerprints import canary_order, fingerprint
from requestor.trust.provenance import MAX_RECORDS, WorkRecord


class Fingerprints:
    """What leases made of a run's canary, kept in a file: by provider and agreement."""

    def __init__(self, path: Path, canary_sha256: str) -> None:
        """Take up what `path` holds of the canary whose order has this digest.

        Of no more than `MAX_RECORDS` lines, each of no more than `MAX_LINE_BYTES`.
        """
        self._canary = canary_sha256
        self._of: dict[tuple[str, str], str] = {}
        for line in islice(read_json_lines(path), MAX_RECORDS):
            found = line.get("provider_id"), line.get("agreement_id"), line.get("fingerprint")
            if line.get("canary") == canary_sha256 and all(isinstance(one, str) for one in found):
                provider_id, agreement_id, fingerprint_sha256 = map(str, found)
                self._of[provider_id, agreement_id] = fingerprint_sha256
        self.is_taken_up = bool(self._of)
        self._file = JsonLines(path)

    def of(self, who: LeaseInfo | Source | WorkRecord | None) -> str:
        """Return the fingerprint of who had an agreement; empty where there is none."""
        return self._of.get((who.provider_id, who.agreement_id), "") if who is not None else ""

    def write(self, info: LeaseInfo, found: str) -> None:
        """Note the fingerprint of a lease; it replaces an earlier one."""
        self._of[info.provider_id, info.agreement_id] = found
        self._file.append(
            {
                "canary": self._canary,
                "provider_id": info.provider_id,
                "agreement_id": info.agreement_id,
                "fingerprint": found,
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Canaries:
    """The fingerprints of this machine and of all leases of a run.

    work: the canary, with its files; it has no state to fetch. known: those of leases so far.
    """

    work: Work
    replays: Replaying
    inbox: Path
    deadline_seconds: float
    notice: Callable[[str], None]
    known: Fingerprints
    _own: str | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take_up(self) -> None:
        """Make ready for work that came in before a crash; without any, nothing is done yet."""
        if self.known.is_taken_up:
            await self._learn_own()

    async def greet(self, lease: Lease) -> None:
        """Have a lease do the canary; whoever fails it is not compared with anybody.

        Raises:
            LeaseLost: the lease ended.
        """
        await self._learn_own()
        info = lease.info
        name = self.work.order.output
        path = self.inbox / f"canary-{info.id}-{os.getpid()}"
        most = result_bytes(self.work.model_specs, None)
        job = Job(
            order=encode_order(self.work.order),
            inputs=self.work.inputs,
            input_digests={self.work.order.model.name: self.work.order.model.sha256},
            outputs={name: OutputFile(path, most)},
            deadline_seconds=self.deadline_seconds,
        )
        try:
            claimed = await lease.execute(job)
            bundle = read_bundle(path, max_bytes=most, sha256=claimed.get(name, ""))
            found = fingerprint(self.work.order, bundle, self.work.model_specs)
        except (OrderFailed, WireError):
            found = ""
        finally:
            path.unlink(missing_ok=True)
        self.known.write(info, found)
        if found != self._own:
            self.notice(
                f"{info.provider_name}: its machine makes other bits of the run's canary than this "
                "one; where its work differs from ours, that convicts nobody"
            )

    def has_equal_bits(self, delivery: Delivery) -> bool:
        """Tell whether an honest machine of a delivery's sender makes the bits that ours makes."""
        return self._is_own(self.known.of(delivery.source))

    async def had_equal_bits(self, work: WorkRecord) -> bool:
        """Tell the same of who did an item of a run that is over."""
        await self.take_up()
        return self._is_own(self.known.of(work))

    def has_bits_of(self, info: LeaseInfo, delivery: Delivery) -> bool:
        """Tell whether a lease's machine makes the bits that a delivery's sender's makes."""
        found = self.known.of(info)
        return bool(found) and found == self.known.of(delivery.source)

    def _is_own(self, found: str) -> bool:
        return bool(found) and found == self._own

    async def _learn_own(self) -> None:
        async with self._turn:
            if self._own is not None:
                return
            try:
                done = await self.replays.replay(self.work, Replay())
            except (LocalWorkerError, WireError) as error:
                self.notice(f"this machine cannot do the run's canary: {error}")
                self._own = "none"  # like nobody's
            else:
                self._own = tensors_digest(done.tensors)  # as `fingerprint` has it, of no state


def keep_canary_model(directory: RunDirectory, newest: Path) -> None:
    """Have the model that canaries train lie in the run's folder: the first that was the newest.

    Only so can fingerprints from before a crash be compared with those after it.
    """
    path = _model_path(directory)
    try:
        read_bundle(path, max_bytes=MAX_FILE_BYTES)
    except (OSError, WireError):
        write_whole(path, newest.read_bytes())


def open_canaries(
    settings: RunSettings,
    directory: RunDirectory,
    replays: Replaying,
    notice: Callable[[str], None],
) -> Canaries:
    """Return the canaries of a run whose learner is settled, with what its folder knows of them.

    Raises:
        OSError: its canaries' model was never kept.
        WireError: that is damaged.
    """
    path = _model_path(directory)
    bundle = read_bundle(path, max_bytes=MAX_FILE_BYTES)
    sha256 = sha256_file(path, MAX_FILE_BYTES)
    specs = specs_of(bundle.tensors)
    desk = RoundDesk(
        RoundFiles(
            run_id=settings.terms.run_id,
            environment=settings.environment,
            learner=settings.learner,
            rules=settings.rules,
            model=FileRef(name=MODEL_NAME, sha256=sha256, bytes=path.stat().st_size),
            model_path=path,
            model_specs=specs,
            client_states={},
            inbox=directory.inbox,
            order_timeout_seconds=settings.order_timeout_seconds,
        )
    )
    order = desk.order(plan_round(settings.federation, 0).items[0])
    canary = canary_order(order, order.model)
    return Canaries(
        Work(canary, {canary.model.name: path}, specs),
        replays,
        directory.inbox,
        settings.order_timeout_seconds,
        notice,
        Fingerprints(directory.provenance / "canaries.jsonl", order_digest(canary)),
    )


def _model_path(directory: RunDirectory) -> Path:
    return directory.provenance / "canary.safetensors"
