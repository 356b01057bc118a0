"""Digests of tensors, by the text of FORMAT.md, and orders for a part of a chain."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    LinkRange,
    TrainOrder,
    WireError,
    base_digest,
    decode_order,
    encode_order,
    order_digest,
    tensors_digest,
)

FILE = FileRef("m", "0" * 64, 1)
STATE = {"state": FILE, "state_link": "1" * 64, "state_previous": "2" * 64}
ORDER = TrainOrder(
    run_id="r",
    round=0,
    client=0,
    seed=9,
    environment=EnvironmentSpec("CartPole-v1"),
    learner=LearnerSpec("ppo"),
    local_steps=40,
    steps_done=0,
    steps_total=400,
    model=FILE,
    output="o",
)


def test_a_digest_is_over_names_types_shapes_and_bytes() -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b/x": np.array([[1.0, -0.0]], np.float32),
        "a": np.array(-2, np.int64),
        "b": np.array([True, False]),
        "c": np.zeros((0, 3)),
    }
    # written down by hand: 1.0 and -0.0 in binary32, -2 in two's complement, little-endian
    text = b"previous\x1fa\x1fint64\x1f\x1f" + b"\xfe" + b"\xff" * 7
    text += b"\x1fb\x1fbool\x1f2\x1f\x01\x00"
    text += b"\x1fb/x\x1ffloat32\x1f1x2\x1f\x00\x00\x80\x3f\x00\x00\x00\x80"
    text += b"\x1fc\x1ffloat64\x1f0x3\x1f"
    assert tensors_digest(tensors, "previous") == hashlib.sha256(text).hexdigest()
    assert tensors_digest({}) == hashlib.sha256().hexdigest()


def test_how_an_array_lies_in_memory_changes_nothing() -> None:
    array = np.arange(24, dtype=np.float64).reshape(4, 6)
    wanted = tensors_digest({"x": array})
    alike: list[NDArray[Any]] = [
        np.asfortranarray(array),
        np.repeat(array, 2, axis=1)[:, ::2],
        array.astype(">f8"),
    ]
    for same in alike:
        assert tensors_digest({"x": same}) == wanted
    others: list[NDArray[Any]] = [
        array.T,
        array.reshape(6, 4),
        array.astype(np.float32),
        -array,
    ]
    for other in others:
        assert tensors_digest({"x": other}) != wanted
    assert tensors_digest({"y": array}) != wanted != tensors_digest({"x": array}, "before")


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"last": 0}, "last"),
        ({"last": 65}, "last"),
        ({"first": 3, "last": 3} | STATE, r"first 3 is not before links\.last 3"),
        ({"last": 3} | STATE, r"links\.state must be given exactly when"),
        ({"first": 1, "last": 3}, r"links\.state must be given exactly when"),
        ({"first": 1, "last": 3} | STATE | {"state_link": None}, r"links\.state_link must"),
        ({"first": 1, "last": 3} | STATE | {"state_previous": None}, r"links\.state_previous must"),
        ({"first": 1, "last": 3} | STATE | {"state_link": "x"}, "state_link"),
        ({"last": 3, "state_output": "o"}, "same file o"),
        ({"last": 3, "state_output": "../o"}, "state_output"),
    ],
)
def test_a_part_that_there_cannot_be_is_neither_written_nor_read(
    links: dict[str, Any], message: str
) -> None:
    with pytest.raises((WireError, ValueError), match=message):
        encode_order(msgspec.structs.replace(ORDER, links=LinkRange(**links)))


def test_a_part_is_of_the_work_without_it() -> None:
    asked = msgspec.structs.replace(ORDER, links=LinkRange(first=1, last=3, **STATE))  # type: ignore[arg-type]
    assert decode_order(encode_order(asked)) == asked
    assert base_digest(asked) == base_digest(ORDER) == order_digest(ORDER) != order_digest(asked)
