"""What an offer's properties say, read with the suspicion due to a stranger's text. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from requestor.marketplace.spending import Prices

CPU_COUNTER = "golem.usage.cpu_sec"
DURATION_COUNTER = "golem.usage.duration_sec"
MAX_NAME_LENGTH = 40
MAX_THREADS = 1024


class OfferUnusable(ValueError):
    """The offer cannot be priced; the message says why."""


@dataclass(frozen=True)
class OfferTerms:
    """Name, size and prices of an offer."""

    provider_name: str
    threads: int
    prices: Prices
    usage_vector: tuple[str, ...]

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
    if not all(_is_price(value) for value in coefficients):
        raise OfferUnusable("a price is negative or not a number")
    priced = dict(zip(map(str, counters), coefficients, strict=False))
    unknown = [
        name
        for name, price in priced.items()
        if price > 0 and name not in (CPU_COUNTER, DURATION_COUNTER)
    ]
    if unknown:
        raise OfferUnusable(f"it charges for {unknown[0]}, which we can't check")
    return OfferTerms(
        provider_name=clean_name(properties.get("golem.node.id.name")),
        threads=_threads(properties.get("golem.inf.cpu.threads")),
        prices=Prices(
            start_glm=_decimal(coefficients[-1]),
            cpu_hour_glm=_decimal(priced.get(CPU_COUNTER, 0.0)) * 3600,
            hour_glm=_decimal(priced.get(DURATION_COUNTER, 0.0)) * 3600,
        ),
        usage_vector=tuple(map(str, counters)),
    )


def clean_name(name: object) -> str:
    """Return a provider's name fit for a terminal: printable, short, never empty."""
    text = "".join(c for c in str(name or "") if c.isprintable()).strip()
    return text[:MAX_NAME_LENGTH] or "unnamed"


def _is_price(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _seconds(value: float) -> Decimal:
    return _decimal(value) if math.isfinite(value) and value > 0 else Decimal(0)


def _threads(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return max(1, min(MAX_THREADS, int(value)))
    return 1
