"""Offers and negotiation: what a provider publishes, and what it says to a counter-proposal."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from requestor.mock_golem.fleet import Gpu, ProviderModel

DEBIT_NOTE_INTERVAL = "golem.com.scheme.payu.debit-note.interval-sec?"
PAYMENT_TIMEOUT = "golem.com.scheme.payu.payment-timeout-sec?"
DEBIT_NOTE_ACCEPT_TIMEOUT = "golem.com.payment.debit-notes.accept-timeout?"
CHOSEN_PLATFORM = "golem.com.payment.chosen-platform"
EXPIRATION = "golem.srv.comp.expiration"
USAGE_VECTOR = ("golem.usage.cpu_sec", "golem.usage.duration_sec")

_NEGOTIABLE = (DEBIT_NOTE_INTERVAL, PAYMENT_TIMEOUT, DEBIT_NOTE_ACCEPT_TIMEOUT)
NO_CAPACITY = "No capacity available. Reached Agreements limit: 1"
_MIN_ACCEPT_SECONDS = 5
_MAX_EXPIRATION_WITHOUT_NOTES = timedelta(minutes=30)
_MAX_EXPIRATION_WITHOUT_PAYMENTS = timedelta(hours=10)


class ProposalRefused(Exception):
    """The provider does not want these terms; the message is its reason."""


def offer_properties(
    provider: ProviderModel, subnet: str, platform: str, address: str
) -> dict[str, Any]:
    """Return the flat properties of a provider's offer; price coefficients are floats."""
    properties: dict[str, Any] = {
        "golem.activity.caps.deploy.report-progress": True,
        "golem.activity.caps.transfer.protocol": ["gftp", "http", "https"],
        "golem.activity.caps.transfer.report-progress": True,
        DEBIT_NOTE_ACCEPT_TIMEOUT: provider.terms.debit_note_accept_seconds,
        f"golem.com.payment.platform.{platform}.address": provider.wallet or address,
        "golem.com.payment.protocol.version": 3,
        "golem.com.pricing.model": "linear",
        "golem.com.pricing.model.linear.coeffs": provider.price.coefficients,
        "golem.com.scheme": "payu",
        DEBIT_NOTE_INTERVAL: _whole(provider.terms.debit_note_interval_seconds),
        PAYMENT_TIMEOUT: provider.terms.payment_timeout_seconds,
        "golem.com.usage.vector": list(USAGE_VECTOR),
        "golem.inf.cpu.architecture": "x86_64",
        "golem.inf.cpu.cores": provider.threads,
        "golem.inf.cpu.threads": provider.threads,
        "golem.inf.mem.gib": provider.memory_gib,
        "golem.inf.storage.gib": provider.storage_gib,
        "golem.node.debug.subnet": subnet,
        "golem.node.id.name": provider.name,
        "golem.node.net.is-public": False,
        "golem.runtime.capabilities": list(provider.capabilities),
        "golem.runtime.name": provider.runtime,
        "golem.runtime.version": "0.5.3",
        "golem.srv.caps.multi-activity": True,
        "golem.srv.caps.payload-manifest": False,
        **_gpu_properties(provider.gpu),
        **provider.properties,
    }
    return {name: value for name, value in properties.items() if value is not None}


def _gpu_properties(gpu: Gpu | None) -> dict[str, Any]:
    """Return a card's properties: by device as they are named now, or as GAP-35 first had them."""
    if gpu is None:
        return {}
    is_current = gpu.names == "current"
    prefix = "golem.inf.gpu.d0." if is_current else "golem.!exp.gap-35.v1.inf.gpu."
    capability = "cuda.caps" if is_current else "cuda.compute-capability"
    named = {
        "model": gpu.model,
        "cuda.enabled": True,
        "cuda.cores": gpu.cuda_cores,
        capability: "8.6",
        "memory.total.gib": gpu.memory_gib,
    }
    if is_current:
        named["quantity"] = gpu.quantity
    return {f"{prefix}{name}": value for name, value in named.items()}


