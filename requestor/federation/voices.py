"""Whose word counts how often: a liar is one provider (or wallet), however many items it does.

A rule over N client updates tolerates f bad ones. Whoever did three items of a round has three of
the N, so with b liars no provider may do more than f / b of a round's items. The cap makes that
so while the merge stays blind to who did what: the same items give the same model. The other way,
`pooled`, gives each provider one voice by averaging what it sent first; then the model depends on
who did which item.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VoicePlan:
    """How many of a round's items one voice may do, and how many bad updates that makes at most.

    A voice is all providers of one wallet.
    """

    faulty_voices: int
    most_items: int
    faulty_items: int


TRUSTING = VoicePlan(faulty_voices=0, most_items=1_000_000, faulty_items=0)
"""Nobody is assumed to lie."""


def plan_voices(
    clients: int, providers: int, faulty_providers: int | None, most_items: int | None = None
) -> VoicePlan:
    """Return the plan of a round of `clients` items among `providers`.

    faulty_providers: how many of the providers may lie; None for a quarter, rounded down, of all
        but one: what every rule here can bear. most_items: the cap; None for an equal share,
        rounded up, which every provider needs to get the round done.

    With nobody assumed to lie there is no cap.

    Raises:
        ValueError: the cap leaves items that nobody may do.
    """
    voices = min(clients, providers)
    faulty = (voices - 1) // 4 if faulty_providers is None else faulty_providers
    if faulty == 0 and most_items is None:
        return VoicePlan(0, clients, 0)
    cap = math.ceil(clients / providers) if most_items is None else most_items
    if cap * providers < clients:
        raise ValueError(
            f"{providers} providers with at most {cap} items each do {cap * providers} of {clients}"
        )
    return VoicePlan(faulty, cap, min(clients, faulty * cap))
