"""FedPG-BR and centralised ByzPG on CartPole, as published: learning curves as JSON lines.

    python tests/benchmarks/published_methods.py fedpg-br --clients 10 --seeds 4 --attack noise
    python tests/benchmarks/published_methods.py byzpg --clients 13 --attack large_noise

The orders, the learner, the rule and the plan of rounds are those of a run; only files, processes
and the market are left out, and all clients of a round play together (same bits, less time).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from provider_image.learners import policy_gradient as learner
from provider_image.learners.native_model import spaces_for
from provider_image.learners.policy_gradient_episodes import Source, play
from provider_image.learners.policy_gradient_network import parameters_of
from provider_image.learners.policy_gradient_plan import DIRECTION_PREFIX, plan_of
from provider_image.wire import (
    POLICY_PREFIX,
    EnvironmentSpec,
    EvaluateOrder,
    FileRef,
    GradientSpec,
    InitialiseOrder,
    InnerSteps,
    LearnerSpec,
    RefineOrder,
    Schedule,
    Tensors,
    TrainOrder,
)
from requestor.federation.gradient_rounds import ByzPg, FedPgBr, GradientRound
from requestor.federation.merging.centre_rules import FedPgFilter, GeometricMedian
from requestor.federation.merging.coordinate_rules import WeightedMean
from requestor.federation.merging.protocol import AggregationRule, MergeContext
from requestor.federation.model import averaged_names, flatten, unflatten
from requestor.federation.seeds import derive_seed, held_out_seeds

ENVIRONMENT = EnvironmentSpec(id="CartPole-v1")
HORIZON = 500
FILE = FileRef(name="model", sha256="0" * 64, bytes=1)
FEDPG_BR = LearnerSpec(
    "pg",
    learner="native",
    hyperparameters={
        "horizon": HORIZON,
        "gamma": 0.999,
        "step_weights": "whitened",
        "squash_logits": True,
    },
    schedules={"learning_rate": Schedule("constant", 1e-3)},
    policy_kwargs={"net_arch": [16, 16], "activation_fn": "relu"},
)
BYZPG = LearnerSpec(
    "pg",
    learner="native",
    hyperparameters={
        "horizon": HORIZON, "gamma": 0.999, "step_weights": "discounted", "squash_logits": True,
        "keeps_previous": True,
    },
    schedules={"learning_rate": Schedule("constant", 5e-4)},
    policy_kwargs={"net_arch": [16, 16], "activation_fn": "tanh"},
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One learning curve."""

    method: str
    clients: int
    liars: int
    attack: str
    rule: str
    seed: int
    budget: int
    every: int


def curve(case: Case) -> Iterator[dict[str, object]]:
    """Learn, and tell of every evaluation."""
    is_fedpg = case.method == "fedpg-br"
    spec, method = (FEDPG_BR, FedPgBr()) if is_fedpg else (BYZPG, ByzPg())
    own = learner.PolicyGradientLearner()
    order = InitialiseOrder(
        run_id="study", seed=derive_seed(case.seed, "model"), environment=ENVIRONMENT,
        learner=spec, output="model",
    )  # fmt: skip
    model = own.initialise(order).tensors
    done, index, evaluated, caught, dropped = 0, 0, 0, 0, 0
    started = time.monotonic()
    while done < case.budget:
        step = method.round(case.seed, index)
        rows, names = _rows(case, spec, step, model, index)
        borne = 0 if case.rule == "mean" else case.liars
        merged = _rule(case.rule, step)(rows, np.ones(len(rows)), MergeContext(faulty=borne))
        if merged.shares is not None:
            dropped += int((merged.shares[: case.clients - case.liars] == 0).sum())
            caught += int((merged.shares[case.clients - case.liars :] == 0).sum())
        refined = own.refine(
            RefineOrder(
                run_id="study", round=index, seed=derive_seed(case.seed, "server", index),
                environment=ENVIRONMENT, learner=spec, model=FILE, direction=FILE, output="model",
                inner=InnerSteps(**dataclasses.asdict(step.inner)) if step.inner else None,
            ),
            model,
            unflatten(merged.vector, model, names),
        )  # fmt: skip
        model, index = refined.tensors, index + 1
        inner_steps = 0
        if step.inner is not None:
            inner_steps = refined.episodes // step.inner.episodes
        done += step.episodes_per_agent(case.clients, inner_steps)
        if done >= evaluated + case.every or done >= case.budget:
            evaluated = done
            seeds = held_out_seeds(case.seed, f"validation {index}", 10)
            found = own.evaluate(
                EvaluateOrder(
                    environment=ENVIRONMENT, learner=spec, model=FILE, seeds=seeds, output="x",
                    deterministic=is_fedpg,
                ),
                model,
            )  # fmt: skip
            honest = case.clients - case.liars
            yield {
                **dataclasses.asdict(case),
                "episodes": done,
                "round": index,
                "return": float(found.returns.mean()),
                "caught": caught / (index * case.liars) if case.liars else None,
                "dropped": dropped / (index * honest),
                "seconds": round(time.monotonic() - started, 2),
            }


