"""What a quote takes for granted, in sentences for the person who is to pay. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from requestor.quoting.quote import DOUBT, FAILURES_PER_PROVIDER, Assumed, Source
from requestor.quoting.simulation import Overheads, Plan

_WORDS: dict[Source, str] = {
    "recorded": "as in earlier runs",
    "measured": "as just measured",
    "typical": "as providers usually have",
    "this machine": "as this machine has",
}


def assumptions(
    plan: Plan,
    overheads: Overheads,
    rented: Sequence[Assumed],
    *,
    shared_cores: int | None,
    target: float | None,
) -> tuple[str, ...]:
    """Return what is assumed, one sentence each."""
    found = [_speeds(rented)]
    starts = sorted(one.worker.start_seconds for one in rented)
    found.append(
        f"a provider is ready {starts[0]:.1f} to {starts[-1]:.1f} s after its agreement, "
        "and paid for that"
        if starts[-1] - starts[0] > 0.1
        else f"a provider is ready {starts[0]:.1f} s after its agreement, and paid for that"
    )
    found.append(
        f"providers wait, at their price for an hour, while a model is judged here "
        f"({overheads.evaluation_seconds:.2g} s, every {_rounds(plan.judged_every)}) "
        f"and between rounds ({overheads.between_seconds:.2g} s)"
    )
    found.append(
        ("the round is done" if plan.rounds == 1 else f"all {plan.rounds} rounds are done")
        + (
            f"; reaching a return of {target:g} earlier makes it cheaper, and when that is "
            "nobody can tell"
            if target is not None
            else ""
        )
    )
    if shared_cores is not None:
        found.append(f"all providers share the {shared_cores} cores of this machine")
    if len(rented) < plan.providers:
        found.append(
            f"only {len(rented)} of {plan.providers} providers can be had; the others never come"
        )
    found.append(
        f"the upper figures have one provider in {1 / FAILURES_PER_PROVIDER:.0f} fail once"
    )
    return tuple(found)


def _speeds(rented: Sequence[Assumed]) -> str:
    counts = Counter(one.source for one in rented)
    parts = [
        f"{count} {_WORDS[source]} (give or take {100 * DOUBT[source]:.0f} %)"
        for source, count in counts.most_common()
    ]
    return "speeds: " + ", ".join(parts)


def _rounds(count: int) -> str:
    return "round" if count == 1 else f"{count} rounds"
