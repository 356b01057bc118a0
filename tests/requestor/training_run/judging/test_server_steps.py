"""The server's own training, through the worker on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np

from provider_image.learners.policy_gradient import PolicyGradientLearner
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InnerSteps,
    LearnerSpec,
    ModelMetadata,
    RefineOrder,
    StateRules,
    decode_metadata,
    write_bundle,
)
from requestor.cli.assembly import run_settings
from requestor.config import parse_config
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalWorker
from requestor.federation.gradient_rounds import FedPgBr
from requestor.federation.rounds import RoundOutcome, plan_round
from requestor.federation.seeds import derive_seed
from requestor.training_run.judging.server_steps import ServerSteps

CARTPOLE = EnvironmentSpec(id="CartPole-v1")
LEARNER = LearnerSpec(
    "pg",
    learner="native",
    hyperparameters={"horizon": 40, "squash_logits": True},
    policy_kwargs={"net_arch": [8], "activation_fn": "relu"},
)


def test_steps_are_the_learners_own(tmp_path: Path) -> None:
    settings = run_settings(parse_config("env: {id: CartPole-v1}\nalgo: {name: ppo}"), "run")
    settings = dataclasses.replace(
        settings,
        environment=CARTPOLE,
        learner=LEARNER,
        federation=dataclasses.replace(
            settings.federation, method=FedPgBr(2, 3, 2, horizon=40), local_steps=120
        ),
    )
    plan = plan_round(settings.federation, 0)
    assert plan.gradient is not None and plan.gradient.inner is not None

    async def both() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        async with LocalWorker(tmp_path / "local", LEARNER) as worker:
            judge = Judge(worker, CARTPOLE, LEARNER, StateRules())
            bundle = await judge.initialise("run", 4)
            path = tmp_path / "model.safetensors"
            write_bundle(path, bundle.tensors, decode_metadata(bundle, ModelMetadata))
            direction = {
                name: np.full(tensor.shape, 0.1, np.float32)
                for name, tensor in bundle.tensors.items()
                if name.startswith("policy/")
            }
            steps = ServerSteps(settings, judge, path)
            clients = tuple(item.client for item in plan.items)
            merged = await steps.take(plan, RoundOutcome(direction, clients, 0))
            nothing = {name: np.zeros_like(tensor) for name, tensor in direction.items()}
            alone = await steps.take(
                plan, RoundOutcome(nothing, clients, 0, left_out=clients)
            )
            return dict(bundle.tensors), merged, alone

    model, merged, alone = asyncio.run(both())
    file = FileRef(name="model", sha256="0" * 64, bytes=0)
    order = RefineOrder(
        run_id="run",
        round=0,
        seed=derive_seed(settings.federation.run_seed, "server", 0),
        environment=CARTPOLE,
        learner=LEARNER,
        model=file,
        direction=file,
        inner=InnerSteps(
            most=plan.gradient.inner.most, episodes=2, ratio_bound=plan.gradient.inner.ratio_bound
        ),
        output="refined",
    )
    direction = {
        name: np.full(tensor.shape, 0.1, np.float32)
        for name, tensor in model.items()
        if name.startswith("policy/")
    }
    expected = PolicyGradientLearner().refine(order, model, direction).tensors
    assert merged.keys() == expected.keys() == alone.keys()
    assert all(np.array_equal(merged[name], expected[name]) for name in expected)
    # nobody was believed, but the server's own estimate still moved the model
    assert any((alone[name] != model[name]).any() for name in direction)
