"""Orders: canonical form, digest, limits, and strangers' bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_image.wire import (
    MAX_ORDER_BYTES,
    EnvironmentSpec,
    EvaluateOrder,
    ExportOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    Order,
    Schedule,
    StateRules,
    TrainOrder,
    WireError,
    WrapperSpec,
    decode_order,
    encode_order,
    order_digest,
)

ENVIRONMENT = EnvironmentSpec(
    id="CartPole-v1",
    kwargs={"sutton_barto_reward": False},
    n_envs=8,
    wrappers=(WrapperSpec("TimeLimit", {"max_episode_steps": 100}),),
    frame_stack=4,
    normalize=NormalizeSpec(clip_observations=5.0),
)
LEARNER = LearnerSpec(
    algorithm="ppo",
    hyperparameters={"n_steps": 32, "target_kl": None, "gamma": 0.98},
    schedules={"learning_rate": Schedule("linear", 1e-3)},
    policy_kwargs={"net_arch": {"pi": [64], "vf": [64]}},
)
MODEL = FileRef(name="model.safetensors", sha256="ab" * 32, bytes=1234)


def train_order(**changes: Any) -> TrainOrder:
    """A train order that breaks no limit, but for the given changes."""
    order = TrainOrder(
        run_id="run-1",
        round=3,
        client=2,
        seed=11,
        environment=ENVIRONMENT,
        learner=LEARNER,
        local_steps=2048,
        steps_done=6144,
        steps_total=20480,
        model=MODEL,
        output="update.safetensors",
    )
    return msgspec.structs.replace(order, **changes)


ORDERS: list[Order] = [
    InitialiseOrder(run_id="r", seed=1, environment=ENVIRONMENT, learner=LEARNER, output="m"),
    train_order(),
    EvaluateOrder(environment=ENVIRONMENT, learner=LEARNER, model=MODEL, seeds=(1, 2), output="e"),
    ExportOrder(environment=ENVIRONMENT, learner=LEARNER, seed=1, model=MODEL, output="m.zip"),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_an_order_survives_the_wire_in_canonical_form(order: Order) -> None:
    data = encode_order(order)
    assert decode_order(data) == order
    assert encode_order(decode_order(data)) == data
    assert order_digest(order) == hashlib.sha256(data).hexdigest()
    parsed = json.loads(data)
    assert json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert list(parsed) == sorted(parsed)


def test_the_digest_does_not_depend_on_how_the_json_was_written() -> None:
    loose = json.dumps(json.loads(encode_order(train_order())), indent=2).encode()
    assert order_digest(decode_order(loose)) == order_digest(train_order())
    assert order_digest(train_order(seed=12)) != order_digest(train_order())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2**31 - 1}, r"seed"),
        ({"seed": -1}, "seed"),
        ({"local_steps": 0}, "local_steps"),
        ({"output": "../evil"}, "output"),
        ({"output": "a/b"}, "output"),
        ({"output": ".hidden"}, "output"),
        ({"output": "x\n"}, "output"),
        ({"output": ""}, "output"),
        ({"run_id": "a b"}, "run_id"),
        ({"model": FileRef(name="m", sha256="AB" * 32, bytes=1)}, "sha256"),
        ({"model": FileRef(name="m", sha256="ab" * 32, bytes=1 << 40)}, "bytes"),
        ({"steps_done": 20480}, "is more than steps_total 20480"),
        ({"client_state_output": "s"}, "exactly when rules"),
        ({"rules": StateRules(replay="kept")}, "exactly when rules"),
        ({"client_state": MODEL}, "no rule says 'kept'"),
        (
            {"rules": StateRules(optimizer="kept"), "client_state_output": "update.safetensors"},
            "same file",
        ),
        ({"environment": EnvironmentSpec(id="x", n_envs=0)}, r"environment\.n_envs"),
        ({"environment": EnvironmentSpec(id="")}, r"environment\.id"),
        ({"learner": LearnerSpec(algorithm="ppo", hyperparameters={"a": object()})}, "JSON"),
    ],
)
def test_an_order_that_breaks_a_limit_is_neither_written_nor_read(
    changes: dict[str, Any], message: str
) -> None:
    def attempt() -> bytes:
        return encode_order(train_order(**changes))

    with pytest.raises((WireError, ValueError), match=message):
        attempt()


def changed(**fields: Any) -> bytes:
    """The JSON of a good order with some fields set to whatever."""
    return json.dumps(json.loads(encode_order(train_order())) | fields).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"null", "Expected `object`"),
        (b"\xff\xfe", "order: "),
        (b'{"a":' * 50_000, "order: "),
        (b" " * (MAX_ORDER_BYTES + 1), f"the limit is {MAX_ORDER_BYTES}"),
        (changed(type="shell"), "type 'shell', known are"),
        (changed(format=1), "format 1, this worker reads format 3; use an image"),
        (changed(surplus=1), "unknown field `surplus`"),
        (changed(output="worker/../x"), r"\$\.output"),
        (changed(learner={"algorithm": "rm -rf"}), r"\$\.learner\.algorithm"),
        (changed(learner={"algorithm": "ppo", "schedules": {"gamma": {}}}), r"schedules"),
        (changed(seed=1.5), r"\$\.seed"),
    ],
)
def test_bad_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode_order(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_mutated_orders_are_refused_or_are_orders(data: st.DataObject) -> None:
    content = bytearray(encode_order(train_order()))
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    try:
        order = decode_order(bytes(content))
    except WireError:
        return
    assert decode_order(encode_order(order)) == order
