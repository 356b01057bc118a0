"""What audits are worth: the chance that a cheat would have been caught.

A cheat fakes each of its items with chance c, without knowing which will be drawn. Item i, drawn
with chance p_i, then gives it away with chance p_i c, so of all items together it stays hidden
with chance prod(1 - p_i c). That is exact for the rates that were in force. Beforehand these are
not known, since they fall with every item that is drawn; `foreseen` adds up all ways that can go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from requestor.trust.audit_rates import AuditRates

SHARES = (0.1, 0.5, 1.0)
"""The shares of faked items that reports tell of."""


def caught(rates: Iterable[float], share: float) -> float:
    """Return the chance to have caught who fakes `share` of items drawn at these rates.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    _check(share)
    return 1.0 - math.prod(1.0 - rate * share for rate in rates)


def foreseen(rates: AuditRates, verified: int, items: int, share: float) -> float:
    """Return the chance to catch, within `items` items, a voice that so far has `verified` ones.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    _check(share)
    hidden = {verified: 1.0}
    for _ in range(items):
        after: dict[int, float] = {}
        for known, weight in hidden.items():
            drawn = rates.chance(known)
            after[known] = after.get(known, 0.0) + weight * (1.0 - drawn)
            after[known + 1] = after.get(known + 1, 0.0) + weight * drawn * (1.0 - share)
        hidden = after
    return 1.0 - sum(hidden.values())


def expected_audits(rates: AuditRates, verified: int, items: int) -> float:
    """Return how many of an honest voice's next items are done again on average."""
    state, total = {verified: 1.0}, 0.0
    for _ in range(items):
        after: dict[int, float] = {}
        for known, weight in state.items():
            drawn = rates.chance(known)
            total += weight * drawn
            after[known] = after.get(known, 0.0) + weight * (1.0 - drawn)
            after[known + 1] = after.get(known + 1, 0.0) + weight * drawn
        state = after
    return total


def _check(share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"a share of {share} is none")
