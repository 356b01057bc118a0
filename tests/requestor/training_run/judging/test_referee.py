"""The referee publishes what is not worse, rolls back what is, and survives what cannot play."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    Bundle,
    EnvironmentSpec,
    LearnerSpec,
    ModelMetadata,
    StateRules,
    Tensors,
    read_bundle,
    write_bundle,
)
from requestor.errors import PreflightError
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker, LocalWorkerError
from requestor.federation.gate import NotWorseGate
from requestor.federation.seeds import held_out_seeds
from requestor.training_run import events
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.judging.referee import Candidate, Referee
from requestor.training_run.settings import EvaluationSettings, RunSettings
from tests.requestor.training_run.small_run import SMALL_RUN

ENVIRONMENT, LEARNER, RULES = EnvironmentSpec("E"), LearnerSpec("ppo"), StateRules()
METADATA = ModelMetadata(algorithm="ppo", environment_id="E", observation_space="", action_space="")


def run_settings(every_rounds: int, target_return: float | None) -> RunSettings:
    """A run of ten rounds, judged on four episodes and confirmed on five."""
    return replace(
        SMALL_RUN,
        environment=ENVIRONMENT,
        learner=LEARNER,
        rules=RULES,
        evaluation=EvaluationSettings(4, 5, every_rounds, target_return, True, NotWorseGate()),
    )


@dataclass
class Notes:
    """What was judged, and how the worker is."""

    judged: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    failure: LocalWorkerError | None = None
    final_penalty: float = 0.0


@dataclass(frozen=True)
class WeightJudge(Judge):
    """A model's every return is its one weight; from 1e6 on nothing can be played with it."""

    notes: Notes = field(default_factory=Notes)

    async def initialise(self, run_id: str, seed: int) -> Bundle:
        if self.notes.failure is not None:
            raise self.notes.failure
        path = self.worker.folder / "fresh.safetensors"
        write_bundle(path, tensors(0.0), METADATA)
        return read_bundle(path, max_bytes=10_000)

    async def evaluate(
        self, model: Path, seeds: Sequence[int], *, deterministic: bool
    ) -> Evaluation:
        weight = float(read_bundle(model, max_bytes=10_000).tensors["policy/w"][0])
        self.notes.judged.append((weight, tuple(seeds)))
        if self.notes.failure is not None:
            raise self.notes.failure
        if abs(weight) >= 1e6:
            raise LocalOrderFailed("invalid values: nan")
        value = weight - (self.notes.final_penalty if len(seeds) == 5 else 0.0)
        return Evaluation((value,) * len(seeds), (7,) * len(seeds))


def tensors(weight: float) -> Tensors:
    """A model of one weight."""
    return {"policy/w": np.array([weight], np.float32)}


class Court:
    """A referee with its judge, its store and what it told."""

    def __init__(self, folder: Path, every_rounds: int = 1, target: float | None = None) -> None:
        self.store = CheckpointStore(folder)
        self.judge = WeightJudge(LocalWorker(folder), ENVIRONMENT, LEARNER, RULES)
        self.notes = self.judge.notes
        self.log: list[events.Event] = []
        self.referee = Referee(
            run_settings(every_rounds, target),
            self.judge,
            self.store,
            emit=self.log.append,
            clock=lambda: 0.0,
        )
        self.checkpoint = asyncio.run(self.referee.first_checkpoint())

    def decide(self, weight: float, done: int, momentum: float | None = None) -> Checkpoint:
        """Let a candidate of one weight be decided on after `done` rounds.

        `momentum` is the server's after its merge.
        """
        state = {} if momentum is None else {"optimizer/momentum": np.array([momentum])}
        candidate = Candidate(done, 100 * done, tensors(weight), state)
        self.checkpoint = asyncio.run(self.referee.decide(self.checkpoint, candidate))
        return self.checkpoint

    @property
    def momentum(self) -> float | None:
        """What the next merge starts from."""
        file = self.checkpoint.merge_state
        if file is None:
            return None
        return float(self.store.load(file).tensors["optimizer/momentum"][0])

    @property
    def weight(self) -> float:
        """The weight of the global model."""
        return float(self.store.load(self.checkpoint.model).tensors["policy/w"][0])

    @property
    def best(self) -> tuple[float, int]:
        """Weight and round of the best model."""
        best = self.checkpoint.best
        return float(self.store.load(best.model).tensors["policy/w"][0]), best.round

    def rollbacks(self) -> Mapping[int, str]:
        """Round index and reason of everything that was rolled back."""
        return {e.round: e.reason for e in self.log if isinstance(e, events.ModelRolledBack)}


def test_the_untrained_model_is_judged_on_the_held_out_episodes(tmp_path: Path) -> None:
    court = Court(tmp_path)
    assert court.notes.judged == [(0.0, held_out_seeds(6, "evaluation", 4))]
    assert (court.checkpoint.round, court.checkpoint.total_steps) == (0, 0)
    assert court.checkpoint.judged_returns == (0.0,) * 4
    assert court.best == (0.0, 0)


