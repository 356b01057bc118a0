"""FedProx and SCAFFOLD in SB3: one step by hand, none for nothing, every algorithm."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from provider_image.learners import TrainOutcome, load_learner
from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    FileRef,
    JsonObject,
    LearnerSpec,
    LinkRange,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    result_specs,
    specs_of,
)
from tests.provider_image.learners.fresh_model import fresh_model

CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=2)
PENDULUM = EnvironmentSpec(id="Pendulum-v1")
PPO: JsonObject = {"n_steps": 20, "batch_size": 20, "n_epochs": 4}
OFF_POLICY: JsonObject = {"learning_starts": 10, "batch_size": 16, "buffer_size": 300}
UNCLIPPED: JsonObject = {"max_grad_norm": 1e9}
RATE = 2.0**-7
FILE = FileRef(name="m", sha256="0" * 64, bytes=0)
SCAFFOLD = StateRules(drift="scaffold")
CASES: list[tuple[EnvironmentSpec, Algorithm, JsonObject]] = [
    (CARTPOLE, "ppo", PPO),
    (CARTPOLE, "a2c", {"n_steps": 5}),
    (CARTPOLE, "dqn", OFF_POLICY),
    (PENDULUM, "sac", OFF_POLICY),
    (PENDULUM, "td3", OFF_POLICY),
    (PENDULUM, "ddpg", OFF_POLICY),
]


def fedprox(proximal: float) -> StateRules:
    """The rules with a proximal term."""
    return StateRules(drift="fedprox", proximal=proximal)


def order_for(
    environment: EnvironmentSpec,
    algorithm: Algorithm,
    fields: JsonObject,
    rules: StateRules,
    *,
    optimizer: Literal["Adam", "SGD"] = "Adam",
    steps: int = 40,
) -> TrainOrder:
    """A round of a small learner."""
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=LearnerSpec(
            algorithm,
            hyperparameters=fields,
            policy_kwargs={"net_arch": [16], "optimizer_class": optimizer},
        ),
        rules=rules,
        local_steps=steps,
        steps_done=0,
        steps_total=400,
        model=FILE,
        output="o",
        client_state_output="s" if rules.client_has_state else None,
    )
    return order


def train(
    order: TrainOrder, model: Tensors | None = None, state: Tensors | None = None
) -> TrainOutcome:
    """Do the order with a fresh model, or with this one."""
    learner = load_learner(order.learner.algorithm)
    return learner.train(order, model or fresh_model(order), state)


def policy(tensors: Tensors) -> dict[str, Any]:
    """The policy's tensors alone."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith("policy/")}


