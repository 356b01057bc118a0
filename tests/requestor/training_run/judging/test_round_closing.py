"""Rounds closed by merges that look at how models play."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from requestor.errors import RunFailed
from requestor.federation.gate import OpenGate
from requestor.federation.merging.judged import Evolutionary, PerformanceWeighted, TransferBest
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.server_optimizers import Momentum
from requestor.federation.rounds import (
    ClientUpdate,
    FederationSettings,
    RoundOutcome,
    plan_round,
)
from requestor.federation.seeds import held_out_seeds
from requestor.training_run.judging.round_closing import RoundCloser
from requestor.training_run.judging.trials import trial_seeds
from requestor.training_run.orders.deliveries import Delivery, Harvest
from requestor.training_run.settings import EvaluationSettings
from tests.requestor.training_run.small_run import SMALL_RUN

SETTINGS = replace(
    SMALL_RUN,
    federation=FederationSettings(6, 10, 3, 64, 3),
    evaluation=EvaluationSettings(20, 50, 1, None, True, OpenGate()),
)


@dataclass
class Peak:
    """A model's return is how near its one weight is to 2."""

    seen: list[float] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    async def score(
        self, round_index: int, tensors: Mapping[str, NDArray[Any]], episodes: int
    ) -> float:
        self.seen.append(float(tensors["policy/w"][0]))
        return -abs(self.seen[-1] - 2.0)

    def tell(self, text: str) -> None:
        self.words.append(text)


def close(merger: Merger, trials: Peak | None) -> RoundOutcome:
    """Close a round whose clients moved the one weight, 0, to 1, 5 and -3."""
    plan = plan_round(SETTINGS.federation, 0)
    deliveries = tuple(
        Delivery(ClientUpdate(item, {"policy/w": np.array([change], np.float32)}), {})
        for item, change in zip(plan.items, (1.0, 5.0, -3.0), strict=True)
    )
    closer = RoundCloser(replace(SETTINGS, merger=merger), trials)
    model = {"policy/w": np.zeros(1, np.float32)}
    return asyncio.run(closer.close(plan, model, Harvest(deliveries)))


def test_the_best_client_s_model_is_copied() -> None:
    peak = Peak()
    outcome = close(Merger(judged=TransferBest()), peak)
    assert peak.seen == [1.0, 5.0, -3.0]
    assert outcome.candidate["policy/w"].tolist() == [1.0]
    assert (outcome.merged_clients, outcome.left_out) == ((0, 1, 2), (1, 2))
    assert "round 1: the best of 3 clients' models returned -1" in peak.words[0]


def test_the_better_half_is_mixed() -> None:
    # 2 / 3 of the first, 1 / 3 of the second, 5 apart from each other: 7 / 3
    outcome = close(Merger(judged=PerformanceWeighted("rank")), Peak())
    np.testing.assert_allclose(outcome.candidate["policy/w"], [7 / 3], rtol=1e-6)


def test_a_search_finds_what_no_client_has() -> None:
    peak = Peak()
    outcome = close(Merger(judged=Evolutionary(evaluations=60)), peak)
    assert len(peak.seen) == 3 + 1 + 60
    assert abs(float(outcome.candidate["policy/w"][0]) - 2.0) < 0.1


def test_trials_are_of_what_the_server_s_optimizer_makes() -> None:
    peak = Peak()
    outcome = close(Merger(judged=TransferBest(), optimizer=Momentum(0.5, 0.9)), peak)
    assert peak.seen == [0.5, 2.5, -1.5]
    assert outcome.candidate["policy/w"].tolist() == [2.5]
    assert outcome.state["optimizer/momentum"].tolist() == [5.0]


def test_without_anybody_to_play_it_fails() -> None:
    with pytest.raises(RunFailed, match="chosen by playing"):
        close(Merger(judged=TransferBest()), None)


def test_trials_are_on_episodes_that_no_model_is_published_by() -> None:
    published = {*held_out_seeds(6, "evaluation", 20), *held_out_seeds(6, "final evaluation", 50)}
    first, second = (trial_seeds(SETTINGS, round_index, 10) for round_index in (0, 1))
    assert len({*first, *second}) == 20
    assert not published & {*first, *second}
