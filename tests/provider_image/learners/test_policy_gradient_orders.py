"""The policy-gradient learner, through the orders of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from provider_image.environments import read_spaces
from provider_image.learners import LearnerRefused, load_learner
from provider_image.learners.policy_gradient import PolicyGradientLearner, outcome_of, stepper_for
from provider_image.learners.policy_gradient_episodes import Source, play
from provider_image.learners.policy_gradient_network import parameters_of
from provider_image.learners.policy_gradient_plan import plan_of
from provider_image.round_runner import execute
from provider_image.wire import (
    MAX_FILE_BYTES,
    Direction,
    EnvironmentSpec,
    EvaluateOrder,
    ExportOrder,
    FileRef,
    GradientSpec,
    InitialiseOrder,
    InnerSteps,
    LearnerSpec,
    NormalizeSpec,
    ProbeOrder,
    RefineOrder,
    RefineResult,
    Schedule,
    StateRules,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    base_digest,
    decode_metadata,
    read_bundle,
    result_specs,
    sha256_file,
    specs_of,
    tensors_digest,
    write_bundle,
)

CARTPOLE = EnvironmentSpec(id="CartPole-v1")
FILE = FileRef(name="model.safetensors", sha256="0" * 64, bytes=1)


def pg(**hyperparameters: Any) -> LearnerSpec:
    return LearnerSpec(
        "pg",
        learner="native",
        hyperparameters={"horizon": 60, "squash_logits": True, **hyperparameters},
        schedules={"learning_rate": Schedule("constant", 1e-2)},
        policy_kwargs={"net_arch": [8], "activation_fn": "relu"},
    )


def initial(learner: LearnerSpec, environment: EnvironmentSpec = CARTPOLE) -> Tensors:
    order = InitialiseOrder(
        run_id="run", seed=3, environment=environment, learner=learner, output="model"
    )
    return load_learner("pg", "native").initialise(order).tensors


def train_order(
    learner: LearnerSpec, *, episodes: int = 6, seed: int = 5, is_difference: bool = False
) -> TrainOrder:
    return TrainOrder(
        run_id="run",
        round=0,
        client=0,
        seed=seed,
        environment=CARTPOLE,
        learner=learner,
        local_steps=episodes * 60,
        steps_done=0,
        steps_total=episodes * 60,
        model=FILE,
        output="result",
        gradient=GradientSpec(episodes=episodes, is_difference=is_difference),
    )


def refine_order(learner: LearnerSpec, inner: InnerSteps | None) -> RefineOrder:
    return RefineOrder(
        run_id="run",
        round=0,
        seed=9,
        environment=CARTPOLE,
        learner=learner,
        model=FILE,
        direction=FILE,
        inner=inner,
        output="refined",
    )


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def test_an_estimate_is_one_for_every_tensor_of_the_policy() -> None:
    learner = PolicyGradientLearner()
    model = initial(pg())
    order = train_order(pg())
    outcome = learner.train(order, model, None)
    assert specs_of(outcome.tensors) == result_specs(specs_of(model))
    assert outcome.episodes == 6
    assert 6 <= outcome.steps <= order.local_steps
    assert outcome.metrics["rollout/ep_len_mean"] == outcome.steps / 6
    again = learner.train(order, model, None)
    assert same(outcome.tensors, again.tensors)
    other = learner.train(train_order(pg(), seed=6), model, None)
    assert not same(outcome.tensors, other.tensors)


def test_the_one_link_is_the_digest_of_the_estimate() -> None:
    order = train_order(pg())
    outcome = PolicyGradientLearner().train(order, initial(pg()), None)
    assert outcome.links == (tensors_digest(outcome.tensors, base_digest(order)),)


def test_sources_that_play_together_get_what_each_gets_alone() -> None:
    model, learner = initial(pg()), PolicyGradientLearner()
    plan = plan_of(pg(), read_spaces(CARTPOLE))
    orders = [train_order(pg(), episodes=3, seed=seed) for seed in (11, 12)]
    sources = [Source(stepper_for(CARTPOLE, plan.spaces, 3, o.seed), 3, o.seed) for o in orders]
    played = play(plan.network, parameters_of(model), sources, 60)
    for order, episodes in zip(orders, played, strict=True):
        together = outcome_of(order, plan, model, episodes)
        assert same(together.tensors, learner.train(order, model, None).tensors)


def test_a_gymnasium_environment_will_do() -> None:
    environment = EnvironmentSpec(id="CartPole-v1", kwargs={"sutton_barto_reward": False})
    order = msgspec.structs.replace(train_order(pg()), environment=environment)
    outcome = PolicyGradientLearner().train(order, initial(pg(), environment), None)
    assert outcome.steps >= 6


def test_following_the_estimates_learns() -> None:
    learner, spec = PolicyGradientLearner(), pg()
    model = initial(spec)
    lengths = []
    for number in range(25):
        outcome = learner.train(train_order(spec, episodes=16, seed=number), model, None)
        lengths.append(outcome.metrics["rollout/ep_len_mean"])
        model = learner.refine(refine_order(spec, None), model, outcome.tensors).tensors
    assert np.mean(lengths[-5:]) > 1.4 * np.mean(lengths[:5])


def test_one_step_of_adam_is_the_textbooks() -> None:
    model, spec = initial(pg()), pg()
    rng = np.random.default_rng(0)
    direction = {
        name: rng.normal(size=tensor.shape).astype(np.float32)
        for name, tensor in model.items()
        if name.startswith("policy/")
    }
    refined = PolicyGradientLearner().refine(refine_order(spec, None), model, direction)
    assert refined.inner_steps == 1
    assert refined.tensors["server/adam/step"] == 1
    for name, slope in direction.items():
        # after one step the corrected moments are g and g^2: a step of rate * g / (|g| + eps)
        expected = model[name] + 1e-2 * slope / (np.abs(slope) + 1e-8)
        np.testing.assert_allclose(refined.tensors[name], expected, rtol=1e-5, atol=1e-7)


def test_adam_goes_on_from_the_model() -> None:
    spec, learner = pg(), PolicyGradientLearner()
    first = initial(spec)
    direction = learner.train(train_order(spec), first, None).tensors
    second = learner.refine(refine_order(spec, None), first, direction).tensors
    third = learner.refine(refine_order(spec, None), second, direction).tensors
    assert third["server/adam/step"] == 2
    name = "policy/layers.0.bias"
    # the same slope twice: the corrected moments are the slope's again, and so is the step
    np.testing.assert_allclose(third[name] - second[name], second[name] - first[name], atol=1e-5)


def test_inner_steps_leave_once_the_ratios_are_off() -> None:
    spec, learner = pg(), PolicyGradientLearner()
    model = initial(spec)
    direction = learner.train(train_order(spec), model, None).tensors
    wide = refine_order(spec, InnerSteps(most=4, episodes=2, ratio_bound=1e9))
    refined = learner.refine(wide, model, direction)
    assert (refined.inner_steps, refined.episodes) == (4, 8)
    narrow = refine_order(spec, InnerSteps(most=4, episodes=2, ratio_bound=1e-12))
    left = learner.refine(narrow, model, direction)
    # the first ratio is 1; after one step none is, and what was played for that is counted
    assert (left.inner_steps, left.episodes) == (1, 4)
    assert same(left.tensors, learner.refine(narrow, model, direction).tensors)


def test_the_first_inner_step_goes_along_the_direction() -> None:
    # theta_n = theta_0, so the two estimates of the server's own episodes cancel
    spec, learner = pg(), PolicyGradientLearner()
    model = initial(spec)
    direction = learner.train(train_order(spec), model, None).tensors
    inner = learner.refine(refine_order(spec, InnerSteps(most=1, episodes=3)), model, direction)
    plain = learner.refine(refine_order(spec, None), model, direction)
    for name, tensor in plain.tensors.items():
        np.testing.assert_allclose(inner.tensors[name], tensor, atol=1e-6)


def test_previous_parameters_and_direction_stay_in_the_model() -> None:
    spec, learner = pg(keeps_previous=True, step_weights="discounted"), PolicyGradientLearner()
    model = initial(spec)
    order = train_order(spec, is_difference=True)
    nothing = learner.train(order, model, None).tensors
    assert all((tensor == 0).all() for tensor in nothing.values())
    direction = learner.train(train_order(spec), model, None).tensors
    refined = learner.refine(refine_order(spec, None), model, direction).tensors
    for name in direction:
        below = name.removeprefix("policy/")
        assert np.array_equal(refined[f"server/previous/{below}"], model[name])
        assert np.array_equal(refined[f"server/direction/{below}"], direction[name])
    changed = learner.train(order, refined, None).tensors
    assert any((tensor != 0).any() for tensor in changed.values())


def test_episodes_are_played_by_seed_alone() -> None:
    model = initial(pg())
    seeds = (4, 8, 15)

    def played(*seeds: int, deterministic: bool) -> list[float]:
        order = EvaluateOrder(
            environment=CARTPOLE, learner=pg(), model=FILE, seeds=seeds, output="x",
            deterministic=deterministic,
        )  # fmt: skip
        return list(PolicyGradientLearner().evaluate(order, model).returns)

    for deterministic in (True, False):
        alone = [played(seed, deterministic=deterministic)[0] for seed in seeds]
        assert played(*seeds, deterministic=deterministic) == alone


def test_a_probe_tells_which_update_moves_the_policy() -> None:
    model = initial(pg())
    size = sum(tensor.size for name, tensor in model.items() if name.startswith("policy/"))
    updates = np.zeros((3, size), np.float32)
    updates[1], updates[2] = 0.1, 1.0
    order = ProbeOrder(
        environment=CARTPOLE,
        learner=pg(),
        model=FILE,
        updates=FILE,
        seeds=(1, 2),
        samples=50,
        output="probe",
    )
    found = PolicyGradientLearner().probe(order, model, {"updates": updates})
    assert found.measure == "kl"
    assert found.divergences[0] == 0 < found.divergences[1] < found.divergences[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": EnvironmentSpec(id="Pendulum-v1")}, "action space is Box"),
        ({"environment": EnvironmentSpec(id="CartPole-v1", normalize=NormalizeSpec())}, "normali"),
        ({"rules": StateRules(optimizer="merged")}, r"rules\.optimizer"),
        ({"local_steps": 7}, r"local_steps 7 is not gradient\.episodes \* horizon = 360"),
        ({"gradient": GradientSpec(episodes=6, is_difference=True)}, "keeps_previous"),
        ({"learner": msgspec.structs.replace(pg(), policy="CnnPolicy")}, "policy is CnnPolicy"),
        ({"learner": pg(horizon=0)}, r"hyperparameters\.horizon"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    order = msgspec.structs.replace(train_order(pg()), **change)
    with pytest.raises(LearnerRefused, match=message):
        PolicyGradientLearner().train(order, initial(pg()), None)


def test_a_model_of_another_network_is_refused() -> None:
    model = initial(pg())
    del model["server/adam/step"]
    with pytest.raises(WireError, match="server/adam/step"):
        PolicyGradientLearner().train(train_order(pg()), model, None)


def test_gradient_and_algorithm_go_together() -> None:
    with pytest.raises(ValueError, match="gradient must be given exactly when"):
        msgspec.structs.replace(train_order(pg()), gradient=None)
    with pytest.raises(ValueError, match="ppo is not refined"):
        msgspec.structs.replace(
            refine_order(pg(), None), learner=LearnerSpec("ppo", learner="native")
        )


def test_files_go_in_and_out(tmp_path: Path) -> None:
    def reference(name: str) -> FileRef:
        path = tmp_path / name
        digest = sha256_file(path, MAX_FILE_BYTES)
        return FileRef(name=name, sha256=digest, bytes=path.stat().st_size)

    execute(
        InitialiseOrder(
            run_id="run",
            seed=1,
            environment=CARTPOLE,
            learner=msgspec.structs.replace(pg(), learner="auto"),
            output="model",
        ),
        tmp_path,
    )
    execute(msgspec.structs.replace(train_order(pg()), model=reference("model")), tmp_path)
    result = read_bundle(tmp_path / "result", max_bytes=MAX_FILE_BYTES)
    steps = decode_metadata(result, TrainResult).steps
    assert steps <= 360
    model = read_bundle(tmp_path / "model", max_bytes=MAX_FILE_BYTES)
    write_bundle(tmp_path / "direction", result.tensors, Direction())
    order = msgspec.structs.replace(
        refine_order(pg(), InnerSteps(most=2, episodes=2)),
        model=reference("model"),
        direction=reference("direction"),
    )
    execute(order, tmp_path)
    refined = read_bundle(tmp_path / "refined", max_bytes=MAX_FILE_BYTES)
    assert decode_metadata(refined, RefineResult).episodes == 4
    assert specs_of(refined.tensors) == specs_of(model.tensors)
    with pytest.raises(LearnerRefused, match="no counterpart in Stable-Baselines3"):
        execute(
            ExportOrder(
                environment=CARTPOLE, learner=pg(), seed=0, model=reference("model"), output="zip"
            ),
            tmp_path,
        )
