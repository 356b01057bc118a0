"""Measuring paces for a quote: on this machine, or on one or two rented providers."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from requestor.config import RunConfig, resolved_yaml
from requestor.errors import PreflightError
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalWorker, LocalWorkerError
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.choice.selection import Offered
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.daemon.preflight import check_daemon
from requestor.marketplace.golem.renting.rental import GolemMarketplace
from requestor.marketplace.money.ledger import Ledger, read_ledger
from requestor.quoting.benchmark import Here, measure_here, measure_providers, open_book
from requestor.training_run.run_directory import (
    QUOTES_FOLDER,
    RunDirectory,
    new_run_directory,
    write_whole,
)
from requestor.training_run.settings import RunSettings

MEASURED_PROVIDERS = 2
MEASURE_SECONDS = 20.0
MIN_BUDGET_GLM = Decimal("0.000001")
BUDGETED_SECONDS = 90.0
"""A benchmark's budget pays for so long, start and end included, at the prices offered."""


@dataclass(frozen=True)
class Bench:
    """Where a benchmark takes place, and with what: `budget_glm` None: by the prices offered."""

    config: RunConfig
    address: DaemonAddress
    directory: RunDirectory
    history: ProviderHistory
    budget_glm: Decimal | None
    notice: Callable[[str], None]


@dataclass(frozen=True)
class Results:
    """Orders done by node id, what it cost, and how this machine did."""

    orders: dict[str, int]
    cost_glm: Decimal
    here: Here


async def look_here(settings: RunSettings) -> Here:
    """Measure this machine: a fresh model judged, one order done.

    Raises:
        PreflightError: the model can't be made here.
    """
    with tempfile.TemporaryDirectory(prefix="derl-quote-") as name:
        folder = Path(name)
        async with LocalWorker(folder / "worker", settings.learner) as worker:
            judge = Judge(worker, settings.environment, settings.learner, settings.rules)
            return await _here(settings, worker, judge, folder)


async def _here(
    settings: RunSettings, worker: LocalWorker, judge: Judge, folder: Path
) -> Here:
    try:
        return await measure_here(await open_book(settings, judge, folder), worker, judge)
    except LocalWorkerError as error:
        raise PreflightError(
            f"the model can't be made on this machine: {error.message}",
            fix="correct env and algo in the config, or install what they need",
        ) from error


async def measure(
    bench: Bench, settings: RunSettings, ranked: Sequence[Offered]
) -> Results:
    """Rent the best of the ranked offers for a short while and have them do orders of the run.

    Raises:
        PreflightError: the daemon is not fit, or no provider was ready in time.
    """
    golem, directory = bench.config.golem, bench.directory
    await check_daemon(
        bench.address,
        golem.payment_driver,
        golem.payment_network,
        is_private=golem.mode != "yagna",
    )
    budget = budget_for(bench.config, ranked, bench.budget_glm)
    # whoever cleans up after a crash pays within the budget that the folder's config names
    write_whole(directory.config, resolved_yaml(with_budget(bench.config, budget)).encode())
    count = min(MEASURED_PROVIDERS, len(ranked))
    bench.notice(
        f"renting {count} of {len(ranked)} providers for {MEASURE_SECONDS:.0f} s, "
        f"for {budget:.3g} GLM at most"
    )
    terms = replace(settings.terms, run_id=directory.run_id, providers=count, budget_glm=budget)
    settings = replace(settings, terms=terms)
    ledger = Ledger(directory.ledger)
    try:
        async with LocalWorker(directory.local, settings.learner) as worker:
            judge = Judge(worker, settings.environment, settings.learner, settings.rules)
            here = await _here(settings, worker, judge, directory.path)
            book = await open_book(settings, judge, directory.path)
            market = GolemMarketplace(bench.address, ledger, bench.history)
            terms = replace(terms, learner=book.learner.learner)
            found = await measure_providers(book, market, terms, MEASURE_SECONDS, bench.notice)
    except TimeoutError as error:
        raise PreflightError(
            "no provider was ready in time for a benchmark",
            fix="raise golem.deploy_timeout_seconds, or quote with --no-measure",
        ) from error
    finally:
        ledger.close()
    records = bench.history.records()
    for node, reason in found.refused.items():
        bench.notice(f"{records[node].name if node in records else node}: {reason}")
    return Results(found.orders, read_ledger(directory.ledger).total_glm, here)


def budget_for(
    config: RunConfig, ranked: Sequence[Offered], asked_glm: Decimal | None = None
) -> Decimal:
    """Return what a benchmark of the first offers may spend, never more than the run's budget.

    That is `asked_glm`; None for twice what their prices come to in `BUDGETED_SECONDS`.
    """
    if asked_glm is not None:
        return min(asked_glm, config.golem.budget_glm)
    seconds = Decimal(repr(BUDGETED_SECONDS))
    glm = sum(
        (one.prices.cost_glm(seconds, seconds) for one in ranked[:MEASURED_PROVIDERS]), Decimal(0)
    )
    return min(max(2 * glm, MIN_BUDGET_GLM), config.golem.budget_glm)


def with_budget(config: RunConfig, budget_glm: Decimal) -> RunConfig:
    """Return the config with another budget, no larger than its own."""
    budget = min(budget_glm, config.golem.budget_glm)
    golem = config.golem.model_copy(update={"budget_glm": budget})
    return config.model_copy(update={"golem": golem})


def create_benchmark(config: RunConfig, runs: Path) -> RunDirectory:
    """Create the folder of a benchmark: with a ledger, so that a crash leaves nothing unpaid."""
    directory = new_run_directory(runs, QUOTES_FOLDER, config.env.id)
    write_whole(directory.config, resolved_yaml(config).encode())
    identity = {"run_id": uuid.uuid4().hex, "created_unix_seconds": time.time()}
    write_whole(directory.identity, json.dumps(identity, indent=1).encode() + b"\n")
    return directory


def tidy(directory: RunDirectory) -> None:
    """Keep of a benchmark what its money went into."""
    if read_ledger(directory.ledger).is_open:
        return
    files = (directory.config, directory.identity, directory.ledger, directory.logs)
    kept = {path.name for path in files}
    for entry in directory.path.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if not directory.ledger.exists():
        shutil.rmtree(directory.path, ignore_errors=True)


