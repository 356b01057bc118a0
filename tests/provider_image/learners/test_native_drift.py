"""FedProx and SCAFFOLD in rounds of the native learner: what is added, and what is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings
from native_kernels.rollouts import Collector
from provider_image.learners import TrainOutcome, load_learner
from provider_image.wire import (
    EnvironmentSpec,
    EvaluateOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    result_specs,
    specs_of,
)

FILE = FileRef("m", "0" * 64, 0)
CARTPOLE = EnvironmentSpec("CartPole-v1", n_envs=2)
EVERY_KIND = [
    CARTPOLE,
    EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=NormalizeSpec()),
    EnvironmentSpec("CartPole-v1", n_envs=2, frame_stack=2),
]
KINDS = ["fused", "batch", "gymnasium"]
SCAFFOLD = StateRules(drift="scaffold")
NATIVE = load_learner("ppo", "native")


def learner_spec(**hyperparameters: Any) -> LearnerSpec:
    """A small learner; twelve gradient steps for forty environment steps."""
    return LearnerSpec(
        "ppo",
        hyperparameters={"n_steps": 20, "batch_size": 10, "n_epochs": 3} | hyperparameters,
        policy_kwargs={"net_arch": [8]},
        learner="native",
    )


def model_for(environment: EnvironmentSpec, rules: StateRules) -> Tensors:
    """A fresh model."""
    order = InitialiseOrder(
        run_id="r",
        seed=5,
        environment=environment,
        learner=learner_spec(),
        rules=rules,
        output="o",
    )
    return NATIVE.initialise(order).tensors


def order_for(environment: EnvironmentSpec, rules: StateRules, **fields: Any) -> TrainOrder:
    """One update of forty steps."""
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=learner_spec(),
        rules=rules,
        local_steps=40,
        steps_done=0,
        steps_total=400,
        model=FILE,
        output="o",
        client_state_output="s" if rules.client_has_state else None,
    )
    return msgspec.structs.replace(order, **fields)


def trained(
    environment: EnvironmentSpec, rules: StateRules, state: Tensors | None = None, **fields: Any
) -> TrainOutcome:
    """A fresh model's first round."""
    order = order_for(environment, rules, **fields)
    return NATIVE.train(order, model_for(environment, rules), state)


def part(tensors: Tensors | None, prefix: str) -> dict[str, bytes]:
    """The bits of the tensors under a prefix."""
    found = tensors or {}
    return {n: t.tobytes() for n, t in found.items() if n.startswith(prefix)}


def length(tensors: Tensors, prefix: str = "policy/") -> float:
    """Euclidean norm of all tensors under a prefix."""
    squares = (np.square(t, dtype=np.float64).sum() for n, t in tensors.items() if n[:7] == prefix)
    return float(np.sqrt(sum(squares)))


@pytest.mark.parametrize("environment", EVERY_KIND, ids=KINDS)
def test_a_first_round_of_scaffold_is_a_plain_one_that_remembers_its_gradients(
    environment: EnvironmentSpec,
) -> None:
    model = model_for(environment, SCAFFOLD)
    controls = {name: tensor for name, tensor in model.items() if name.startswith("control/")}
    policy = {name.removeprefix("policy/") for name in model if name.startswith("policy/")}
    assert {name.removeprefix("control/") for name in controls} == policy
    assert not any(tensor.any() for tensor in controls.values())

    plain, found = trained(environment, StateRules()), trained(environment, SCAFFOLD)

    assert specs_of(found.tensors) == result_specs(specs_of(model))
    assert part(found.tensors, "policy/") == part(plain.tensors, "policy/")
    # from 0 the new variate is what it changed by
    assert part(found.client_state, "control/") == part(found.tensors, "control/")
    assert (found.client_state or {}).keys() == controls.keys()
    assert length(found.tensors, "control") > 0


