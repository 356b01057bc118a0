"""A real desk in a folder, and a provider that fills its orders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    ClientStateMetadata,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    decode_order,
    order_digest,
    specs_of,
    write_bundle,
)
from requestor.federation.rounds import FederationSettings, WorkItem, plan_round
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import Job
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import RESULT_NAME, STATE_OUTPUT_NAME, RoundFiles

KEPT = StateRules(optimizer="reset", replay="kept")
ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]
"""The item that the office's jobs are of."""


class Office:
    """A desk over a model of two arrays, and a provider that fills its orders."""

    def __init__(self, folder: Path, rules: StateRules = StateRules()) -> None:  # noqa: B008
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.folder = folder
        model = folder / "model-00002.safetensors"
        tensors: Tensors = {
            "policy/weight": np.zeros((4, 2), np.float32),
            "normalizer/observation/mean": np.zeros(3),
            "normalizer/observation/var": np.ones(3),
            "normalizer/observation/count": np.array(1e-4),
        }
        metadata = ModelMetadata(
            algorithm="dqn", environment_id="E", observation_space="", action_space=""
        )
        self.files = RoundFiles(
            run_id="run-1",
            environment=EnvironmentSpec("E", n_envs=2, normalize=NormalizeSpec(rewards=False)),
            learner=LearnerSpec("dqn"),
            rules=rules,
            model=write_bundle(model, tensors, metadata),
            model_path=model,
            model_specs=specs_of(tensors),
            client_states={},
            inbox=self.inbox,
            order_timeout_seconds=77.0,
        )
        self.desk = RoundDesk(self.files)
        self._attempts = 0

    def job(self, item: WorkItem = ITEM) -> Job:
        """A new job for an item."""
        self._attempts += 1
        return self.desk.job(item, "lease", self._attempts)

    def deliver(
        self,
        job: Job,
        *,
        fill: float = 0.5,
        order_sha256: str | None = None,
        steps: int = 64,
        rows: int = 32,
    ) -> dict[str, str]:
        """Put what an honest provider would send in place; return the digests it claims."""
        order = decode_order(job.order)
        assert isinstance(order, TrainOrder)
        tensors: Tensors = {
            "policy/weight": np.full((4, 2), fill, np.float32),
            "moments/observation/mean": np.zeros(3),
            "moments/observation/var": np.ones(3),
            "moments/observation/count": np.array(66.0),
        }
        metadata = TrainResult(
            order_sha256=order_sha256 or order_digest(order),
            steps=steps,
            episodes=1,
            metrics={"train/loss": 0.25},
            wall_seconds=1.0,
            cpu_seconds=1.0,
        )
        claimed = {
            RESULT_NAME: write_bundle(job.outputs[RESULT_NAME].path, tensors, metadata).sha256
        }
        if STATE_OUTPUT_NAME in job.outputs:
            path = job.outputs[STATE_OUTPUT_NAME].path
            claimed[STATE_OUTPUT_NAME] = write_state(path, fill, rows).sha256
        return claimed

    def names(self) -> list[str]:
        """What is in the inbox."""
        return sorted(path.name for path in self.inbox.iterdir())

    def refuses(self, job: Job, claimed: dict[str, str], message: str) -> None:
        """The desk refuses what was delivered, and nothing of it is kept."""
        with pytest.raises((WireError, UpdateRejected), match=message):
            self.desk.receive(ITEM, job, claimed)
        self.desk.discard(job)
        assert self.names() == []
        assert self.desk.salvage(ITEM) is None

    def with_state(self, rows: int) -> Office:
        """Give the client a state from earlier rounds."""
        path = self.folder / "client-001-00002.safetensors"
        state = write_state(path, 3.0, rows)
        self.files = replace(self.files, client_states={1: (state, path)})
        self.desk = RoundDesk(self.files)
        return self


def replay(rows: int, fill: float = 0.0) -> Tensors:
    """The replay buffer of two environments, not yet full."""
    return {
        "replay/observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/next_observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/actions": np.zeros((rows, 2, 1), np.int64),
        "replay/rewards": np.full((rows, 2), fill, np.float32),
        "replay/dones": np.zeros((rows, 2), np.float32),
        "replay/timeouts": np.zeros((rows, 2), np.float32),
        "replay/position": np.array(rows),
        "replay/full": np.array(False),
    }


def write_state(path: Path, fill: float, rows: int = 32) -> FileRef:
    """A client's state."""
    metadata = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
    return write_bundle(path, replay(rows, fill), metadata)
