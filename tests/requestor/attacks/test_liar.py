"""A liar, order by order: what it has executed, and what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from provider_image.wire import (
    CompressionSpec,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    TrainOrder,
    TrainResult,
    order_digest,
    restore,
    specs_of,
)
from requestor.attacks.catalogue import ATTACKS
from requestor.attacks.liar import Answer, Company, Liar, RefusesWork

MODEL: dict[str, NDArray[Any]] = {
    "policy/a": np.array([1.0, 2.0], dtype=np.float32),
    "policy/b": np.array([[3.0]], dtype=np.float32),
    "normalizer/observation/mean": np.array([0.5]),
    "normalizer/observation/var": np.array([2.0]),
    "normalizer/observation/count": np.array(100.0),
}
CHAIN = ("c" * 64, "d" * 64)


def order(number: int = 0, **more: Any) -> TrainOrder:
    return TrainOrder(
        run_id="r",
        round=number,
        client=1,
        seed=3,
        environment=EnvironmentSpec("CartPole-v1", n_envs=2),
        learner=LearnerSpec("ppo", hyperparameters={"n_steps": 8, "batch_size": 16}),
        local_steps=64,
        steps_done=0,
        steps_total=640,
        model=FileRef("model.safetensors", "0" * 64, 10),
        output="result.safetensors",
        **more,
    )


def worked(given: TrainOrder, values: list[float]) -> Answer:
    tensors: dict[str, NDArray[Any]] = {
        "policy/a": np.array(values[:2], dtype=np.float32),
        "policy/b": np.array([[values[2]]], dtype=np.float32),
        "moments/observation/mean": np.array([0.1]),
        "moments/observation/var": np.array([1.5]),
        "moments/observation/count": np.array(18.0),
    }
    metadata = TrainResult(
        order_sha256=order_digest(given),
        steps=given.local_steps,
        episodes=2,
        wall_seconds=0.5,
        cpu_seconds=0.5,
        links=CHAIN,
    )
    return Answer(tensors, metadata)


def liar(name: str) -> Liar:
    return Liar(ATTACKS[name], Company(clients=5, liars=2), seed=1)


def test_a_flipped_result_belongs_to_the_order_and_keeps_its_chain() -> None:
    given = order()
    one = liar("sign_flip")
    assert one.to_execute(given) == given
    answer = one.answer(given, MODEL, worked(given, [1.0, -2.0, 4.0]))
    assert answer.tensors["policy/a"].tolist() == [-2.5, 5.0]
    assert answer.tensors["policy/b"].tolist() == [[-10.0]]
    assert answer.metadata.order_sha256 == order_digest(given)
    assert answer.metadata.steps == 64
    assert answer.metadata.links == CHAIN


def test_a_free_rider_works_for_nothing_and_counts_what_was_ordered() -> None:
    given = order()
    one = liar("zero")
    assert one.to_execute(given) is None
    answer = one.answer(given, MODEL, None)
    assert answer.tensors["policy/a"].tolist() == [0.0, 0.0]
    # 64 steps and the first observations of 2 environments; mean and variance of the model
    assert float(answer.tensors["moments/observation/count"]) == 66.0
    assert answer.tensors["moments/observation/mean"].tolist() == [0.5]
    assert answer.metadata.steps == 64
    assert len(answer.metadata.links) == 4  # rollouts of 16 steps


def test_an_echo_is_the_last_step_of_the_model() -> None:
    one = liar("echo")
    assert one.answer(order(0), MODEL, None).tensors["policy/a"].tolist() == [0.0, 0.0]
    moved = MODEL | {"policy/a": np.array([1.5, 1.0], dtype=np.float32)}
    assert one.answer(order(1), moved, None).tensors["policy/a"].tolist() == [0.5, -1.0]


def test_a_free_rider_that_owes_a_state_works_for_it() -> None:
    given = order(
        compression=CompressionSpec("topk", fraction=0.5, feedback=True),
        client_state_output="state-out.safetensors",
    )
    assert liar("zero").to_execute(given) == given


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        ("reward_flip", "requestor.attacks.wrong_worlds:FlippedRewards"),
        ("random_action", "requestor.attacks.wrong_worlds:RandomActions"),
        ("wrong_environment", "requestor.attacks.wrong_worlds:MirroredActions"),
    ],
)
def test_other_worlds_are_wrapped_around_the_environment(name: str, wrapper: str) -> None:
    given = order()
    one = liar(name)
    other = one.to_execute(given)
    assert other is not None
    assert [spec.name for spec in other.environment.wrappers] == [wrapper]
    answer = one.answer(given, MODEL, worked(other, [1.0, 2.0, 3.0]))
    assert answer.tensors["policy/a"].tolist() == [1.0, 2.0]
    assert answer.metadata.order_sha256 == order_digest(given)


def test_a_quarter_of_the_steps_is_said_to_be_all() -> None:
    given = order()
    one = liar("fewer_steps")
    other = one.to_execute(given)
    assert other is not None
    assert other.local_steps == 16
    answer = one.answer(given, MODEL, worked(other, [1.0, 2.0, 3.0]))
    assert answer.metadata.steps == 64
    assert float(answer.tensors["moments/observation/count"]) == 66.0


def test_a_single_rollout_is_made_shorter() -> None:
    learner = LearnerSpec("ppo", hyperparameters={"n_steps": 32, "batch_size": 64})
    other = liar("fewer_steps").to_execute(replace(order(), learner=learner))
    assert other is not None
    assert other.local_steps == 16
    assert other.learner.hyperparameters == {"n_steps": 8, "batch_size": 16}


def test_counts_are_inflated() -> None:
    given = order()
    answer = liar("inflated_counts").answer(given, MODEL, worked(given, [1.0, 2.0, 3.0]))
    assert float(answer.tensors["moments/observation/count"]) == 1e18
    assert answer.metadata.steps == 10**12


def test_the_first_result_comes_again_under_the_order_s_name() -> None:
    one = liar("replayed")
    assert one.to_execute(order(0)) == order(0)
    first = one.answer(order(0), MODEL, worked(order(0), [1.0, 2.0, 3.0]))
    assert one.to_execute(order(1)) is None
    again = one.answer(order(1), MODEL, None)
    assert again.tensors is first.tensors
    assert again.metadata.order_sha256 == order_digest(order(1))


def test_every_second_order_fails() -> None:
    one = liar("selective_failure")
    kept = []
    for number in range(4):
        try:
            kept.append(one.to_execute(order(number)) is not None)
        except RefusesWork:
            kept.append(False)
    assert kept == [True, False, True, False]


def test_colluders_use_what_they_saw() -> None:
    given = order()
    seen = [np.array([1.0, 2.0, 3.0], np.float32), np.array([3.0, 2.0, 1.0], np.float32)]
    answer = liar("ipm").answer(given, MODEL, worked(given, [9.0, 9.0, 9.0]), seen)
    assert answer.tensors["policy/a"].tolist() == [-1.0, -1.0]


def test_an_encoded_update_is_replaced_and_encoded_again() -> None:
    spec = CompressionSpec("fp16")
    given = order(compression=spec)
    one = liar("large_noise")
    answer = one.answer(given, MODEL, None)
    specs = specs_of(MODEL)
    decoded = restore(answer.tensors, spec, specs, source="test")
    assert 1.0 < np.abs(decoded["policy/a"]).max() <= 1000.0