def test_the_new_variate_is_the_mean_gradient() -> None:
    """One rollout, one minibatch, one epoch: the gradient at the received weights, by hand."""
    learner = learner_spec(n_epochs=1, batch_size=40, max_grad_norm=1e-3)
    found = trained(CARTPOLE, SCAFFOLD, learner=learner)
    shape = PolicyShape(4, 2, pi=(8,), vf=(8,))
    model = model_for(CARTPOLE, SCAFFOLD)
    flat = np.concatenate([model[f"policy/{name}"].ravel() for name in shape.tensors])
    ppo = Ppo(shape, flat)
    environment = BatchEnvironment("CartPole-v1", 2, seed=9)
    rollout = Collector(ppo, environment, seed=9).collect(20, gamma=0.99, gae_lambda=0.95)
    gradient = ppo.gradient(rollout, PpoSettings(batch_size=40), np.arange(40))
    change = np.concatenate([found.tensors[f"control/{name}"].ravel() for name in shape.tensors])
    np.testing.assert_allclose(change, gradient, rtol=1e-4, atol=1e-6)


def test_the_correction_is_what_others_know_less_what_one_knows() -> None:
    model, order = model_for(CARTPOLE, SCAFFOLD), order_for(CARTPOLE, SCAFFOLD)
    first = NATIVE.train(order, model, None)
    kept = first.client_state
    assert kept is not None
    plain = part(first.tensors, "policy/")
    # c = c_i: nothing to correct, whatever they are
    same = NATIVE.train(order, model | kept, kept)
    assert part(same.tensors, "policy/") == plain
    # then the mean gradient is the same again, and nothing is left to learn of it
    assert not any(tensor.any() for name, tensor in same.tensors.items() if name[:7] == "control")
    assert part(same.client_state, "control/") == part(kept, "control/")
    other = NATIVE.train(order, model, kept)
    assert part(other.tensors, "policy/") != plain
    changed = {
        name: (tensor + kept[name]).astype(np.float32)
        for name, tensor in other.tensors.items()
        if name.startswith("control/")
    }
    for name, tensor in (other.client_state or {}).items():
        np.testing.assert_allclose(tensor, changed[name], atol=1e-6)


@pytest.mark.parametrize("environment", EVERY_KIND, ids=KINDS)
def test_fedprox_tends_to_nothing_and_to_a_standstill(environment: EnvironmentSpec) -> None:
    plain = trained(environment, StateRules(), local_steps=400).tensors
    moved = {}
    for proximal in (1e-9, 1.0, 1e6):
        rules = StateRules(drift="fedprox", proximal=proximal)
        found = trained(environment, rules, local_steps=400).tensors
        assert specs_of(found) == specs_of(plain)
        moved[proximal] = length(found)
    assert moved[1e-9] > moved[1.0] > 2 * moved[1e6]
    assert moved[1e-9] == pytest.approx(length(plain), rel=1e-3)


def test_variates_that_are_no_variates_are_refused() -> None:
    model, order = model_for(CARTPOLE, SCAFFOLD), order_for(CARTPOLE, SCAFFOLD)
    kept = NATIVE.train(order, model, None).client_state
    assert kept is not None
    name = next(iter(kept))
    for wrong in (
        {n: t for n, t in kept.items() if n != name},
        kept | {"control/x": np.zeros(1, np.float32)},
        kept | {name: kept[name].astype(np.float64)},
        kept | {name: np.full_like(kept[name], np.nan)},
    ):
        with pytest.raises(WireError):
            NATIVE.train(order, model, wrong)
        with pytest.raises(WireError):
            NATIVE.train(order, {n: t for n, t in model.items() if n not in kept} | wrong, kept)
    with pytest.raises(WireError):
        NATIVE.train(order_for(CARTPOLE, StateRules()), model, None)


def test_the_optimizer_is_kept_beside_the_variates() -> None:
    rules = StateRules(optimizer="kept", drift="scaffold")
    first = trained(CARTPOLE, rules)
    assert {name.split("/")[0] for name in first.client_state or {}} == {"optimizer", "control"}
    again = trained(CARTPOLE, rules, first.client_state)
    assert part(again.tensors, "policy/") != part(first.tensors, "policy/")


def test_a_model_with_variates_is_evaluated() -> None:
    order = EvaluateOrder(
        environment=CARTPOLE,
        learner=learner_spec(),
        rules=SCAFFOLD,
        model=FILE,
        seeds=(1, 2),
        output="o",
    )
    assert NATIVE.evaluate(order, model_for(CARTPOLE, SCAFFOLD)).returns.shape == (2,)
