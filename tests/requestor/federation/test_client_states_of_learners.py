"""What the real learners leave for their clients passes the screen, round after round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_image import round_runner
from provider_image.wire import (
    Bundle,
    ClientStateMetadata,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    StateRules,
    TrainOrder,
    WireError,
    decode_metadata,
    read_bundle,
    sha256_file,
    specs_of,
    write_bundle,
)
from requestor.federation.client_states import StateAssignment, screen_client_state
from requestor.federation.screening import UpdateRejected

CARTPOLE = EnvironmentSpec("CartPole-v1", n_envs=2)
PENDULUM = EnvironmentSpec("Pendulum-v1")
LIMIT = 1 << 26
STEPS = 60
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 150}


def learner(algorithm: Any, **hyperparameters: Any) -> LearnerSpec:
    """A small learner; three rounds fill an off-policy one's replay buffer."""
    return LearnerSpec(algorithm, hyperparameters=hyperparameters, policy_kwargs={"net_arch": [16]})


BOTH = StateRules(optimizer="kept", replay="kept")
CASES = [
    (CARTPOLE, learner("ppo", n_steps=30, batch_size=30), StateRules(optimizer="kept")),
    (CARTPOLE, learner("a2c", n_steps=30), StateRules(optimizer="kept")),
    (CARTPOLE, learner("dqn", **OFF_POLICY), BOTH),
    (CARTPOLE, learner("dqn", **OFF_POLICY), StateRules(replay="kept")),
    (PENDULUM, learner("sac", **OFF_POLICY), BOTH),
    (PENDULUM, learner("sac", ent_coef=0.1, n_steps=3, **OFF_POLICY), BOTH),
    (PENDULUM, learner("td3", **OFF_POLICY), BOTH),
    (PENDULUM, learner("ddpg", **OFF_POLICY), StateRules(optimizer="kept")),
    (CARTPOLE, learner("a2c", n_steps=30), StateRules(drift="scaffold")),
    (PENDULUM, learner("sac", **OFF_POLICY), StateRules("merged", "kept", drift="scaffold")),
]


class Client:
    """One client's rounds on one model, done by the round runner itself."""

    def __init__(self, folder: Path, case: tuple[EnvironmentSpec, LearnerSpec, StateRules]) -> None:
        self.folder = folder
        self.environment, self.learner, self.rules = case
        order = InitialiseOrder(
            run_id="r",
            seed=1,
            environment=self.environment,
            learner=self.learner,
            rules=self.rules,
            output="model",
        )
        round_runner.execute(order, folder)

    def reference(self, name: str) -> FileRef:
        path = self.folder / name
        return FileRef(name, sha256_file(path, LIMIT), path.stat().st_size)

    def train(self, round_index: int, state: str | None) -> str:
        """Do a round; return the name of the state that is left."""
        left = f"state-{round_index}"
        order = TrainOrder(
            run_id="r",
            round=round_index,
            client=3,
            seed=5 + round_index,
            environment=self.environment,
            learner=self.learner,
            rules=self.rules,
            local_steps=STEPS,
            steps_done=STEPS * round_index,
            steps_total=600,
            model=self.reference("model"),
            client_state=self.reference(state) if state else None,
            output="result",
            client_state_output=left,
        )
        round_runner.execute(order, self.folder)
        return left

    def read(self, name: str) -> Bundle:
        return read_bundle(self.folder / name, max_bytes=LIMIT)

    def screen(self, round_index: int, state: str, previous: str | None) -> None:
        """Screen what was left as the requestor does."""
        assignment = StateAssignment(
            run_id="r",
            client=3,
            round=round_index,
            local_steps=STEPS,
            n_envs=self.environment.n_envs,
            learner=self.learner,
            rules=self.rules,
            model_specs=specs_of(self.read("model").tensors),
            previous=specs_of(self.read(previous).tensors) if previous else None,
        )
        bundle = self.read(state)
        screen_client_state(
            bundle.tensors, decode_metadata(bundle, ClientStateMetadata), assignment
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1].algorithm}")
def test_every_state_of_a_learner_passes(
    tmp_path: Path, case: tuple[EnvironmentSpec, LearnerSpec, StateRules]
) -> None:
    client = Client(tmp_path, case)
    previous: str | None = None
    for round_index in range(3):
        state = client.train(round_index, previous)
        client.screen(round_index, state, previous)
        previous = state
    # left out once, the state begins again
    client.screen(3, client.train(3, None), None)


def test_a_state_that_would_stop_its_client_is_refused(tmp_path: Path) -> None:
    client = Client(tmp_path, CASES[4])
    metadata = ClientStateMetadata(run_id="r", client=3, round=0, algorithm="sac")
    write_bundle(tmp_path / "made-up", {"x": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(WireError, match="client state"):
        client.train(1, "made-up")
    with pytest.raises(UpdateRejected, match="unknown tensor x"):
        client.screen(0, "made-up", None)
