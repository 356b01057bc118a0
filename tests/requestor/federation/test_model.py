"""Which arrays are merged, and their way into one vector and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.federation.model import averaged_names, flatten, unflatten

SHAPES = st.dictionaries(
    st.sampled_from([f"policy/{letter}" for letter in "abcdefgh"]),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    max_size=6,
)


def test_what_learns_is_averaged_and_statistics_are_not() -> None:
    names = [
        "policy/b",
        "normalizer/observation/mean",
        "extra/log_ent_coef",
        "moments/return/var",
        "optimizer/policy/0/step",
        "policy/a",
    ]
    assert averaged_names(names) == (
        "extra/log_ent_coef",
        "optimizer/policy/0/step",
        "policy/a",
        "policy/b",
    )


def test_the_vector_has_the_arrays_one_after_the_other() -> None:
    tensors = {
        "policy/a": np.array([[1, 2], [3, 4]], np.float32),
        "policy/b": np.array(5, np.float32),
    }
    vector = flatten(tensors, ["policy/b", "policy/a"])
    assert vector.dtype == np.float32
    assert vector.tolist() == [5, 1, 2, 3, 4]


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_there_and_back(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    names = sorted(tensors)
    back = unflatten(flatten(tensors, names), tensors, names)
    assert back.keys() == tensors.keys()
    for name in names:
        assert back[name].shape == tensors[name].shape
        assert back[name].tobytes() == tensors[name].tobytes()


def test_nothing_makes_an_empty_vector() -> None:
    vector = flatten({}, [])
    assert vector.dtype == np.float32
    assert vector.shape == (0,)
    assert unflatten(vector, {}, []) == {}


def test_another_dtype_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"policy/a is float64, but only float32"):
        flatten({"policy/a": np.zeros(2)}, ["policy/a"])


@pytest.mark.parametrize("size", [3, 5])
def test_a_vector_of_another_length_is_refused(size: int) -> None:
    like = {"policy/a": np.zeros((2, 2), np.float32)}
    with pytest.raises(ValueError, match=rf"the vector has {size} numbers, the arrays take 4"):
        unflatten(np.zeros(size, np.float32), like, ["policy/a"])
