"""This machine as a lease: an item is a pure function of its order, so it can be done here.

It is done unpaid, by a jailed worker, in nobody's voice. Its bits are those of the fleet where the
fleet's are each other's: README says where that is. `last_resort.py` says when it is its turn.
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
            name: sha256_file(output.path, output.max_bytes) for name, output in job.outputs.items()
        }

    def assess(self, useful_steps: int, seconds: float) -> None:
        """Do nothing: it is not chosen among others."""

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        """Do nothing: it ends with the run."""
