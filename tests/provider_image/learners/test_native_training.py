"""A native round: exact steps, SB3's names, state by the stated rules, the same bits every time."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from provider_image.learners import LearnerRefused, TrainingFailed, TrainOutcome, load_learner
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    JsonObject,
    LearnerName,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    WrapperSpec,
    result_specs,
    specs_of,
)

CARTPOLE = EnvironmentSpec("CartPole-v1", n_envs=2)
STEPPED = EnvironmentSpec(
    "CartPole-v1", n_envs=2, wrappers=(WrapperSpec("TimeLimit", {"max_episode_steps": 500}),)
)
NORMALISED = EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=NormalizeSpec())
STACKED = EnvironmentSpec("Pendulum-v1", n_envs=2, frame_stack=2, normalize=NormalizeSpec())
CONTINUOUS = EnvironmentSpec("Pendulum-v1", n_envs=2)
EVERY_KIND = [CARTPOLE, STEPPED, CONTINUOUS, NORMALISED, STACKED]
KINDS = ["fused", "gymnasium", "fused continuous", "batch", "gymnasium normalised"]
SMALL: JsonObject = {"n_steps": 20, "batch_size": 20, "n_epochs": 2}
FILE = FileRef("m", "0" * 64, 0)


def spec(**hyperparameters: Any) -> LearnerSpec:
    """A small learner."""
    return LearnerSpec(
        "ppo",
        hyperparameters=SMALL | hyperparameters,
        policy_kwargs={"net_arch": [16]},
        learner="native",
    )


def initial(
    environment: EnvironmentSpec,
    learner: LearnerSpec,
    rules: StateRules | None = None,
    name: LearnerName = "native",
) -> Tensors:
    """A fresh model's tensors."""
    order = InitialiseOrder(
        run_id="r",
        seed=5,
        environment=environment,
        learner=learner,
        rules=rules or StateRules(),
        output="o",
    )
    return load_learner("ppo", name).initialise(order).tensors


def order_for(environment: EnvironmentSpec, learner: LearnerSpec, **fields: Any) -> TrainOrder:
    """A train order of 40 steps at the start of a run of 400."""
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=learner,
        local_steps=40,
        steps_done=0,
        steps_total=400,
        model=FILE,
        output="o",
    )
    if fields.get("rules", StateRules()).client_has_state:
        fields["client_state_output"] = "s"
    return msgspec.structs.replace(order, **fields)


def trained(
    environment: EnvironmentSpec,
    learner: LearnerSpec,
    state: Tensors | None = None,
    name: LearnerName = "native",
    **fields: Any,
) -> TrainOutcome:
    """Train a fresh model for one round."""
    model = initial(environment, learner, fields.get("rules"))
    order = order_for(environment, learner, **fields)
    return load_learner("ppo", name).train(order, model, state)


def bits(tensors: Tensors | None) -> dict[str, bytes]:
    """What must be equal for two results to be the same bit for bit."""
    return {name: tensor.tobytes() for name, tensor in (tensors or {}).items()}


@pytest.mark.parametrize("optimizer", ["reset", "merged", "kept"])
@pytest.mark.parametrize("environment", EVERY_KIND, ids=KINDS)
def test_a_result_has_the_stated_tensors_and_is_the_same_every_time(
    environment: EnvironmentSpec, optimizer: Any
) -> None:
    rules = StateRules(optimizer=optimizer)
    learner = spec()
    first = trained(environment, learner, rules=rules)
    assert specs_of(first.tensors) == result_specs(specs_of(initial(environment, learner, rules)))
    assert first.steps == 40
    changed = [n for n in first.tensors if n.startswith("policy/") and first.tensors[n].any()]
    assert len(changed) > 4
    assert (first.client_state is not None) == (optimizer == "kept")
    trained(CONTINUOUS, learner, seed=77)
    second = trained(environment, learner, rules=rules)
    assert bits(second.tensors) == bits(first.tensors)
    assert bits(second.client_state) == bits(first.client_state)
    assert second.metrics == first.metrics
    other = trained(environment, learner, rules=rules, seed=10)
    assert bits(other.tensors) != bits(first.tensors)


@pytest.mark.parametrize("optimizer", ["merged", "kept"])
@pytest.mark.parametrize("environment", [CARTPOLE, NORMALISED, STACKED])
def test_results_have_the_layout_of_sb3s(environment: EnvironmentSpec, optimizer: Any) -> None:
    rules = StateRules(optimizer=optimizer)
    learner = spec(clip_range_vf=0.2)
    native = trained(environment, learner, rules=rules)
    sb3 = trained(environment, learner, name="sb3", rules=rules)
    assert specs_of(native.tensors) == specs_of(sb3.tensors)
    assert specs_of(native.client_state or {}) == specs_of(sb3.client_state or {})
    assert specs_of(initial(environment, learner, rules)) == specs_of(
        initial(environment, learner, rules, "sb3")
    )
    for name in ("moments/observation/count", "moments/return/count"):
        if environment.normalize is not None:
            assert native.tensors[name] == sb3.tensors[name]
    assert native.metrics.keys() - {"rollout/native_stepping"} == sb3.metrics.keys()
    for name in ("train/clip_range_vf", "train/n_updates", "time/iterations"):
        assert native.metrics[name] == sb3.metrics[name]


