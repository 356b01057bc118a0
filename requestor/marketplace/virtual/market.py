"""The `ports.Marketplace` of a study: leases whose orders a workshop on this machine does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from provider_image.wire import (
    MAX_FILE_BYTES,
    Tensors,
    TrainOrder,
    TrainResult,
    decode_metadata,
    decode_order,
    read_bundle,
    restore,
    sha256_file,
    specs_of,
    write_bundle,
)
from requestor.attacks.liar import Answer, Company, Liar, RefusesWork, flat
from requestor.attacks.vectors import Float32
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.choice.history import Who
from requestor.marketplace.money.spending import Prices, SpendingGuard
from requestor.marketplace.ports import Job, LeaseInfo, LeaseOver, OrderFailed, Terms
from requestor.marketplace.virtual.cohort import Cohort
from requestor.marketplace.virtual.providers import Bench, VirtualProvider


class Workshop(Protocol):
    """Does honest work on this machine."""

    async def train(
        self, order: TrainOrder, inputs: Mapping[str, Path], outputs: Mapping[str, Path]
    ) -> None:
        """Have an order done; each output of the order lands at the path given for its name.

        Raises:
            OrderFailed: the order cannot be done.
        """
        ...


@dataclass
class VirtualMarketplace:
    """A market of `providers`; `spares` take the place of who is let go for good.

    Liars are omniscient: each waits until the honest updates of its round are in. `opened` leases
    were there before: no agreement's name is used twice.
    """

    providers: list[VirtualProvider]
    spares: list[VirtualProvider]
    workshop: Workshop
    clients: int
    seed: int = 0
    liars: dict[str, Liar] = field(default_factory=dict)
    pool: VirtualPool | None = None
    opened: int = 0

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[VirtualPool]:
        """Open a pool of all providers; money is never asked for."""
        cohort = Cohort(self.clients)
        pool = VirtualPool(self, cohort, SpendingGuard(terms.budget_glm), Bench(self.spares))
        self.pool = pool
        for provider in self.providers:
            pool.open(provider)
        yield pool
        self.pool = None

    def convict(self, who: Who, reason: str, *, refuse_bills: bool) -> None:
        """Ban who faked work: `ports.Sanctions`."""
        if self.pool is not None:
            self.pool.ban(who.node_id, reason)

    def liar(self, provider: VirtualProvider) -> Liar | None:
        """Return the memory of a lying provider, the same for all its leases."""
        if provider.attack is None:
            return None
        if provider.name not in self.liars:
            company = Company(self.clients, sum(p.attack is not None for p in self.providers))
            number = len(self.liars)
            self.liars[provider.name] = Liar(provider.attack, company, self.seed * 1000 + number)
        return self.liars[provider.name]


class VirtualPool:
    """The `ports.ProviderPool` of a virtual market."""

    seconds_left = math.inf

    def __init__(
        self, market: VirtualMarketplace, cohort: Cohort, spending: SpendingGuard, bench: Bench
    ) -> None:
        """Serve leases of `market`."""
        self._market = market
        self._cohort = cohort
        self._bench = bench
        self.spending = spending
        self._ready: asyncio.Queue[VirtualLease] = asyncio.Queue()
        self._leases: list[VirtualLease] = []

    @property
    def market_view(self) -> str:
        """One line on what the market offered."""
        return f"{len(self._market.providers)} virtual providers"

    @property
    def awaits_more(self) -> bool:
        """True while somebody is ready, and not at work yet."""
        return not self._ready.empty()

    def review(self) -> None:
        """Nobody is better than another here."""

    async def next_lease(self) -> VirtualLease:
        """Wait for the next provider to become ready."""
        return await self._ready.get()

    def open(self, provider: VirtualProvider) -> None:
        """Put a lease with `provider` up."""
        self._market.opened += 1
        info = LeaseInfo(
            id=f"lease-{self._market.opened}",
            provider_name=provider.name,
            provider_id=provider.node_id,
            agreement_id=f"agreement-{self._market.opened}",
            prices=Prices(Decimal(0), Decimal(0), Decimal(0)),
            wallet=provider.wallet,
        )
        liar = self._market.liar(provider)
        lease = VirtualLease(self, provider, info, liar)
        self._leases.append(lease)
        self._ready.put_nowait(lease)

    def ended(self, lease: VirtualLease, *, avoid: bool, failure: FailureKind) -> None:
        """Fill the place of a provider whose lease has ended."""
        self._leases.remove(lease)
        self.open(self._bench.instead_of(lease.provider, avoid=avoid, failure=failure))

    def ban(self, node_id: str, reason: str) -> None:
        """End all leases of a node for good."""
        for lease in [one for one in self._leases if one.info.provider_id == node_id]:
            lease.release(reason, avoid=True, failure="faked_work")

    async def work(self, job: Job, liar: Liar | None) -> Mapping[str, str]:
        """Have a job done, honestly or not; the SHA-256 of what came of it."""
        order = decode_order(job.order)
        if not isinstance(order, TrainOrder):
            raise OrderFailed("not an order to train")
        outputs = {name: output.path for name, output in job.outputs.items()}
        result = outputs[order.output]
        if liar is None:
            await self._market.workshop.train(order, job.inputs, outputs)
            model = await asyncio.to_thread(_model, order, job)
            answer = await asyncio.to_thread(_read_answer, result)
            self._cohort.done(order.round, order.client, _update(order, model, answer))
        else:
            await self._lie(order, job, outputs, liar)
        return {name: sha256_file(path, MAX_FILE_BYTES) for name, path in outputs.items()}

    async def _lie(
        self, order: TrainOrder, job: Job, outputs: Mapping[str, Path], liar: Liar
    ) -> None:
        try:
            other = liar.to_execute(order)
        except RefusesWork as refused:
            raise OrderFailed(str(refused)) from refused
        number = self._cohort.taken_by_liar(order.round, order.client)
        model = await asyncio.to_thread(_model, order, job)
        honest = None
        if other is not None:
            await self._market.workshop.train(other, job.inputs, outputs)
            honest = await asyncio.to_thread(_read_answer, outputs[order.output])
        # a free rider that answers at once would be known by its pace alone
        seen = await self._cohort.honest(order.round)
        liar.company = Company(self._cohort.clients, self._cohort.lies(order.round), number)
        answer = liar.answer(order, model, honest, seen)
        write_bundle(outputs[order.output], answer.tensors, answer.metadata)


class VirtualLease:
    """The `ports.Lease` of one virtual provider."""

    def __init__(
        self, pool: VirtualPool, provider: VirtualProvider, info: LeaseInfo, liar: Liar | None
    ) -> None:
        """Stand for `provider` in `pool`; it lies as `liar` does, if there is one."""
        self.pool = pool
        self.provider = provider
        self.info = info
        self._liar = liar
        self._is_over = False

    async def execute(self, job: Job) -> Mapping[str, str]:
        """Have the job done; see `ports.Lease`."""
        if self._is_over:
            raise LeaseOver("the lease is over")
        return await self.pool.work(job, self._liar)

    def assess(self, useful_steps: int, seconds: float) -> None:
        """Nobody is chosen by that here."""

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        """End the lease; who comes next is the bench's affair."""
        if not self._is_over:
            self._is_over = True
            self.pool.ended(self, avoid=avoid, failure=failure)


def _model(order: TrainOrder, job: Job) -> Tensors:
    path = job.inputs[order.model.name]
    return read_bundle(path, max_bytes=order.model.bytes, sha256=order.model.sha256).tensors


def _read_answer(path: Path) -> Answer:
    bundle = read_bundle(path, max_bytes=MAX_FILE_BYTES)
    return Answer(bundle.tensors, decode_metadata(bundle, TrainResult))


def _update(order: TrainOrder, model: Tensors, answer: Answer) -> Float32:
    tensors = answer.tensors
    if order.compression is not None:
        tensors = restore(tensors, order.compression, specs_of(model), source="result")
    return flat(tensors)
