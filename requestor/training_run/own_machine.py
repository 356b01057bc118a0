"""This machine as the provider of last resort: it does what none of those at work may do.

With robust merging a voice has its share of a round and no more, and nobody does an item again that
was taken back from him. When providers vanish or are convicted and the market has no others, the
rest of a round would wait for ever. An item is a pure function of its order, so it is done here:
unpaid, by a jailed worker, in nobody's voice. It never takes work from anybody at work, nor trains
alone: without a single lease a round waits for one.

Its bits are those of the fleet where the fleet's are each other's: README says where that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from provider_image.wire import TrainOrder, decode_order, sha256_file
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, LeaseInfo, OrderFailed
from requestor.trust.provenance import OWN_MACHINE

GRACE_SECONDS = 2.0
GRACE_ITEMS = 2.0
"""A provider that may do the rest has so long to come, and as long as so many items take."""


def grace_seconds(typical_seconds: float | None) -> float:
    """Return for how long a round must be stuck before this machine does its work."""
    return max(GRACE_SECONDS, GRACE_ITEMS * (typical_seconds or 0.0))


class Workshop(Protocol):
    """Does work on this machine: `evaluation.local_workshop.LocalWorkshop`."""

    async def train(
        self, order: TrainOrder, inputs: Mapping[str, Path], outputs: Mapping[str, Path]
    ) -> None:
        """Have an order done; each output of the order lands at the path given for its name."""
        ...


class OwnMachine:
    """The `ports.Lease` of this machine: no agreement, no wallet, no price."""

    def __init__(self, workshop: Workshop) -> None:
        """Have orders done in `workshop`."""
        self._workshop = workshop

    @property
    def info(self) -> LeaseInfo:
        """Nobody stands behind it; its voice is empty."""
        return LeaseInfo(
            id=OWN_MACHINE,
            provider_name=OWN_MACHINE,
            provider_id="",
            agreement_id="",
            prices=Prices(),
        )

    async def execute(self, job: Job) -> Mapping[str, str]:
        """Have the job done; see `ports.Lease`."""
        order = decode_order(job.order)
        if not isinstance(order, TrainOrder):
            raise OrderFailed("not an order to train")
        outputs = {name: output.path for name, output in job.outputs.items()}
        try:
            await self._workshop.train(order, job.inputs, outputs)
        except LocalWorkerError as error:
            raise OrderFailed(error.message) from error
        return {
            name: sha256_file(output.path, output.max_bytes)
            for name, output in job.outputs.items()
        }

    def assess(self, useful_steps: int, seconds: float) -> None:
        """Do nothing: it is not chosen among others."""

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        """Do nothing: it ends with the run."""
