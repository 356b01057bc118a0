"""What an offer's properties say, read with the suspicion due to a stranger's text. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from requestor.marketplace.money.bills import payee_of
from requestor.marketplace.money.spending import Prices

CPU_COUNTER = "golem.usage.cpu_sec"
DURATION_COUNTER = "golem.usage.duration_sec"
EXPIRATION_PROPERTY = "golem.srv.comp.expiration"
MAX_NAME_LENGTH = 40
MAX_THREADS = 1024
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
FLOAT_DIGITS = Context(prec=15)
"""The decimal digits that a binary float of 64 bits is sure to carry."""


class OfferUnusable(ValueError):
    """The offer cannot be priced; the message says why."""


@dataclass(frozen=True)
class OfferTerms:
    """Name, size and prices of an offer."""

    provider_name: str
    threads: int
    prices: Prices
    usage_vector: tuple[str, ...]

    def cpu_seconds(self, usage: Sequence[float]) -> float:
        """Return the CPU time in a reported usage vector (same order as the offer's)."""
        by_counter = dict(zip(self.usage_vector, usage, strict=False))
        return float(_seconds(by_counter.get(CPU_COUNTER, 0.0)))

    def usage_cost_glm(self, usage: Sequence[float]) -> Decimal:
        """Return the price of a reported usage vector (same order as the offer's)."""
        by_counter = dict(zip(self.usage_vector, usage, strict=False))
        return self.prices.cost_glm(
            _seconds(by_counter.get(CPU_COUNTER, 0.0)),
            _seconds(by_counter.get(DURATION_COUNTER, 0.0)),
        )


def read_offer(properties: Mapping[str, Any]) -> OfferTerms:
    """Return the terms of an offer.

    Raises:
        OfferUnusable: another price model than linear, a counter we can't bound, negative or
            malformed prices.
    """
    if properties.get("golem.com.pricing.model") != "linear":
        raise OfferUnusable("the price model is not linear")
    if properties.get("golem.com.scheme") != "payu":
        raise OfferUnusable("the billing scheme is not pay-as-you-use")
    coefficients = properties.get("golem.com.pricing.model.linear.coeffs")
    counters = properties.get("golem.com.usage.vector")
    if not isinstance(coefficients, list) or not isinstance(counters, list):
        raise OfferUnusable("prices or usage counters are missing")
    if len(coefficients) != len(counters) + 1:
        raise OfferUnusable("the number of prices does not fit the usage counters")
    if len(set(map(str, counters))) != len(counters):
        raise OfferUnusable("a usage counter is named twice")
    if not all(_is_price(value) for value in coefficients):
        raise OfferUnusable("a price is negative or not a number")
    priced = dict(zip(map(str, counters), coefficients, strict=False))
    unknown = [
        name
        for name, price in priced.items()
        if price > 0 and name not in (CPU_COUNTER, DURATION_COUNTER)
    ]
    if unknown:
        raise OfferUnusable(f"it charges for {clean_name(unknown[0])}, which we can't check")
    return OfferTerms(
        provider_name=clean_name(properties.get("golem.node.id.name")),
        threads=_threads(properties.get("golem.inf.cpu.threads")),
        prices=Prices(
            start_glm=_decimal(coefficients[-1]),
            cpu_hour_glm=_hourly(priced.get(CPU_COUNTER, 0.0)),
            hour_glm=_hourly(priced.get(DURATION_COUNTER, 0.0)),
        ),
        usage_vector=tuple(map(str, counters)),
    )


def read_expiry(demand_properties: object) -> float | None:
    """Return when an agreement expires, in Unix seconds, by the demand that we made."""
    if not isinstance(demand_properties, Mapping):
        return None
    milliseconds = _number(demand_properties.get(EXPIRATION_PROPERTY))
    return None if milliseconds is None or milliseconds <= 0 else milliseconds / 1000


def read_wallet(properties: Mapping[str, Any], platform: str) -> str | None:
    """Return the address, in lower case, at which an offer wants to be paid on a platform."""
    address = payee_of(properties, platform)
    return address.lower() if address is not None and _ADDRESS.fullmatch(address) else None


def clean_name(name: object) -> str:
    """Return a stranger's name fit for a terminal: printable, short, never empty."""
    text = "".join(c for c in str(name or "") if c.isprintable()).strip()
    return text[:MAX_NAME_LENGTH] or "unnamed"


def _is_price(value: object) -> bool:
    number = _number(value)
    return number is not None and number >= 0


def _number(value: object) -> float | None:
    """Return a finite number; None for anything else, integers beyond all floats included."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _hourly(per_second: float) -> Decimal:
    """Return the price of an hour, free of the noise of a float: 0.2 and not 0.2000000000000016."""
    return FLOAT_DIGITS.multiply(_decimal(per_second), Decimal(3600)).normalize()


def _seconds(value: float) -> Decimal:
    return _decimal(value) if math.isfinite(value) and value > 0 else Decimal(0)


def _threads(value: object) -> int:
    number = _number(value)
    return 1 if number is None else max(1, min(MAX_THREADS, int(number)))
