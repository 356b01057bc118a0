"""Honest rounds of runs of many kinds, done in this process: what screening must let through."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from provider_image.round_runner import execute
from provider_image.wire import (
    MAX_FILE_BYTES,
    FileRef,
    InitialiseOrder,
    ModelMetadata,
    ProbedUpdates,
    ProbeOrder,
    ProbeResult,
    Tensors,
    decode_metadata,
    decode_order,
    read_bundle,
    settled,
    sha256_file,
    specs_of,
    write_bundle,
)
from requestor.cli.assembly import run_settings
from requestor.config import load_config
from requestor.evaluation.judge import Divergences
from requestor.federation.merging.protocol import State
from requestor.federation.rounds import RoundPlan, close_round, plan_round
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import RoundFiles, state_reference
from requestor.training_run.settings import RunSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Kind:
    """One kind of run: a config with changes, and how many rounds of how many seeds."""

    name: str
    config: str
    overrides: tuple[str, ...]
    rounds: int
    seeds: int = 1


@dataclass(frozen=True)
class Prober:
    """Probes in this process; stands for a `Judge`."""

    settings: RunSettings
    folder: Path

    async def probe(
        self, model: Path, updates: npt.NDArray[np.float32], seeds: Sequence[int], *, samples: int
    ) -> Divergences:
        """See `Judge.probe`."""
        bundle = write_bundle(self.folder / "updates", {"updates": updates}, ProbedUpdates())
        order = ProbeOrder(
            environment=self.settings.environment,
            learner=self.settings.learner,
            rules=self.settings.rules,
            model=FileRef(
                name=model.name,
                sha256=sha256_file(model, MAX_FILE_BYTES),
                bytes=model.stat().st_size,
            ),
            updates=bundle,
            seeds=tuple(seeds),
            samples=samples,
            output="probe",
        )
        execute(order, self.folder)
        found = read_bundle(self.folder / "probe", max_bytes=MAX_FILE_BYTES)
        measure = decode_metadata(found, ProbeResult).measure
        return Divergences(found.tensors["divergences"], measure)


@dataclass(frozen=True)
class HonestRound:
    """What honest clients delivered, the model they were given, and who probes.

    cpu_seconds: of each client's work.
    """

    plan: RoundPlan
    files: RoundFiles
    model: Tensors
    deliveries: tuple[Delivery, ...]
    cpu_seconds: tuple[float, ...]
    prober: Prober


PPO = ("evaluation.target_return=null",)
KINDS = (
    Kind("PPO CartPole, 8 clients", "cartpole.yaml", PPO, 14, 2),
    Kind(
        "PPO CartPole, 32 clients of 1024 steps",
        "cartpole.yaml",
        (*PPO, "federation.clients=32", "federation.local_steps=1024"),
        14,
    ),
    Kind("PPO CartPole, 3 clients", "cartpole.yaml", (*PPO, "federation.clients=3"), 14, 2),
    Kind(
        "PPO CartPole, 5 clients of one rollout",
        "cartpole.yaml",
        (*PPO, "env.n_envs=1", "federation.clients=5", "federation.local_steps=128"),
        40,
    ),
    Kind(
        "PPO Pendulum, normalised, moments merged, 8 clients",
        "cartpole.yaml",
        (
            *PPO,
            "env.id=Pendulum-v1",
            "env.normalize={}",
            "federation.optimizer=merged",
            "federation.local_steps=2048",
        ),
        20,
    ),
    Kind(
        "PPO CartPole, int4, 8 clients",
        "cartpole.yaml",
        (*PPO, "federation.compression={codec: int4}", "federation.local_steps=1024"),
        14,
    ),
    Kind(
        "DQN CartPole, 4 clients",
        "cartpole_dqn.yaml",
        ("federation.local_steps=400", "algo.policy_kwargs={net_arch: [32, 32]}"),
        15,
    ),
    Kind(
        "SAC Pendulum, 4 clients",
        "pendulum_sac.yaml",
        (
            "federation.local_steps=200",
            "algo.batch_size=64",
            "algo.policy_kwargs={net_arch: [32, 32]}",
        ),
        10,
    ),
)
"""More than a hundred rounds, in minutes."""


def honest_rounds(kind: Kind, seed: int) -> Iterator[HonestRound]:
    """Yield the rounds of one run, merged as its config says."""
    config = load_config(
        CONFIGS / kind.config, [*kind.overrides, f"seed={seed}", f"federation.rounds={kind.rounds}"]
    )
    settings = run_settings(config, f"honest-{seed}")
    with tempfile.TemporaryDirectory(prefix="derl-honest-") as name:
        yield from _rounds(settings, Path(name))


def _rounds(settings: RunSettings, folder: Path) -> Iterator[HonestRound]:
    order = InitialiseOrder(
        run_id=settings.terms.run_id,
        seed=1,
        environment=settings.environment,
        learner=settings.learner,
        rules=settings.rules,
        output="fresh.safetensors",
    )
    execute(order, folder)
    bundle = read_bundle(folder / order.output, max_bytes=MAX_FILE_BYTES)
    metadata = decode_metadata(bundle, ModelMetadata)
    settings = replace(settings, learner=settled(settings.learner, metadata))
    model: Tensors = bundle.tensors
    states: dict[int, Any] = {}
    merge_state: State = {}
    for number in range(settings.federation.rounds):
        path = folder / f"model-{number}.safetensors"
        inbox = folder / f"inbox-{number}"
        inbox.mkdir()
        files = RoundFiles(
            run_id=settings.terms.run_id,
            environment=settings.environment,
            learner=settings.learner,
            rules=settings.rules,
            model=write_bundle(path, model, metadata),
            model_path=path,
            model_specs=specs_of(model),
            client_states=dict(states),
            inbox=inbox,
            order_timeout_seconds=60.0,
            compression=settings.compression,
        )
        plan = plan_round(settings.federation, number)
        desk = RoundDesk(files)
        done = [_deliver(desk, item, folder) for item in plan.items]
        deliveries = tuple(delivery for delivery, _ in done)
        for delivery in deliveries:
            state = desk.client_state(delivery.update.item)
            if state is not None:
                client = delivery.update.item.client
                states[client] = (state_reference(state, f"client-{client}.safetensors"), state)
        yield HonestRound(
            plan,
            files,
            model,
            deliveries,
            tuple(seconds for _, seconds in done),
            Prober(settings, folder),
        )
        updates = [delivery.update for delivery in deliveries]
        outcome = close_round(plan, model, updates, settings.merger, state=merge_state)
        model, merge_state = outcome.candidate, outcome.state


def _deliver(desk: RoundDesk, item: Any, folder: Path) -> tuple[Delivery, float]:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    job = desk.job(item, "here", 1)
    for name, path in job.inputs.items():
        shutil.copyfile(path, work / name)
    started = time.process_time()
    claimed = execute(decode_order(job.order), work)
    seconds = time.process_time() - started
    for name, output in job.outputs.items():
        shutil.move(work / name, output.path)
    return desk.receive(item, job, claimed), seconds