def random_controls(order: TrainOrder, seed: int) -> Tensors:
    """Control variates of the size of gradients."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(0, 0.1, tensor.shape).astype(np.float32)
        for name, tensor in fresh_model(order).items()
        if name.startswith("control/")
    }


def test_the_proximal_term_is_added_to_the_gradient() -> None:
    fields: JsonObject = {"n_steps": 10, "learning_rate": RATE} | UNCLIPPED
    plain = order_for(CARTPOLE, "a2c", fields, StateRules(), optimizer="SGD")
    first = msgspec.structs.replace(plain, links=LinkRange(last=1))
    moved = policy(train(first).tensors)  # y1 - w: the first step feels no pull
    without = policy(train(plain).tensors)  # y2 - w
    held = policy(train(msgspec.structs.replace(plain, rules=fedprox(0.5))).tensors)
    for name in without:
        # y2' = y1 - rate * (g + mu * (y1 - w)) = y2 - rate * mu * (y1 - w)
        expected = without[name] - RATE * 0.5 * moved[name]
        np.testing.assert_allclose(held[name], expected, rtol=0, atol=2e-7)
        assert np.abs(held[name] - without[name]).max() > 0


@pytest.mark.parametrize(("environment", "algorithm", "fields"), CASES)
def test_next_to_no_pull_changes_nothing_and_a_strong_one_holds(
    environment: EnvironmentSpec, algorithm: Algorithm, fields: JsonObject
) -> None:
    free = policy(train(order_for(environment, algorithm, fields, StateRules())).tensors)
    barely = policy(train(order_for(environment, algorithm, fields, fedprox(1e-37))).tensors)
    for name in free:
        np.testing.assert_array_equal(barely[name], free[name])
    held = policy(train(order_for(environment, algorithm, fields, fedprox(1e6))).tensors)
    # Adam steps by the learning rate whatever the pull's size is: held is near, not at, w
    names = [name for name in free if "target" not in name]
    far = sum(float(np.square(free[name]).sum()) for name in names)
    near = sum(float(np.square(held[name]).sum()) for name in names)
    assert near < 0.5 * far


@pytest.mark.parametrize(("environment", "algorithm", "fields"), CASES)
def test_variates_of_0_change_nothing_but_are_renewed(
    environment: EnvironmentSpec, algorithm: Algorithm, fields: JsonObject
) -> None:
    free = policy(train(order_for(environment, algorithm, fields, StateRules())).tensors)
    order = order_for(environment, algorithm, fields, SCAFFOLD)
    model = fresh_model(order)
    found = train(order, model)
    for name in free:
        np.testing.assert_array_equal(found.tensors[name], free[name])
    assert specs_of(found.tensors) == result_specs(specs_of(model))
    controls = {name: t for name, t in found.tensors.items() if name.startswith("control/")}
    assert controls and not any("target" in name for name in controls)
    assert sum(bool(tensor.any()) for tensor in controls.values()) >= len(controls) - 1
    assert found.client_state is not None
    assert found.client_state.keys() == controls.keys()
    for name, change in controls.items():
        np.testing.assert_array_equal(found.client_state[name], change)


def test_the_correction_is_added_to_the_gradient() -> None:
    fields: JsonObject = {"n_steps": 20, "learning_rate": RATE} | UNCLIPPED
    plain = order_for(CARTPOLE, "a2c", fields, StateRules(), optimizer="SGD")
    order = order_for(CARTPOLE, "a2c", fields, SCAFFOLD, optimizer="SGD")
    shared, own = random_controls(order, 1), random_controls(order, 2)
    without = policy(train(plain).tensors)
    found = train(order, fresh_model(order) | shared, own)
    for name, moved in without.items():
        control = name.replace("policy/", "control/")
        # one step: y = w - rate * (g + c - c_i), and c_i+ = g
        expected = moved - RATE * (shared[control] - own[control])
        np.testing.assert_allclose(found.tensors[name], expected, rtol=0, atol=2e-7)
        assert found.client_state is not None
        np.testing.assert_allclose(found.client_state[control], -moved / RATE, atol=3e-5)
        np.testing.assert_allclose(found.tensors[control], -moved / RATE - own[control], atol=3e-5)


@pytest.mark.parametrize(
    ("environment", "algorithm", "fields", "critic_steps", "actor_steps"),
    [
        (CARTPOLE, "dqn", OFF_POLICY | UNCLIPPED | {"train_freq": 1, "n_envs": 1}, 30, 30),
        (PENDULUM, "sac", OFF_POLICY, 30, 30),
        (PENDULUM, "td3", OFF_POLICY | {"policy_delay": 2}, 30, 15),
    ],
)
def test_the_new_variate_is_option_2_under_plain_steps(
    environment: EnvironmentSpec,
    algorithm: Algorithm,
    fields: JsonObject,
    critic_steps: int,
    actor_steps: int,
) -> None:
    given = {name: value for name, value in fields.items() if name != "n_envs"}
    environment = msgspec.structs.replace(environment, n_envs=1)
    given |= {"learning_rate": RATE / 4}
    order = order_for(environment, algorithm, given, SCAFFOLD, optimizer="SGD")
    shared, own = random_controls(order, 1), random_controls(order, 2)
    found = train(order, fresh_model(order) | shared, own)
    assert found.client_state is not None
    for control, renewed in found.client_state.items():
        steps = actor_steps if "actor" in control else critic_steps
        moved = found.tensors[control.replace("control/", "policy/")]
        # c_i+ = c_i - c + (w - y) / (K * rate)
        option_2 = own[control] - shared[control] - moved / (steps * RATE / 4)
        np.testing.assert_allclose(renewed, option_2, rtol=1e-3, atol=2e-4)


def test_without_a_step_the_variate_stays() -> None:
    fields = OFF_POLICY | {"learning_starts": 100}
    order = order_for(PENDULUM, "sac", fields, SCAFFOLD)
    own = random_controls(order, 2)
    found = train(order, fresh_model(order), own)
    assert found.client_state is not None
    for name, renewed in found.client_state.items():
        np.testing.assert_array_equal(renewed, own[name])
        assert not found.tensors[name].any()


def test_variates_that_do_not_fit_are_refused() -> None:
    order = order_for(CARTPOLE, "ppo", PPO, SCAFFOLD)
    model = fresh_model(order)
    own = random_controls(order, 1)
    with pytest.raises(WireError, match="client state"):
        train(order, model, dict(list(own.items())[1:]))
    with pytest.raises(WireError, match="model"):
        train(order, {n: t for n, t in model.items() if not n.startswith("control/")}, own)
