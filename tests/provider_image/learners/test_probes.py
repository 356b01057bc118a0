"""Probes of both learners: closed forms, each other, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from provider_image.learners import LearnerRefused, load_learner
from provider_image.learners.probing import met_observations
from provider_image.round_runner import execute
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerName,
    LearnerSpec,
    NormalizeSpec,
    ProbedUpdates,
    ProbeOrder,
    ProbeResult,
    Tensors,
    WireError,
    decode_metadata,
    order_digest,
    read_bundle,
    write_bundle,
)

SMALL = {"net_arch": [8]}
PPO: dict[LearnerName, LearnerSpec] = {
    "native": LearnerSpec("ppo", policy_kwargs=SMALL, learner="native"),
    "sb3": LearnerSpec("ppo", policy_kwargs=SMALL, learner="sb3"),
}
CARTPOLE = EnvironmentSpec("CartPole-v1")
PENDULUM = EnvironmentSpec("Pendulum-v1", normalize=NormalizeSpec())
NO_FILE = FileRef("m", "0" * 64, 0)


def order_for(learner: LearnerSpec, environment: EnvironmentSpec, samples: int = 40) -> ProbeOrder:
    """Three environments."""
    return ProbeOrder(
        environment=environment,
        learner=learner,
        model=NO_FILE,
        updates=NO_FILE,
        seeds=(5, 6, 7),
        samples=samples,
        output="o",
    )


def fresh(learner: LearnerSpec, environment: EnvironmentSpec) -> Tensors:
    """A model drawn by SB3, with weights that make its actions differ."""
    initial = InitialiseOrder(
        run_id="r", seed=1, environment=environment, learner=learner, output="o"
    )
    tensors = load_learner(learner.algorithm, "sb3").initialise(initial).tensors
    for name in tensors:
        if name.startswith("policy/") and name.endswith("weight"):
            tensors[name] = tensors[name] * np.float32(3)
    return tensors


def probe(order: ProbeOrder, model: Tensors, updates: np.ndarray) -> np.ndarray:
    """Divergences float64[N]."""
    name: LearnerName = "native" if order.learner.learner == "native" else "sb3"
    learner = load_learner(order.learner.algorithm, name)
    return learner.probe(order, model, {"updates": updates}).divergences


def update(model: Tensors, **changes: Any) -> np.ndarray:
    """A row: zero, but for the tensors whose names end as the keyword says (`.` is `_`)."""
    pieces = []
    for name in sorted(n for n in model if n.startswith("policy/")):
        piece = np.zeros_like(model[name])
        for ending, value in changes.items():
            if name.replace(".", "_").replace("/", "_").endswith(ending):
                piece = piece + np.asarray(value, np.float32)
        pieces.append(piece.ravel())
    return np.concatenate(pieces)[None]


@pytest.mark.parametrize("learner", ["native", "sb3"])
def test_a_shifted_gaussian_is_as_far_as_the_formula_says(learner: LearnerName) -> None:
    model = fresh(PPO["sb3"], PENDULUM)
    rows = np.vstack(
        [update(model), update(model, log_std=0.3), update(model, action_net_bias=0.5)]
    )
    found = probe(order_for(PPO[learner], PENDULUM), model, rows)
    # deviation 1: KL(N(m, 1) || N(m, e^0.6)) = 0.3 + e^-0.6 / 2 - 1/2; a mean off by d: d^2 / 2
    assert found == pytest.approx([0, 0.3 + np.exp(-0.6) / 2 - 0.5, 0.125], abs=1e-6)


@pytest.mark.parametrize("environment", [CARTPOLE, PENDULUM])
def test_both_learners_measure_the_same_at_the_same_observations(
    environment: EnvironmentSpec,
) -> None:
    model = fresh(PPO["sb3"], environment)
    size = update(model).size
    rows = np.random.default_rng(0).normal(0, 0.1, (4, size)).astype(np.float32)
    # three samples: those after the reset, which no action has changed
    native, sb3 = (probe(order_for(PPO[name], environment, 3), model, rows) for name in PPO)
    assert native.max() > 1e-3
    assert native == pytest.approx(sb3, rel=1e-4)


@pytest.mark.parametrize("learner", ["native", "sb3"])
def test_a_probe_depends_on_nothing_but_the_order(learner: LearnerName) -> None:
    model = fresh(PPO["sb3"], CARTPOLE)
    rows = np.random.default_rng(0).normal(0, 0.1, (2, update(model).size)).astype(np.float32)
    order = order_for(PPO[learner], CARTPOLE)
    once = probe(order, model, rows)
    assert probe(order, model, rows).tolist() == once.tolist()
    assert probe(order, model, rows[::-1].copy()).tolist() == once[::-1].tolist()


def test_a_share_of_greedy_actions_changes() -> None:
    learner = LearnerSpec("dqn", policy_kwargs=SMALL)
    model = fresh(learner, CARTPOLE)
    to_left = update(model, policy_q_net_q_net_2_bias=[1e4, 0])
    to_right = update(model, policy_q_net_q_net_2_bias=[0, 1e4])
    shares = probe(order_for(learner, CARTPOLE), model, np.vstack([to_left, to_right]))
    assert shares.sum() == pytest.approx(1)  # each observation changes in one of them
    assert (shares * 40 == np.rint(shares * 40)).all()


@pytest.mark.parametrize(
    ("algorithm", "layer"),
    [
        ("td3", "policy_actor_mu_2_bias"),
        ("ddpg", "policy_actor_mu_2_bias"),
        ("sac", "policy_actor_mu_bias"),
    ],
)
def test_actions_are_apart_in_half_widths(algorithm: Any, layer: str) -> None:
    learner = LearnerSpec(
        algorithm,
        policy_kwargs=SMALL,
        hyperparameters={"action_noise": {"type": "normal", "std": 0.1}},
    )
    model = fresh(learner, PENDULUM)
    rows = np.vstack([update(model, **{layer: 1e3}), update(model, **{layer: -1e3})])
    apart = probe(order_for(learner, PENDULUM), model, rows)
    assert apart.sum() == pytest.approx(2)  # |1 - a| + |a + 1| with a in [-1, 1]
    assert apart.min() > 0


def test_the_observations_are_those_of_environments_side_by_side() -> None:
    order = order_for(PPO["native"], CARTPOLE, samples=100)
    asked: list[int] = []

    def always_left(observations: list[Any]) -> list[Any]:
        asked.append(len(observations))
        return [np.int64(0)] * len(observations)

    met = met_observations(order, always_left)
    column = []
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=6)
    for _ in range(33):
        column.append(observation)
        observation, _, terminated, truncated, _ = environment.step(0)
        if terminated or truncated:  # it has fallen about 10 steps later, three times by now
            observation, _ = environment.reset()
    assert len(met) == 100
    np.testing.assert_array_equal(met[1:99:3], column)
    assert set(asked) == {3}


def test_what_does_not_fit_is_refused() -> None:
    model = fresh(PPO["sb3"], CARTPOLE)
    order = order_for(PPO["native"], CARTPOLE)
    with pytest.raises(WireError, match="updates"):
        probe(order, model, update(model)[:, 1:])
    with pytest.raises(WireError, match="1 to 1024 rows"):
        probe(order, model, update(model)[:0])
    with pytest.raises(WireError, match="finite"):
        probe(order, model, update(model) * np.float32(np.nan))


@pytest.mark.parametrize("learner", ["native", "sb3"])
def test_an_update_that_overflows_is_the_most(learner: LearnerName) -> None:
    model = fresh(PPO["sb3"], CARTPOLE)
    rows = update(model, action_net_bias=[3e38, -3e38], action_net_weight=[[3e38], [-3e38]])
    assert probe(order_for(PPO[learner], CARTPOLE), model, rows).tolist() == [1e9]


def test_a_model_without_finite_outputs_is_not_probed() -> None:
    model = fresh(PPO["sb3"], CARTPOLE)
    model["policy/mlp_extractor.policy_net.0.bias"][:] = 1e3  # tanh of it is 1, eight times
    model["policy/action_net.weight"][:] = 3e38
    with pytest.raises(LearnerRefused, match="nothing to probe"):
        probe(order_for(PPO["sb3"], CARTPOLE, samples=3), model, update(model))


def test_the_worker_writes_a_probe_result(tmp_path: Path) -> None:
    model = fresh(PPO["sb3"], CARTPOLE)
    order = ProbeOrder(
        environment=CARTPOLE,
        learner=PPO["native"],
        model=write_bundle(tmp_path / "m", model, ProbedUpdates()),
        updates=write_bundle(tmp_path / "u", {"updates": update(model)}, ProbedUpdates()),
        seeds=(1,),
        samples=4,
        output="o",
    )
    execute(order, tmp_path)
    bundle = read_bundle(tmp_path / "o", max_bytes=10**6)
    assert bundle.tensors["divergences"].tolist() == [0.0]
    result = decode_metadata(bundle, ProbeResult)
    assert (result.measure, result.samples) == ("kl", 4)
    assert result.order_sha256 == order_digest(order)
