"""yapapi's engine: made, started and stopped, with its failures in words of ours."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
from ya_payment.exceptions import ApiException
from yapapi import Golem, events
from yapapi.config import ApiConfig

from requestor.errors import PreflightError
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.daemon.patient_calls import PatientConfiguration
from requestor.marketplace.golem.daemon.presence import DaemonPresence, until_done
from requestor.marketplace.golem.paying.amounts import PlainDecimal
from requestor.marketplace.golem.renting.gftp_calls import finish_gftp_calls
from requestor.marketplace.golem.renting.strategy import CeilingStrategy
from requestor.marketplace.ports import MarketplaceLost, Terms

MAX_CANCELLATIONS = 8
CANCELLATION_SECONDS = 0.3
STOP_PAYING_SECONDS = 1.0


def make_engine(
    address: DaemonAddress,
    terms: Terms,
    amount_glm: Decimal,
    strategy: CeilingStrategy,
    on_event: Callable[[events.Event], None],
    presence: DaemonPresence,
) -> Golem:
    """Return an engine that will allocate exactly `amount_glm`, and outlive daemons' absences."""
    api_config = ApiConfig(
        app_key=address.app_key,
        api_url=address.url,
        market_url=address.market_url,
        payment_url=address.payment_url,
        activity_url=address.activity_url,
    )
    golem = Golem(
        budget=amount_glm,
        strategy=strategy,
        subnet_tag=terms.subnet,
        payment_driver=terms.payment_driver,
        payment_network=terms.payment_network,
        event_consumer=on_event,
        api_config=api_config,
    )
    # given as the budget it would become an ordinary decimal again
    golem._engine._budget_amount = PlainDecimal(amount_glm)
    golem._engine._api_config = PatientConfiguration(api_config, presence)
    return golem


async def start_engine(golem: Golem, amount_glm: Decimal) -> None:
    """Allocate, and start gftp and the loops that look for bills.

    Raises:
        PreflightError: the daemon refuses the allocation.
        MarketplaceLost: anything else; no allocation is left behind if the daemon answers.
    """
    # yapapi starts gftp in our process group: without this, Ctrl-C would kill it too
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        await golem.start()
        finish_gftp_calls(golem)
    except ApiException as error:
        raise PreflightError(
            f"the daemon refuses to set {amount_glm:.6g} GLM aside for the run (an allocation): "
            f"{_refusal(error)}",
            fix="lower golem.budget_glm or fund the account: `yagna payment fund` (testnets), "
            "`yagna payment status`",
        ) from error
    except (aiohttp.ClientError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise MarketplaceLost(f"the engine does not start: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


async def stop_engine(golem: Golem) -> None:
    """Release the allocation, end gftp and all loops, without waiting for bills."""
    # without payments to wait for, yapapi forgets to end this loop and waits 10 s for it
    await stop_paying(golem)
    await golem.stop(wait_for_payments=False)


async def stop_paying(golem: Golem) -> None:
    """End the loop that accepts invoices; the allocation stays."""
    engine: Any = golem._engine
    job: asyncio.Task[None] | None = engine._process_invoices_job
    if job is not None:
        job.cancel()
        await asyncio.wait({job}, timeout=STOP_PAYING_SECONDS)


async def within(
    seconds: float, step: Awaitable[Any], away_seconds: Callable[[], float] = lambda: 0.0
) -> None:
    """Await a step of closing, no longer than `seconds` and a little.

    The time in which the daemon is away (`away_seconds()` in all so far) does not count.
    It is cancelled as often as it takes: each stage of its own clean-up may wait for the same
    daemon that does not answer.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(step)
    try:
        await until_done(task, seconds, away_seconds)
        if task.done():
            task.result()
            return
        for _ in range(MAX_CANCELLATIONS):
            task.cancel()
            await asyncio.wait({task}, timeout=CANCELLATION_SECONDS)
            if task.done():
                break
    finally:
        task.cancel()
    raise TimeoutError


def _refusal(error: ApiException) -> str:
    """Return what the daemon said, which is JSON with a `detail` if it is yagna."""
    body = str(getattr(error, "body", None) or error)
    try:
        answer = json.loads(body)
        return str(answer["detail"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:300]