def test_better_is_published_and_worse_is_rolled_back(tmp_path: Path) -> None:
    court = Court(tmp_path)
    assert court.decide(5.0, 1).total_steps == 100
    assert (court.weight, court.best) == (5.0, (5.0, 1))
    court.decide(3.0, 2)
    assert (court.weight, court.best) == (5.0, (5.0, 1))
    assert court.rollbacks() == {1: "worse than its parent: at best -2.0 at 95 %"}
    assert (court.checkpoint.round, court.checkpoint.total_steps) == (2, 200)
    court.decide(6.0, 3)
    assert (court.weight, court.best) == (6.0, (6.0, 3))


def test_a_model_that_nothing_can_be_played_with_is_rolled_back(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.decide(5.0, 1)
    court.decide(1e7, 2)
    assert (court.weight, court.checkpoint.round) == (5.0, 2)
    assert court.rollbacks() == {1: "it can't play: invalid values: nan"}


@pytest.mark.parametrize("every_rounds", [1, 5])
@pytest.mark.parametrize("weight", [float("inf"), float("nan")])
def test_a_model_that_is_not_finite_is_rolled_back_unjudged(
    tmp_path: Path, every_rounds: int, weight: float
) -> None:
    court = Court(tmp_path, every_rounds)
    court.decide(weight, 1)
    assert court.weight == 0.0
    assert court.rollbacks() == {0: "it has values that are not finite"}
    assert len(court.notes.judged) == 1


def test_a_worker_that_fails_ends_the_run_and_blames_no_model(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.notes.failure = LocalWorkerError("killed")
    with pytest.raises(LocalWorkerError, match="killed"):
        court.decide(5.0, 1)
    assert not court.rollbacks()


def test_unjudged_rounds_go_on_and_a_bad_end_goes_back_to_the_last_judged(tmp_path: Path) -> None:
    court = Court(tmp_path, every_rounds=3)
    for done, weight in enumerate((1.0, 2.0, 4.0, 3.0, 2.0), 1):
        court.decide(weight, done)
        assert court.weight == weight
    court.decide(1.0, 6)
    assert court.weight == 4.0
    assert [weight for weight, _ in court.notes.judged] == [0.0, 4.0, 1.0]
    # the last round is judged whatever its number
    court.decide(5.0, 10)
    assert court.notes.judged[-1][0] == 5.0


def test_the_target_counts_once_episodes_of_its_own_confirm_it(tmp_path: Path) -> None:
    court = Court(tmp_path, target=10.0)
    court.notes.final_penalty = 1.0
    assert not court.decide(10.5, 1).is_target_reached
    reached = court.decide(11.0, 2)
    assert reached.is_target_reached
    assert reached.final_returns == (10.0,) * 5
    assert court.notes.judged[-1] == (11.0, held_out_seeds(6, "final evaluation", 5))
    judged = len(court.notes.judged)
    final = asyncio.run(court.referee.final(reached))
    assert final == Evaluation((10.0,) * 5, (7,) * 5)
    assert len(court.notes.judged) == judged
    again = replace_final(reached)
    assert asyncio.run(court.referee.final(again)) == final
    assert len(court.notes.judged) == judged + 1


def replace_final(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without what confirmed its target."""
    return Checkpoint(
        round=checkpoint.round,
        total_steps=checkpoint.total_steps,
        model=checkpoint.model,
        judged=checkpoint.judged,
        judged_returns=checkpoint.judged_returns,
        best=checkpoint.best,
    )


def test_a_model_that_cannot_be_made_is_told_before_anything_is_rented(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.notes.failure = LocalOrderFailed("no such environment: E")
    with pytest.raises(PreflightError, match="no such environment: E"):
        asyncio.run(court.referee.first_checkpoint())


def test_the_merge_s_state_goes_on_with_the_model(tmp_path: Path) -> None:
    court = Court(tmp_path)
    assert court.momentum is None
    court.decide(1.0, 1, momentum=0.5)
    assert court.momentum == 0.5
    court.store.write(court.checkpoint)
    assert court.store.latest() == court.checkpoint  # with its file, which is not pruned
    assert court.momentum == 0.5


def test_a_rolled_back_model_takes_its_momentum_with_it(tmp_path: Path) -> None:
    court = Court(tmp_path, every_rounds=2)
    court.decide(1.0, 1, momentum=0.25)
    court.decide(2.0, 2, momentum=0.5)  # judged, and published
    court.decide(3.0, 3, momentum=0.75)  # not judged
    assert (court.weight, court.momentum) == (3.0, 0.75)
    court.decide(-9.0, 4, momentum=1.0)  # judged, and worse than at 2
    assert (court.weight, court.momentum) == (2.0, 0.5)


def test_a_momentum_beyond_all_bounds_is_rolled_back(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.decide(1.0, 1, momentum=0.5)
    court.decide(2.0, 2, momentum=float("inf"))
    assert (court.weight, court.momentum) == (1.0, 0.5)


def test_a_checkpoint_of_before_there_was_a_merge_state_is_read(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.store.write(court.checkpoint)
    path = tmp_path / "round-00000.json"
    record = json.loads(path.read_text())
    del record["merge_state"], record["judged_merge_state"]
    path.write_text(json.dumps(record))
    assert court.store.latest() == court.checkpoint
