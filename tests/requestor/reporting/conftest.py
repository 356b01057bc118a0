"""A small scripted run whose numbers can be checked by hand: 2 rounds, 2 clients of 100 steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from requestor.reporting.event_log import TimedEvent
from requestor.training_run.events import (
    CheckpointWritten,
    Evaluated,
    LeaseEnded,
    LeaseOpened,
    ModelPublished,
    ModelRolledBack,
    Notice,
    OrderDone,
    OrderFailed,
    OrderSent,
    RentingStarted,
    RoundClosed,
    RoundStarted,
    RunFinished,
    RunStarted,
    SpendingReported,
    UpdateRejected,
)

CLAIMS = [
    {"rollout/ep_rew_mean": 10.0, "rollout/ep_len_mean": 12.0, "train/loss": 0.5},
    {"rollout/ep_rew_mean": 30.0, "rollout/ep_len_mean": 14.0, "train/loss": 1.5},
]
PAID = {"0xaaaa1111": "0.0014", "0xbbbb2222": "0.0005"}
WORSE = "worse than its parent: at best -5.0 at 95 %"


def run_started(rounds_done: int = 0, *, is_resumed: bool = False) -> RunStarted:
    return RunStarted(
        run_id="r1",
        name="ppo/CartPole-v1_1",
        rounds=2,
        clients=2,
        local_steps=100,
        budget_glm="0.5",
        round=rounds_done,
        is_resumed=is_resumed,
        parameters=9155,
        target_return=60.0,
    )


def scripted_run() -> list[TimedEvent]:
    return [
        (1000.0, Evaluated(0, "initial", 5, 20.0, 4.0, 20.0, 0.5)),
        (1000.0, CheckpointWritten(0, "aa")),
        (1000.0, run_started()),
        (1001.0, RentingStarted(2, "public", "hoodi")),
        (1002.0, LeaseOpened("L1", "willow", "0xaaaa1111", "A1")),
        (1003.0, LeaseOpened("L2", "birch", "0xbbbb2222", "A2")),
        (1003.0, RoundStarted(0, 2, 0)),
        (1003.0, OrderSent(0, 0, "L1", False)),
        (1003.0, OrderSent(0, 1, "L2", False)),
        (1005.0, OrderDone(0, 0, "L1", 2.0, 100, True, CLAIMS[0])),
        (1006.0, OrderFailed(0, 1, "L2", "exit code 1")),
        (1006.0, OrderSent(0, 1, "L1", False)),
        (1008.0, OrderDone(0, 1, "L1", 2.0, 100, True, CLAIMS[1])),
        (1008.0, RoundClosed(0, (0, 1), 200, 200, 5.0)),
        (1009.0, SpendingReported("0.001", "0", "0.5", {"0xaaaa1111": "0.0008"})),
        (1009.0, Evaluated(1, "candidate", 5, 50.0, 2.0, 51.0, 0.5)),
        (1009.0, ModelPublished(0, 30.0, True)),
        (1010.0, CheckpointWritten(1, "bb")),
        (1010.0, RoundStarted(1, 2, 0)),
        (1010.0, OrderSent(1, 0, "L1", False)),
        (1010.0, OrderSent(1, 1, "L2", False)),
        (1012.0, OrderDone(1, 0, "L1", 2.0, 100, True, CLAIMS[0])),
        (1013.0, OrderSent(1, 1, "L1", True)),
        (1014.0, UpdateRejected(1, 1, "L2", "policy/w holds NaN")),
        (1014.0, LeaseEnded("L2", "birch", "unusable result: policy/w holds NaN")),
        (1015.0, OrderDone(1, 1, "L1", 2.0, 100, True, {})),
        (1015.0, RoundClosed(1, (0, 1), 200, 400, 5.0)),
        (1016.0, Evaluated(2, "candidate", 5, 40.0, 2.0, 41.0, 0.5)),
        (1016.0, ModelRolledBack(1, -10.0, WORSE)),
        (1018.0, SpendingReported("0.002", "0.001", "0.5", {"0xaaaa1111": "0.0015"})),
        (1020.0, CheckpointWritten(2, "bb")),
        (1021.0, Notice("all bills are in")),
        (1021.0, LeaseEnded("L1", "willow", "the run is over")),
        (1022.0, Evaluated(2, "final", 10, 49.0, 3.0, 49.5, 1.0)),
        (1022.0, RunFinished("completed", "", 2, 400, 49.0, 50.0, "0.0019", 22.0, PAID)),
    ]


@pytest.fixture
def story() -> list[TimedEvent]:
    return scripted_run()


@pytest.fixture
def start_event() -> Callable[..., RunStarted]:
    return run_started
