"""The merge of a round's gradient estimates into one direction. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from provider_image.wire import POLICY_PREFIX, SERVER_PREFIX
from requestor.federation.gradient_rounds import GradientRound
from requestor.federation.merging.centre_rules import FedPgFilter
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.protocol import State
from requestor.federation.merging.server_optimizers import Sgd
from requestor.federation.model import Tensors
from requestor.federation.rounds import ClientUpdate, RoundOutcome, RoundPlan, close_round

DIRECTION_PREFIX = f"{SERVER_PREFIX}direction/"


def close_gradient_round(
    plan: RoundPlan,
    model: Tensors,
    updates: Sequence[ClientUpdate],
    merger: Merger,
    *,
    state: State | None = None,
    rejected: int = 0,
) -> RoundOutcome:
    """Merge a round's estimates; the outcome's `candidate` is the direction under `policy/...`.

    What rules and voices do is as in `rounds.close_round`, whose exceptions these are. Differences
    are merged and added to the direction that the model has. The server's optimizer is none of the
    merger's: its steps come afterwards, along the direction.
    """
    assert plan.gradient is not None
    base = {
        name: _last_direction(model, name) if plan.gradient.is_difference else np.zeros_like(tensor)
        for name, tensor in model.items()
        if name.startswith(POLICY_PREFIX)
    }
    return close_round(
        replace(plan, merges_normalizer=False),
        base,
        updates,
        gradient_merger(merger, plan.gradient),
        state=state,
        rejected=rejected,
    )


def gradient_merger(merger: Merger, step: GradientRound) -> Merger:
    """Return the merger of one round: FedPG-BR's filter knows how many episodes an estimate has."""
    rule = merger.rule
    if isinstance(rule, FedPgFilter) and rule.sigma is not None and rule.episodes is None:
        rule = replace(rule, episodes=float(step.episodes))
    return replace(merger, rule=rule, optimizer=Sgd(1.0))


def is_alone(outcome: RoundOutcome) -> bool:
    """Tell whether the rule kept nobody's estimate: the server then trains with its own."""
    return len(outcome.left_out) == len(outcome.merged_clients)


def _last_direction(model: Tensors, name: str) -> np.ndarray:
    return np.asarray(model[DIRECTION_PREFIX + name.removeprefix(POLICY_PREFIX)])
