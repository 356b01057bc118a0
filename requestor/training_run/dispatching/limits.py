"""When a round cannot go on: no money, no providers, or nobody who may do what is left."""

from __future__ import annotations

from requestor.errors import BudgetReached, RunFailed
from requestor.marketplace.ports import ProviderPool
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.open_round import OpenRound

STOP_MARGIN_SECONDS = 0.5
"""Money for less of everybody's time than this is as good as none."""


def check_money(pool: ProviderPool, now_seconds: float, *, may_go_on: bool) -> None:
    """Raise `BudgetReached` if the money is all but gone, or does not last for what must be done.

    `may_go_on`: work is out already, or an order may still go out, or none is needed.
    """
    spending = pool.spending
    if may_go_on and spending.may_spend_seconds(now_seconds) >= STOP_MARGIN_SECONDS:
        return
    due = spending.spent_before_glm + spending.exposure_glm(now_seconds)
    raise BudgetReached(
        f"the budget of {spending.budget_glm:f} GLM may not pay for another order: "
        f"up to {due:.3g} GLM are spent or due already, and these providers together "
        f"cost about {60 * spending.expected_rate_glm:.2g} GLM a minute",
        fix="`derl-request resume golem.budget_glm=…` goes on with a larger budget",
    )


def no_provider_came(pool: ProviderPool, waited_seconds: float) -> RunFailed:
    """Return the error that nobody was at work for so long."""
    return RunFailed(
        f"no provider was at work for {waited_seconds:.0f} s ({pool.market_view})",
        fix="raise golem.max_price, lower golem.memory_gib or golem.threads, check "
        "golem.subnet and golem.payment_network, or, where leases failed above, mend "
        "their reason (golem.image?); `derl-request resume` then goes on",
    )


def nobody_may_go_on(state: OpenRound, crew: Crew) -> RunFailed:
    """Return the error that those at work may not do what is left of a round, nor can we."""
    return RunFailed(
        f"{state.quorum_message}\nwhat is left may be done by none of the providers at work, "
        f"whose wallets are {len(set(crew.voices))}: each had its share of the round "
        "already, or what it delivered was rejected; this machine cannot do it either",
        fix="rent more providers (golem.providers), or let each do more of a round "
        "(federation.aggregation.items_per_provider); `derl-request resume` then goes on",
    )


def quorum_missed(state: OpenRound) -> RunFailed:
    """Return the error that a round is over without its quorum."""
    return RunFailed(
        state.quorum_message,
        fix="look at the reasons above; then `derl-request resume` tries the round again",
    )
