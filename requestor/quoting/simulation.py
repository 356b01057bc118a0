"""A run played in no time: the real work queue over providers of given prices and paces. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from requestor.marketplace.money.spending import ZERO, Prices
from requestor.scheduling.work_queue import Ticket, WorkQueue

MAX_ITEMS = 400
"""Larger rounds are played with bundles of orders: where there are so many, none stands out."""

MAX_ROUNDS = 6
"""So many rounds are played; the others are taken to be like the last of these."""

SETTLED_ROUNDS = 3
WASTED_IN_A_ROW = 3
"""As in `training_run.driver`: who is late so often is given up."""


@dataclass(frozen=True)
class Plan:
    """What is to be done: `rounds` of `clients` orders, by `providers` at a time.

    `judged_every` rounds a model is judged, which is waited for.
    """

    rounds: int
    clients: int
    providers: int
    judged_every: int = 1
    speculate: bool = True


@dataclass(frozen=True)
class Worker:
    """A provider as it is expected to be; `order_cpu_seconds` is what it bills for an order.

    `source` says where its pace comes from.
    """

    name: str
    voice: str
    prices: Prices
    order_seconds: float
    order_cpu_seconds: float
    start_seconds: float
    start_cpu_seconds: float
    source: str = ""


@dataclass(frozen=True)
class Overheads:
    """What takes time besides orders, in seconds.

    before: from the first sign of the run to the agreements. between: from the last result of a
    round to the first order of the next, without evaluation. evaluation: one on held-out
    episodes. ending: from the last result to the end of all agreements. after: from there to the
    end of the run, with the last round's and the final evaluation.
    """

    before_seconds: float
    between_seconds: float
    evaluation_seconds: float
    ending_seconds: float
    after_seconds: float


@dataclass(frozen=True)
class Share:
    """What one provider does in a run, and what it bills."""

    worker: Worker
    orders: int
    seconds: float
    cpu_seconds: float
    glm: Decimal


@dataclass(frozen=True)
class Played:
    """A run that was played: GLM and seconds after the first round and for each further one."""

    first_glm: Decimal
    first_seconds: float
    round_glm: Decimal
    round_seconds: float
    shares: tuple[Share, ...]

    def glm(self, rounds: int) -> Decimal:
        """Return the cost of so many rounds."""
        return self.first_glm + max(0, rounds - 1) * self.round_glm

    def seconds(self, rounds: int) -> float:
        """Return the wall time of so many rounds."""
        return self.first_seconds + max(0, rounds - 1) * self.round_seconds


@dataclass
class _Lease:
    worker: Worker
    agreed_seconds: float
    free_seconds: float
    orders: int = 0
    late: int = 0
    ended_seconds: float | None = None

    def share(self, now_seconds: float, bundle: int, ending_seconds: float) -> Share:
        worker = self.worker
        end = now_seconds + ending_seconds
        if self.ended_seconds is not None:
            end = min(end, self.ended_seconds)
        seconds = max(0.0, end - self.agreed_seconds)
        orders = self.orders * bundle
        cpu = worker.start_cpu_seconds + orders * worker.order_cpu_seconds
        glm = worker.prices.cost_glm(_exact(cpu), _exact(seconds))
        return Share(worker, orders, seconds, cpu, glm)


@dataclass
class _Market:
    leases: list[_Lease]
    bench: list[Worker]
    bundle: int
    gone: list[_Lease] = field(default_factory=list)

    def replace(self, lease: _Lease, now_seconds: float) -> None:
        lease.ended_seconds = now_seconds
        self.leases.remove(lease)
        self.gone.append(lease)
        if self.bench:
            worker = self.bench.pop(0)
            self.leases.append(_Lease(worker, now_seconds, now_seconds + worker.start_seconds))


def play(
    plan: Plan, crew: Sequence[Worker], bench: Sequence[Worker], overheads: Overheads
) -> Played:
    """Play a run with `crew`, whose first `plan.providers` are rented; `bench` may replace them.

    Raises:
        ValueError: nobody is rented.
    """
    if not crew:
        raise ValueError("a run needs a provider")
    bundle = math.ceil(plan.clients / MAX_ITEMS)
    began = overheads.before_seconds
    rented = crew[: plan.providers]
    market = _Market(
        [_Lease(worker, began, began + worker.start_seconds) for worker in rented],
        [*crew[plan.providers :], *bench],
        bundle,
    )
    ends: list[tuple[float, Decimal, tuple[Share, ...]]] = []
    now, typical = began, None
    for number in range(1, min(plan.rounds, MAX_ROUNDS) + 1):
        now, typical = _round(plan, market, now, typical)
        ends.append((now, *_bills(market, now, overheads)))
        now += overheads.between_seconds
        if number % plan.judged_every == 0:
            now += overheads.evaluation_seconds
    return _played(ends, plan.rounds, overheads)


def _round(
    plan: Plan, market: _Market, now: float, typical: float | None
) -> tuple[float, float | None]:
    """Play one round from `now`; return its end and the usual duration of an order."""
    items = list(range(math.ceil(plan.clients / market.bundle)))
    queue = WorkQueue(items, max_attempts=1, speculate=plan.speculate, typical_seconds=typical)
    waiting = [(max(now, lease.free_seconds), n) for n, lease in enumerate(market.leases)]
    leases = list(market.leases)
    heapq.heapify(waiting)
    finishing: list[tuple[float, int, Ticket[int]]] = []
    end = now
    while not queue.is_settled:
        if finishing and (not waiting or finishing[0][0] <= waiting[0][0]):
            end, number, ticket = heapq.heappop(finishing)
            counts = queue.finish(ticket, end)
            _note(market, leases[number], ticket, counts=counts, now=end)
            if leases[number].ended_seconds is None:
                heapq.heappush(waiting, (end, number))
            continue
        at, number = heapq.heappop(waiting)
        lease = leases[number]
        found = queue.take(str(number), at, provider=lease.worker.voice)
        if found is None:
            look = queue.next_look_seconds(str(number), provider=lease.worker.voice)
            later = finishing[0][0] if finishing else math.inf
            later = later if look is None or look <= at else min(later, look)
            heapq.heappush(waiting, (max(later, math.nextafter(at, math.inf)), number))
            continue
        lease.orders += 1
        lease.free_seconds = at + lease.worker.order_seconds * market.bundle
        heapq.heappush(finishing, (lease.free_seconds, number, found))
    for _, number, ticket in finishing:  # still at it, in vain
        _note(market, leases[number], ticket, counts=False, now=end)
    return end, queue.typical_seconds


def _note(
    market: _Market, lease: _Lease, ticket: Ticket[int], *, counts: bool, now: float
) -> None:
    if counts:
        lease.late = 0
    elif not ticket.is_copy:
        lease.late += 1
        if lease.late >= WASTED_IN_A_ROW and len(market.leases) > 1:
            market.replace(lease, max(now, lease.free_seconds))


def _bills(
    market: _Market, now: float, overheads: Overheads
) -> tuple[Decimal, tuple[Share, ...]]:
    shares = tuple(
        lease.share(now, market.bundle, overheads.ending_seconds)
        for lease in [*market.gone, *market.leases]
    )
    return sum((share.glm for share in shares), ZERO), shares


def _played(
    ends: list[tuple[float, Decimal, tuple[Share, ...]]], rounds: int, overheads: Overheads
) -> Played:
    after = overheads.ending_seconds + overheads.after_seconds
    first_seconds, first_glm, _ = ends[0]
    last_seconds, last_glm, _ = ends[-1]
    played = len(ends)
    settled = ends[max(0, played - 1 - SETTLED_ROUNDS)]
    span = min(played - 1, SETTLED_ROUNDS)
    further_seconds = (last_seconds - settled[0]) / span if span else 0.0
    further_glm = (last_glm - settled[1]) / span if span else ZERO
    beyond = rounds - played
    total_seconds = last_seconds + beyond * further_seconds
    total_glm = last_glm + beyond * further_glm
    each = max(1, rounds - 1)
    return Played(
        first_glm=first_glm,
        first_seconds=first_seconds + after,
        round_glm=(total_glm - first_glm) / each,
        round_seconds=(total_seconds - first_seconds) / each,
        shares=_extended(ends[-1][2], ends[0][2] if played > 1 else (), rounds, played),
    )


def _extended(
    last: tuple[Share, ...], first: tuple[Share, ...], rounds: int, played: int
) -> tuple[Share, ...]:
    """Return the shares at the end of all rounds, by what they grew by from the first on."""
    if rounds <= played:
        return last
    before = {id(share.worker): share for share in first}
    grown = []
    for share in last:
        old = before.get(id(share.worker), Share(share.worker, 0, 0.0, 0.0, ZERO))
        factor = (rounds - played) / max(1, played - 1)
        grown.append(
            Share(
                share.worker,
                round(share.orders + factor * (share.orders - old.orders)),
                share.seconds + factor * (share.seconds - old.seconds),
                share.cpu_seconds + factor * (share.cpu_seconds - old.cpu_seconds),
                share.glm + _exact(factor) * (share.glm - old.glm),
            )
        )
    return tuple(grown)


def _exact(seconds: float) -> Decimal:
    return Decimal(repr(seconds))