def test_either_learner_goes_on_with_what_the_other_left() -> None:
    kept = StateRules(optimizer="kept")
    name = "optimizer/policy/0/step"
    for first, second in (("native", "sb3"), ("sb3", "native")):
        begun = trained(CONTINUOUS, spec(), None, first, rules=kept)  # type: ignore[arg-type]
        assert begun.client_state is not None
        after = trained(
            CONTINUOUS,
            spec(),
            begun.client_state,
            second,  # type: ignore[arg-type]
            rules=kept,
            steps_done=40,
        )
        assert after.client_state is not None
        assert after.client_state[name] == 2 * begun.client_state[name] == 8


def test_schedules_follow_the_run_and_not_the_round() -> None:
    learner = msgspec.structs.replace(
        spec(),
        schedules={
            "learning_rate": Schedule("linear", 1e-3),
            "clip_range": Schedule("linear", 0.4, 0.2),
        },
    )
    metrics = trained(CARTPOLE, learner, steps_done=160).metrics
    assert metrics["train/learning_rate"] == pytest.approx(1e-3 * (1 - 200 / 400))
    assert metrics["train/clip_range"] == pytest.approx(0.3)
    assert metrics["time/total_timesteps"] == 200


def test_what_is_scheduled_may_end_at_nothing() -> None:
    names: tuple[Any, ...] = ("learning_rate", "clip_range", "clip_range_vf")
    learner = msgspec.structs.replace(
        spec(), schedules={name: Schedule("linear", 0.01) for name in names}
    )
    metrics = trained(CARTPOLE, learner, steps_done=360).metrics
    assert [metrics[f"train/{name}"] for name in names] == [0.0, 0.0, 0.0]


def test_a_rate_of_nothing_changes_nothing_and_a_larger_one_more() -> None:
    moved = []
    for rate in (0.0, 1e-4, 1e-3):
        update = trained(CARTPOLE, spec(learning_rate=rate)).tensors
        moved.append(sum(float(np.abs(tensor).sum()) for tensor in update.values()))
    assert moved[0] == 0
    assert 0 < 5 * moved[1] < moved[2]


def test_metrics_are_finite_and_say_how_it_was_stepped() -> None:
    expected = dict(zip(KINDS, (2.0, 0.0, 2.0, 1.0, 0.0), strict=True))
    for kind, environment in zip(KINDS, EVERY_KIND, strict=True):
        metrics = trained(environment, spec(), local_steps=800, steps_total=800).metrics
        assert metrics["rollout/native_stepping"] == expected[kind]
        assert {
            "train/loss",
            "train/approx_kl",
            "rollout/ep_rew_mean",
            "rollout/ep_len_mean",
        } <= set(metrics)
        assert all(np.isfinite(value) for value in metrics.values())
        assert ("train/std" in metrics) == (environment.id == "Pendulum-v1")


@pytest.mark.parametrize("environment", [CONTINUOUS, NORMALISED, STACKED])
def test_episodes_are_counted(environment: EnvironmentSpec) -> None:
    """Pendulum's last 200 steps, in each of two environments."""
    fields: dict[str, Any] = {"steps_total": 1000}
    assert trained(environment, spec(), local_steps=360, **fields).episodes == 0
    outcome = trained(environment, spec(), local_steps=400, **fields)
    assert outcome.episodes == 2
    assert outcome.metrics["rollout/ep_len_mean"] == 200
    assert -2000 < outcome.metrics["rollout/ep_rew_mean"] < -500


def test_moments_are_of_the_rounds_own_samples() -> None:
    model = initial(NORMALISED, spec())
    for name in model:
        if name.startswith("normalizer/") and name.endswith("/count"):
            model[name] = np.array(1e6)
    order = order_for(NORMALISED, spec())
    moments = load_learner("ppo", "native").train(order, model, None).tensors
    assert moments["moments/observation/count"] == 42  # 40 steps and two first observations
    assert moments["moments/return/count"] == 40
    cosine, sine, _ = moments["moments/observation/mean"] ** 2 + moments["moments/observation/var"]
    assert cosine + sine == pytest.approx(1, abs=1e-5)


def test_a_frozen_normaliser_still_reports_its_samples() -> None:
    frozen = StateRules(normalizer="frozen")
    outcome = trained(STACKED, spec(), rules=frozen)
    assert outcome.tensors["moments/observation/count"] == 42
    assert bits(outcome.tensors) != bits(trained(STACKED, spec()).tensors)