def _rows(
    case: Case, spec: LearnerSpec, step: GradientRound, model: Tensors, index: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The estimates of all clients, honest ones first: float32[K, P], and their names."""
    plan = plan_of(spec, spaces_for(ENVIRONMENT, "batch"))
    seeds = [derive_seed(case.seed, "client", index, client) for client in range(case.clients)]
    orders = [
        TrainOrder(
            run_id="study", round=index, client=client, seed=seed, environment=ENVIRONMENT,
            learner=spec, local_steps=step.episodes * HORIZON, steps_done=0,
            steps_total=step.episodes * HORIZON, model=FILE, output="x",
            gradient=GradientSpec(episodes=step.episodes, is_difference=step.is_difference),
        )
        for client, seed in enumerate(seeds)
    ]  # fmt: skip
    honest = case.clients - case.liars
    sources = [
        Source(
            learner.stepper_for(ENVIRONMENT, plan.spaces, step.episodes, seed), step.episodes, seed
        )
        for seed in seeds
    ]
    parameters = parameters_of(model)
    played = play(plan.network, parameters, sources[:honest], HORIZON)
    if case.liars:
        act = ACTING.get(case.attack)
        generator = np.random.default_rng(derive_seed(case.seed, "attack", index))
        forced = None if act is None else (lambda seen: act(generator, len(seen)))
        played += play(plan.network, parameters, sources[honest:], HORIZON, forced)
    names = averaged_names(model)
    updates = [
        learner.outcome_of(order, plan, model, episodes).tensors
        for order, episodes in zip(orders, played, strict=True)
    ]
    if case.liars and case.attack in PER_TENSOR:
        for update in updates[honest:]:
            for name in names:
                update[name] = PER_TENSOR[case.attack](generator, update[name])
    rows = np.stack([flatten(update, names) for update in updates])
    if step.is_difference:
        rows += flatten(model, [DIRECTION_PREFIX + n.removeprefix(POLICY_PREFIX) for n in names])
    if case.attack == "large_noise":
        rows[honest:] = generator.uniform(-1000, 1000, rows[honest:].shape)
    if case.attack == "avg_zero":
        rows[honest:] = -rows[:honest].sum(axis=0) / case.liars
    return rows, names


ACTING: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "constant_action": lambda _, count: np.zeros(count, np.int64),
    "random_action": lambda generator, count: generator.integers(2, size=count),
}
PER_TENSOR: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "noise": lambda generator, own: (
        own + generator.uniform(-1, 1, own.shape) * 3 * np.ptp(own)
    ).astype(np.float32),
    "sign_flip": lambda _, own: np.float32(-2.5) * own,
}


def _rule(name: str, step: GradientRound) -> AggregationRule:
    match name:
        case "fedpg_br":
            return FedPgFilter(sigma=0.06, delta=0.6, alpha=0.4, episodes=step.episodes)
        case "rfa":
            return GeometricMedian(iterations=8, smoothing=0.1)
    return WeightedMean()


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["fedpg-br", "byzpg"])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--attack", default="none")
    parser.add_argument("--liars", type=int, default=3)
    parser.add_argument("--rule", choices=["fedpg_br", "rfa", "mean"])
    parser.add_argument("--budget", type=int, default=1500)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    for seed in given.seeds:
        case = Case(
            method=given.method,
            clients=given.clients,
            liars=0 if given.attack == "none" else given.liars,
            attack=given.attack,
            rule=given.rule or ("fedpg_br" if given.method == "fedpg-br" else "rfa"),
            seed=seed,
            budget=given.budget,
            every=given.every,
        )
        for row in curve(case):
            print(json.dumps(row))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
