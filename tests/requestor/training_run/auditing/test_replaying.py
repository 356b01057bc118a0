"""Doing an order again with a real worker: all that goes on into later rounds is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provider_image.round_runner import execute
from provider_image.wire import (
    MAX_FILE_BYTES,
    ClientStateMetadata,
    EnvironmentSpec,
    InitialiseOrder,
    LearnerSpec,
    StateRules,
    decode_metadata,
    read_bundle,
    sha256_file,
    specs_of,
    write_bundle,
)
from requestor.federation.rounds import FederationSettings, plan_round
from requestor.training_run.auditing.replaying import LocalReplays, Work
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import STATE_OUTPUT_NAME, RoundFiles, state_reference
from requestor.trust.disputes import Replay

CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=2)
PPO = LearnerSpec(
    algorithm="ppo",
    learner="native",
    hyperparameters={"n_steps": 16, "batch_size": 16, "n_epochs": 1},
)
RULES = StateRules(optimizer="kept")
ITEM = plan_round(FederationSettings(1, 10, 1, 64, 1), 0).items[0]


def files(folder: Path) -> RoundFiles:
    """The first round of a run whose clients keep their optimizers."""
    model = folder / "model.safetensors"
    execute(
        InitialiseOrder(
            run_id="run-1",
            environment=CARTPOLE,
            learner=PPO,
            rules=RULES,
            seed=1,
            output=model.name,
        ),
        folder,
    )
    inbox = folder / "inbox"
    inbox.mkdir()
    bundle = read_bundle(model, max_bytes=MAX_FILE_BYTES)
    return RoundFiles(
        run_id="run-1",
        environment=CARTPOLE,
        learner=PPO,
        rules=RULES,
        model=state_reference(model, model.name),
        model_path=model,
        model_specs=specs_of(bundle.tensors),
        client_states={},
        inbox=inbox,
        order_timeout_seconds=60.0,
    )


@pytest.mark.asyncio
async def test_a_poisoned_state_is_seen_beside_an_honest_update(tmp_path: Path) -> None:
    """The liar trains as ordered, and makes its client's next round diverge: every second moment
    that it hands on is 1e-12."""
    desk = RoundDesk(files(tmp_path))
    digests = {}
    for is_liar in (False, True):
        job = desk.job(ITEM, "lease", int(is_liar))
        order = desk.order(ITEM)
        claimed = execute(order, tmp_path)
        if is_liar:
            path = tmp_path / STATE_OUTPUT_NAME
            state = read_bundle(path, max_bytes=MAX_FILE_BYTES)
            lie = {
                name: np.full_like(array, 1e-12) if name.endswith("exp_avg_sq") else array
                for name, array in state.tensors.items()
            }
            said = decode_metadata(state, ClientStateMetadata)
            claimed[STATE_OUTPUT_NAME] = write_bundle(path, lie, said).sha256
        for name, output in job.outputs.items():
            (tmp_path / name).rename(output.path)
            assert sha256_file(output.path, MAX_FILE_BYTES) == claimed[name]
        digests[is_liar] = desk.receive(ITEM, job, claimed).result_sha256
        desk.clear()
    work = Work(order, {"model.safetensors": desk.files.model_path}, desk.files.model_specs)
    async with LocalReplays(tmp_path / "replays", PPO) as replays:
        again = await replays.replay(work, Replay())
    assert digests[False] == again.account.result_sha256
    assert digests[True] != again.account.result_sha256