def test_a_kept_optimizer_goes_on_where_it_stood() -> None:
    kept = StateRules(optimizer="kept")
    first = trained(CARTPOLE, spec(), rules=kept)
    assert first.client_state is not None
    assert first.client_state["optimizer/policy/0/step"] == 4
    second = trained(CARTPOLE, spec(), first.client_state, rules=kept, steps_done=40)
    assert second.client_state is not None
    assert second.client_state["optimizer/policy/0/step"] == 8
    fresh = trained(CARTPOLE, spec(), rules=kept, steps_done=40)
    assert bits(second.tensors) != bits(fresh.tensors)


def test_a_merged_optimizer_travels_with_the_model() -> None:
    merged = StateRules(optimizer="merged")
    model = initial(CARTPOLE, spec(), merged)
    learner = load_learner("ppo", "native")
    first = learner.train(order_for(CARTPOLE, spec(), rules=merged), model, None)
    model = {name: tensor + first.tensors[name] for name, tensor in model.items()}
    model["optimizer/policy/0/exp_avg_sq"] -= 1  # an average of others may well be negative
    second = learner.train(order_for(CARTPOLE, spec(), rules=merged, steps_done=40), model, None)
    name = "optimizer/policy/0/step"
    assert model[name] + second.tensors[name] == 2 * first.tensors[name]
    assert np.isfinite(second.tensors["policy/action_net.weight"]).all()


@pytest.mark.parametrize("environment", [CARTPOLE, CONTINUOUS])
def test_hostile_averaged_moments_do_not_wreck_an_honest_client(
    environment: EnvironmentSpec,
) -> None:
    """One stranger among eight sent the greatest updates that the screen lets through."""
    merged = StateRules(optimizer="merged")
    model = initial(environment, spec(), merged)
    for name, tensor in model.items():
        if name.startswith("optimizer/") and not name.endswith("_sq"):
            model[name] = (tensor + np.float32(1e20 / 8)).astype(np.float32)
    order = order_for(environment, spec(), rules=merged)
    outcome = load_learner("ppo", "native").train(order, model, None)
    moved = [t for name, t in outcome.tensors.items() if name.startswith("policy/")]
    assert max(float(np.abs(tensor).max()) for tensor in moved) < 10


def test_wrong_tensors_are_refused() -> None:
    learner = load_learner("ppo", "native")
    model = initial(CARTPOLE, spec())
    order = order_for(CARTPOLE, spec())
    name = "policy/action_net.bias"
    for wrong, message in (
        ({name: np.zeros(3, np.float32)}, r"model: tensor policy/action_net\.bias is float32\[3\]"),
        ({name: np.full(2, np.nan, np.float32)}, "not finite"),
        ({"policy/extra": np.zeros(1, np.float32)}, "not expected: policy/extra"),
    ):
        with pytest.raises(WireError, match=message):
            learner.train(order, model | wrong, None)
    with pytest.raises(WireError, match="client state: tensors missing: none; not expected: x"):
        learner.train(order, model, {"x": np.zeros(1)})


@pytest.mark.parametrize(
    ("fields", "hyperparameters", "message"),
    [
        ({"local_steps": 50}, {}, r"local_steps 50 .* n_steps \* n_envs = 40; use 40 or 80"),
        ({"local_steps": 10}, {}, "use 40$"),
        ({"rules": StateRules(replay="kept")}, {}, r"rules\.replay: kept has no meaning for ppo"),
        (
            {"environment": EnvironmentSpec("CartPole-v1")},
            {"n_steps": 1},
            "a rollout of one step cannot be normalised",
        ),
    ],
)
def test_what_cannot_be_done_exactly_is_refused(
    fields: dict[str, Any], hyperparameters: dict[str, Any], message: str
) -> None:
    environment = fields.pop("environment", CARTPOLE)
    with pytest.raises(LearnerRefused, match=message):
        trained(environment, spec(**hyperparameters), **fields)


@pytest.mark.parametrize("environment", [CARTPOLE, STACKED], ids=["fused", "stepped"])
def test_divergence_is_said_and_not_sent(environment: EnvironmentSpec) -> None:
    learner = spec(learning_rate=1e38, max_grad_norm=1e9)
    with pytest.raises(TrainingFailed, match=r"lower learning_rate"):
        trained(environment, learner, local_steps=400)


def test_an_environment_that_breaks_is_told_by_its_own_words() -> None:
    broken = EnvironmentSpec("CartPole-v1", wrappers=(WrapperSpec("OrderEnforcing"),), n_envs=2)
    learner = load_learner("ppo", "native")
    model = initial(broken, spec())

    from provider_image.learners import native_stepping

    class Breaks(native_stepping.GymnasiumStepper):
        def step(self, actions: Any) -> Any:
            raise ValueError("the pole has left the cart")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_stepping, "GymnasiumStepper", Breaks)
        with pytest.raises(TrainingFailed, match="ValueError: the pole has left the cart"):
            learner.train(order_for(broken, spec()), model, None)