def offer_constraints(subnet: str, now: datetime) -> str:
    """Return what a provider demands of a demand."""
    milliseconds = int(now.timestamp() * 1000)
    return f"(&({EXPIRATION}>{milliseconds})(golem.node.debug.subnet={subnet}))"


def answer_counter(
    offer: Mapping[str, Any], demand: Mapping[str, Any], provider: ProviderModel, now: datetime
) -> dict[str, Any]:
    """Return the properties of the provider's Draft in answer to a counter-proposal.

    Negotiable properties (those that end in `?`) are kept only where the demand names them: the
    debit-note interval and the payment timeout take the demand's value if it is not shorter than
    the offer's, the acceptance timeout if it is from 5 s to the offer's; else the offer's value
    stands.

    Raises:
        ProposalRefused: the demand's terms are unacceptable.
    """
    missing = [name for name in provider.terms.required_properties if demand.get(name) is None]
    if missing:
        paths = ",".join(f"/{name.replace('.', '/')}" for name in missing)
        raise ProposalRefused(f"Missing fields: {paths}")
    _check_platform(offer, demand)
    _check_expiration(demand, provider, now)
    draft = {name: value for name, value in offer.items() if name not in _NEGOTIABLE}
    for name in _NEGOTIABLE:
        wanted, own = _number(demand.get(name)), offer.get(name)
        if wanted is None or own is None:
            continue
        if name == DEBIT_NOTE_ACCEPT_TIMEOUT:
            agreed = _MIN_ACCEPT_SECONDS <= wanted <= own
        else:
            agreed = wanted >= own
        draft[name] = demand[name] if agreed else own
    return draft


def chosen_platform(demand: Mapping[str, Any]) -> str | None:
    """Return the payment platform that a demand names; the only one it can pay on, if none."""
    chosen = demand.get(CHOSEN_PLATFORM)
    if isinstance(chosen, str):
        return chosen
    start, end = "golem.com.payment.platform.", ".address"
    found = [name for name in demand if name.startswith(start) and name.endswith(end)]
    return found[0].removeprefix(start).removesuffix(end) if len(found) == 1 else None


def negotiated_seconds(properties: Mapping[str, Any], name: str) -> float | None:
    """Return a negotiable property's value in seconds, None if it was not agreed."""
    return _number(properties.get(name))


def expiration(demand: Mapping[str, Any]) -> datetime | None:
    """Return the instant at which a demand's agreements expire, None if it names none."""
    milliseconds = _number(demand.get(EXPIRATION))
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _check_platform(offer: Mapping[str, Any], demand: Mapping[str, Any]) -> None:
    platform = chosen_platform(demand)
    if f"golem.com.payment.platform.{platform}.address" not in offer:
        raise ProposalRefused(f"Payment platform {platform} is not supported")


def _check_expiration(demand: Mapping[str, Any], provider: ProviderModel, now: datetime) -> None:
    end = expiration(demand)
    if end is None:
        raise ProposalRefused(f"Missing property {EXPIRATION}")
    duration = end - now
    if duration < timedelta(seconds=provider.terms.min_expiration_seconds):
        raise ProposalRefused(
            f"Proposal expires at: {end}, which is less than "
            f"{provider.terms.min_expiration_seconds:g} s from now"
        )
    if DEBIT_NOTE_ACCEPT_TIMEOUT not in demand and duration > _MAX_EXPIRATION_WITHOUT_NOTES:
        raise ProposalRefused(
            f"Proposal expires at: {end}; over 30 minutes the requestor must accept debit notes"
        )
    if PAYMENT_TIMEOUT not in demand and duration > _MAX_EXPIRATION_WITHOUT_PAYMENTS:
        raise ProposalRefused(
            f"Proposal expires at: {end}; over 10 hours the requestor must pay in between"
        )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return number if math.isfinite(number) else None


def _whole(seconds: float) -> int | float:
    return int(seconds) if seconds.is_integer() else seconds
