"""The reviewer of cohorts: what it remembers of rounds, and what it does without a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import ModelMetadata, write_bundle
from requestor.evaluation.judge import Divergences
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.federation.cohort_screening import Limits
from requestor.federation.rounds import ClientUpdate, FederationSettings, plan_round
from requestor.training_run.dispatching.cohort_reviewer import CohortReviewer, ProbeSet
from requestor.training_run.dispatching.reviewing import Objection
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.training_run.orders.round_files import RoundFiles

CLIENTS = 5
SIZE = 64
METADATA = ModelMetadata(algorithm="ppo", environment_id="E", observation_space="", action_space="")


@dataclass
class FakeJudge:
    """Says what it is told, and what it was asked."""

    values: np.ndarray | None = None
    asked: list[tuple[Path, int, tuple[int, ...], int]] = field(default_factory=list)

    async def probe(
        self, model: Path, updates: np.ndarray, seeds: Sequence[int], *, samples: int
    ) -> Divergences:
        self.asked.append((model, len(updates), tuple(seeds), samples))
        if self.values is None:
            raise LocalOrderFailed("nothing can be played")
        return Divergences(self.values, "kl")


@dataclass
class Bench:
    """A reviewer, and models to begin rounds with."""

    folder: Path
    files: RoundFiles
    judge: FakeJudge | None = None
    notices: list[str] = field(default_factory=list)
    suspects: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        probe_set = None
        if self.judge is not None:
            probe_set = ProbeSet(self.judge, (7, 8), 32)
        self.reviewer = CohortReviewer(
            Limits(),
            probe_set,
            notice=self.notices.append,
            suspect=lambda delivery, _: self.suspects.append(delivery.update.item.client),
        )

    def begin(self, round_index: int, model: np.ndarray) -> None:
        """Begin a round with a model."""
        path = self.folder / f"model-{round_index}.safetensors"
        reference = write_bundle(path, {"policy/w": model.astype(np.float32)}, METADATA)
        plan = plan_round(FederationSettings(1, 100, CLIENTS, 10, CLIENTS), round_index)
        self.plan = plan
        self.reviewer.begin(plan, replace(self.files, model=reference, model_path=path))

    def review(self, updates: np.ndarray, order: Sequence[int] = range(CLIENTS)) -> dict[int, str]:
        """Deliver updates in an order; return the reasons by client."""
        deliveries = [
            Delivery(
                ClientUpdate(item, {"policy/w": update.astype(np.float32)}, f"0x{item.client}"),
                {},
                result_sha256=f"{update.tobytes()!r}",
                source=Source("l", f"0x{item.client}", "n", "a", None, 3.0),
            )
            for item, update in zip(self.plan.items, updates, strict=True)
        ]
        for client in order:
            self.reviewer.note(deliveries[client])
        found: Sequence[Objection] = asyncio.run(self.reviewer.review(self.plan, deliveries))
        assert all(objection.kind == "screened" for objection in found)
        return {found.delivery.update.item.client: found.reason for found in found}


@pytest.fixture
def bench(tmp_path: Path, office: object) -> Bench:
    return Bench(tmp_path, office.files)  # type: ignore[attr-defined]


def honest(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=SIZE) + 0.5 * generator.normal(size=(CLIENTS, SIZE))


def test_an_echo_of_any_of_the_last_moves_is_found(bench: Bench) -> None:
    moves = honest(100)
    model = np.zeros(SIZE)
    for number in range(4):
        bench.begin(number, model)
        assert bench.review(honest(number)) == {}
        model = model + moves[number]
    bench.begin(4, model)
    updates = honest(4)
    updates[0] = 0.5 * moves[3]
    updates[1] = -(moves[2] + moves[3])
    assert set(bench.review(updates)) == {0, 1}


def test_a_replay_of_an_earlier_round_is_found_and_one_s_own_round_is_not(bench: Bench) -> None:
    bench.begin(0, np.zeros(SIZE))
    first = honest(0)
    assert bench.review(first) == {}
    assert bench.review(first) == {}  # asked again after something else was rejected
    bench.begin(0, np.zeros(SIZE))  # a new session does the round again
    assert bench.review(first) == {}
    bench.begin(1, np.ones(SIZE))
    updates = honest(1)
    updates[2] = first[4]
    assert bench.review(updates) == {2: "it repeats an update of an earlier round"}
    bench.begin(1, np.ones(SIZE))
    assert set(bench.review(updates)) == {2}


def test_of_two_alike_the_later_one_goes(bench: Bench) -> None:
    bench.begin(0, np.zeros(SIZE))
    updates = honest(0)
    updates[1] = updates[3]
    assert set(bench.review(updates, order=[4, 3, 2, 1, 0])) == {1}
    assert bench.suspects == [3]


def test_the_probe_is_asked_about_all_at_once(bench: Bench) -> None:
    judge = FakeJudge(np.array([0.1, 0.1, 5.0, 0.1, 0.1]))
    bench = Bench(bench.folder, bench.files, judge)
    bench.begin(0, np.zeros(SIZE))
    assert set(bench.review(honest(0))) == {2}
    assert judge.asked == [(bench.folder / "model-0.safetensors", CLIENTS, (7, 8), 32)]


def test_without_a_probe_the_other_looks_remain(bench: Bench) -> None:
    bench = Bench(bench.folder, bench.files, FakeJudge())
    bench.begin(0, np.zeros(SIZE))
    updates = honest(0)
    updates[0] *= 1e5
    assert set(bench.review(updates)) == {0}
    assert bench.notices == [
        "how far updates move the policy can't be measured: nothing can be played"
    ]


def test_nothing_is_said_of_nothing(bench: Bench) -> None:
    bench.begin(0, np.zeros(SIZE))
    assert asyncio.run(bench.reviewer.review(bench.plan, [])) == []
