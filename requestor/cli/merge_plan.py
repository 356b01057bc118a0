"""Says how many lying providers the merge of a run bears, and what to rent to bear more."""

from __future__ import annotations

from requestor.config import RunConfig, merger, voice_plan
from requestor.config.merging import MOST_PROVIDERS
from requestor.federation.merging.catalogue import names_of
from requestor.federation.voices import plan_voices


def merging_words(config: RunConfig) -> str:
    """Return one line: the merge's steps, how many liars it bears, and what would bear one more."""
    federation, golem = config.federation, config.golem
    plan = voice_plan(federation, golem)
    liars = plan.faulty_voices
    words = f"merge: {names_of(merger(federation, golem))}, bears "
    if liars == 0:
        words += "no lying provider"
    else:
        words += f"{liars} lying provider{'s' * (liars > 1)} of {golem.providers}"
        if federation.aggregation.voices == "capped":
            words += f" (at most {plan.most_items} of {federation.clients} items each)"
    if federation.aggregation.faulty_providers != "auto" or federation.aggregation.rule == "mean":
        return words
    more = _to_bear_more(federation.clients, golem.providers, liars)
    return words + (f"; {more} would bear {liars + 1}" if more else "")


def _to_bear_more(clients: int, providers: int, liars: int) -> str:
    for count in range(providers + 1, MOST_PROVIDERS + 1):
        needed = max(clients, count)
        if plan_voices(needed, count, None).faulty_voices > liars:
            also = f" with {needed} clients" if needed > clients else ""
            return f"{count} providers{also}"
    return ""
