"""This machine as a lease: it does a job as a provider would, in nobody's voice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from provider_image.wire import TrainOrder
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.marketplace.ports import OrderFailed
from requestor.training_run.dispatching.own_machine import OwnMachine
from requestor.training_run.orders.round_files import RESULT_NAME
from requestor.trust.provenance import OWN_MACHINE

if TYPE_CHECKING:
    from tests.requestor.training_run.orders.office import Office


class Bench:
    """A workshop that delivers what an office's honest provider would."""

    def __init__(self, office: Office, error: Exception | None = None) -> None:
        self.office, self.error = office, error
        self.job = office.job()

    async def train(
        self, order: TrainOrder, inputs: Mapping[str, Path], outputs: Mapping[str, Path]
    ) -> None:
        if self.error is not None:
            raise self.error
        assert set(inputs) == {order.model.name}
        assert set(outputs) == {RESULT_NAME}
        self.office.deliver(self.job)


def test_the_lease_does_a_job_as_a_provider_would(office: Office) -> None:
    bench = Bench(office)
    lease = OwnMachine(bench)
    claimed = asyncio.run(lease.execute(bench.job))
    assert claimed == {RESULT_NAME: office.deliver(bench.job)[RESULT_NAME]}
    assert (lease.info.voice, lease.info.agreement_id, lease.info.id) == ("", "", OWN_MACHINE)


def test_a_worker_that_does_not_start_is_an_order_that_failed(office: Office) -> None:
    lease = OwnMachine(Bench(office, LocalWorkerError("the local worker does not start")))
    with pytest.raises(OrderFailed, match="does not start"):
        asyncio.run(lease.execute(office.job()))
