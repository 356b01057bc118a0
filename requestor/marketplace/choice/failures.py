"""In which ways a provider can fail us, how much each weighs, and how fast it is forgotten. Pure.

A failure weighs `weight` when it happens and half of that after every `half_life_hours`. Weights
add up. A provider is avoided (rented only if nobody else is left) above `AVOID_ABOVE`, and banned
(not rented at all) above `BAN_ABOVE`. Nodes of one wallet share their standing: a failure of one
weighs `share` times as much on all others of its wallet, up to `SHARED_MOST` in all. What others
did adds up with a node's own failures to avoid it, never to ban it: for that, its own count alone.

| kind            | what happened                                     | weight | half-life | share |
|-----------------|---------------------------------------------------|--------|-----------|-------|
| no_activity     | under an agreement no activity could be created   | 1      | 6 h       | 0.5   |
| not_ready       | image or worker did not start, or not in time     | 1      | 12 h      | 0.5   |
| vanished        | lost in the middle of its work                    | 1      | 24 h      | 0.5   |
| no_result       | an order was not done within its time             | 1      | 24 h      | 0.5   |
| failed_orders   | it failed one order after the other               | 1      | 24 h      | 0.5   |
| slow            | others finished its work first, again and again   | 1      | 12 h      | 0     |
| ended_agreement | the agreement was ended over our heads            | 1      | 24 h      | 0.5   |
| note_flood      | it sent more debit notes than were agreed         | 1      | 72 h      | 1     |
| bad_result      | what it delivered was not what was ordered        | 2      | 168 h     | 1     |
| overbilled      | it asked for more than can be due                 | 2      | 168 h     | 1     |
| faked_work      | two others did its order again, and not as it did | 6      | 2160 h    | 1     |
| other           | not named; all that files of older versions know  | 1      | 24 h      | 0.5   |

So one `vanished` is avoided for 24 h * log2(1 / 0.9) = 3 h 39 min; one `bad_result` for 8 days,
two on one day are banned for 2 days 22 hours and avoided for a fortnight. One `faked_work` is
banned for 90 days, and avoided for eight months with all others of its wallet.

`SUSPICIOUS` are those after which nothing that was verified before counts any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

AVOID_ABOVE = 0.9
BAN_ABOVE = 3.0

SHARED_MOST = 1.5
"""No more than this weighs on a node for what others of its wallet did: it is avoided, not banned.

Nor is it banned where this comes on top of failures of its own, as long as those alone do not ban
it. Which wallet an offer names is its own choice, so a liar may name an honest provider's.
"""

FailureKind = Literal[
    "no_activity",
    "not_ready",
    "vanished",
    "no_result",
    "failed_orders",
    "slow",
    "ended_agreement",
    "note_flood",
    "bad_result",
    "overbilled",
    "faked_work",
    "other",
]


@dataclass(frozen=True)
class FailureRule:
    """What one failure weighs, how fast that halves, and how much of it its wallet bears."""

    weight: float
    half_life_hours: float
    share: float

    def left(self, weight: float, age_seconds: float) -> float:
        """Return what is left of a weight after so long; time does not run backwards."""
        return weight * float(0.5 ** (max(0.0, age_seconds) / (3600 * self.half_life_hours)))


RULES: Mapping[FailureKind, FailureRule] = {
    "no_activity": FailureRule(1.0, 6.0, 0.5),
    "not_ready": FailureRule(1.0, 12.0, 0.5),
    "vanished": FailureRule(1.0, 24.0, 0.5),
    "no_result": FailureRule(1.0, 24.0, 0.5),
    "failed_orders": FailureRule(1.0, 24.0, 0.5),
    "slow": FailureRule(1.0, 12.0, 0.0),
    "ended_agreement": FailureRule(1.0, 24.0, 0.5),
    "note_flood": FailureRule(1.0, 72.0, 1.0),
    "bad_result": FailureRule(2.0, 168.0, 1.0),
    "overbilled": FailureRule(2.0, 168.0, 1.0),
    "faked_work": FailureRule(6.0, 2160.0, 1.0),
    "other": FailureRule(1.0, 24.0, 0.5),
}

SUSPICIOUS: frozenset[FailureKind] = frozenset({"bad_result", "overbilled", "faked_work"})
"""Failures that no honest provider has by accident: its work is looked at as if it were new."""


def known_kind(name: str) -> FailureKind:
    """Return the kind of that name; `other` for names of another version."""
    return next((kind for kind in get_args(FailureKind) if kind == name), "other")
