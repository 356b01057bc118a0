"""A short benchmark: orders of the run itself, on this machine or on one or two providers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from provider_image.wire import ModelMetadata, decode_metadata, settled, specs_of, write_bundle
from requestor.errors import RunFailed
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker, LocalWorkerError
from requestor.federation.rounds import WorkItem, plan_round
from requestor.federation.seeds import derive_seed, held_out_seeds
from requestor.marketplace.ports import (
    Lease,
    LeaseError,
    LeaseLost,
    Marketplace,
    MarketplaceLost,
    Terms,
)
from requestor.quoting.knowledge import LocalPace
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import MODEL_NAME, RoundFiles
from requestor.training_run.settings import RunSettings

LOCAL_LIMIT_SECONDS = 90.0
"""An order that takes this machine longer is not waited for."""

MAX_JUDGED_EPISODES = 50
STOP_MARGIN_SECONDS = 0.5


@dataclass(frozen=True)
class Here:
    """What this machine measured of itself: an order (None: too long), and one episode."""

    pace: LocalPace | None
    untrained_episode_seconds: float


@dataclass(frozen=True)
class Benchmarked:
    """What providers did in a benchmark, by node id: orders that were as they should be."""

    orders: dict[str, int]
    refused: dict[str, str]


class OrderBook:
    """The orders of a run's first round, with a fresh model, in a folder."""

    def __init__(self, settings: RunSettings, folder: Path, model: Path, specs: RoundFiles) -> None:
        """Hold the orders that `specs` describe."""
        self.settings = settings
        self.folder = folder
        self.model = model
        self.desk = RoundDesk(specs)
        self.learner = specs.learner
        self.items = plan_round(settings.federation, 0).items

    def item(self, number: int) -> WorkItem:
        """Return the item of a number; there are as many as are asked for."""
        return self.items[number % len(self.items)]


async def open_book(settings: RunSettings, judge: Judge, folder: Path) -> OrderBook:
    """Make a fresh model in `folder`, as the run would, and return the orders for it."""
    seed = derive_seed(settings.federation.run_seed, "model")
    bundle = await judge.initialise(settings.terms.run_id, seed)
    metadata = decode_metadata(bundle, ModelMetadata)
    model = folder / MODEL_NAME
    reference = await asyncio.to_thread(write_bundle, model, bundle.tensors, metadata)
    inbox = folder / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    files = RoundFiles(
        run_id=settings.terms.run_id,
        environment=settings.environment,
        learner=settled(settings.learner, metadata),
        rules=settings.rules,
        model=reference,
        model_path=model,
        model_specs=specs_of(bundle.tensors),
        client_states={},
        inbox=inbox,
        order_timeout_seconds=settings.order_timeout_seconds,
        compression=settings.compression,
    )
    return OrderBook(settings, folder, model, files)


async def measure_here(book: OrderBook, worker: LocalWorker, judge: Judge) -> Here:
    """Judge a fresh model and do one order on this machine."""
    evaluation = book.settings.evaluation
    episodes = min(evaluation.episodes, MAX_JUDGED_EPISODES)
    seeds = held_out_seeds(book.settings.federation.run_seed, "quote", episodes)
    # the first evaluation of a worker makes the environment and the learner
    await judge.evaluate(book.model, seeds[:1], deterministic=evaluation.deterministic)
    began = time.monotonic()
    await judge.evaluate(book.model, seeds, deterministic=evaluation.deterministic)
    episode = (time.monotonic() - began) / episodes
    order = book.desk.order(book.item(0))
    began = time.monotonic()
    try:
        async with asyncio.timeout(LOCAL_LIMIT_SECONDS):
            await worker.execute(order, {MODEL_NAME: book.model})
    except (TimeoutError, LocalOrderFailed, LocalWorkerError):
        return Here(None, episode)
    seconds = time.monotonic() - began
    return Here(LocalPace(seconds, seconds), episode)


async def measure_providers(
    book: OrderBook,
    marketplace: Marketplace,
    terms: Terms,
    seconds: float,
    notice: Callable[[str], None],
) -> Benchmarked:
    """Rent `terms.providers` and give each orders for `seconds`, then end and pay everything.

    What they did goes into the providers' history, as in a run.

    Raises:
        DerlError: nobody could be rented, or the daemon went away.
    """
    try:
        return await _measure_providers(book, marketplace, terms, seconds, notice)
    except MarketplaceLost as error:
        raise RunFailed(
            f"the benchmark was cut off: {error}",
            fix="`derl-request doctor` tells how the daemon is; `derl-request sweep` ends what "
            "may be left",
        ) from error


async def _measure_providers(
    book: OrderBook,
    marketplace: Marketplace,
    terms: Terms,
    seconds: float,
    notice: Callable[[str], None],
) -> Benchmarked:
    orders: dict[str, int] = {}
    refused: dict[str, str] = {}
    async with marketplace.rent(terms, notice) as pool:

        async def serve(number: int) -> None:
            lease = await pool.next_lease()
            node = lease.info.provider_id
            orders.setdefault(node, 0)
            deadline = time.monotonic() + seconds
            try:
                while (left := deadline - time.monotonic()) > 0:
                    if pool.spending.may_spend_seconds(time.monotonic()) < STOP_MARGIN_SECONDS:
                        return
                    await _one_order(book, lease, number + orders[node] * terms.providers, left)
                    orders[node] += 1
            except LeaseError as error:
                if time.monotonic() < deadline:
                    refused[node] = str(error)
            finally:
                lease.release("the benchmark is over", avoid=False)

        async with asyncio.timeout(terms.deploy_timeout_seconds + seconds):
            tasks = [asyncio.ensure_future(serve(n)) for n in range(terms.providers)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    return Benchmarked(orders, refused)


async def _one_order(book: OrderBook, lease: Lease, number: int, left_seconds: float) -> None:
    """Have one order done and checked.

    Raises:
        LeaseError: it was not done in time, or not as it should be.
    """
    item = book.item(number)
    job = book.desk.job(item, lease.info.id, number + 1)
    began = time.monotonic()
    try:
        async with asyncio.timeout(left_seconds):
            claimed = await lease.execute(replace(job, deadline_seconds=left_seconds + 60))
        await asyncio.to_thread(book.desk.receive, item, job, claimed)
    except TimeoutError as error:
        # cut short by us: it says nothing of the provider
        raise LeaseLost("the benchmark's time is over") from error
    except LeaseError:
        lease.assess(0, time.monotonic() - began)
        raise
    except ValueError as error:
        lease.assess(0, time.monotonic() - began)
        lease.release(f"unusable result: {error}", avoid=True, failure="bad_result")
        raise LeaseLost(f"unusable result: {error}", "bad_result") from error
    finally:
        book.desk.discard(job)
    lease.assess(item.local_steps, time.monotonic() - began)
