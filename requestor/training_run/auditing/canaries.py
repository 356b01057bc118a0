"""Finds out whose machine makes the same bits as ours: every lease does the run's canary first.

Only where that is not promised of all machines (`requestor/trust/fingerprints.py`). It costs each
lease a second or two of CPU time, and nothing where the native learner steps native environments.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provider_image.wire import WireError, encode_order, read_bundle, result_bytes, tensors_digest
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.marketplace.ports import Job, Lease, LeaseInfo, OrderFailed, OutputFile
from requestor.training_run.auditing.replaying import Replaying, Work
from requestor.training_run.open_round import Delivery
from requestor.trust.disputes import Replay
from requestor.trust.fingerprints import fingerprint


@dataclass
class Canaries:
    """The fingerprints of this machine and of all leases of a run.

    work: the canary, with its files; it has no state to fetch.
    """

    work: Work
    replays: Replaying
    inbox: Path
    deadline_seconds: float
    notice: Callable[[str], None]
    _own: str | None = None
    _of_leases: dict[str, str] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

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
        self._of_leases[info.id] = found
        if found != self._own:
            self.notice(
                f"{info.provider_name}: its machine makes other bits of the run's canary than this "
                "one; where its work differs from ours, that convicts nobody"
            )

    def has_equal_bits(self, delivery: Delivery) -> bool:
        """Tell whether an honest machine of a delivery's sender makes the bits that ours makes."""
        if delivery.source is None or self._own is None:
            return False
        return self._of_leases.get(delivery.source.lease) == self._own

    def has_bits_of(self, info: LeaseInfo, delivery: Delivery) -> bool:
        """Tell whether a lease's machine makes the bits that a delivery's sender's makes."""
        if delivery.source is None:
            return False
        found = self._of_leases.get(info.id)
        return bool(found) and found == self._of_leases.get(delivery.source.lease)

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
