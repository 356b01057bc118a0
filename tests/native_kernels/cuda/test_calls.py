"""A call checks its arguments by name and runs in the right order on the right stream."""

import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from native_kernels import cuda
from native_kernels.cuda.arrays import DeviceArray, empty

UPDATES = np.arange(6, dtype=np.float32).reshape(2, 3)
WEIGHTS = np.ones(2)


class Foreign:
    def __init__(self, array: DeviceArray, **changes: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


def launches(emulation: Any) -> list[str]:
    return [line for line in emulation.log() if not line.startswith("copy")]


def test_the_caller_names_the_stream(emulation: Any) -> None:
    updates = cuda.to_device(UPDATES, stream=4)
    emulation.log()
    mean = cuda.weighted_mean(updates, WEIGHTS, stream=SimpleNamespace(ptr=9))
    assert launches(emulation) == [
        "wait for stream 4 device 0 stream 9",
        "weighted_mean device 0 stream 9",
        "wait for stream 9 device 0 stream 4",
    ]
    assert mean.stream == 9


def test_else_the_arguments_do(emulation: Any) -> None:
    updates = cuda.to_device(UPDATES, device=1, stream=4)
    emulation.log()
    mean = cuda.weighted_mean(updates, WEIGHTS)
    assert launches(emulation) == ["weighted_mean device 1 stream 4"]
    assert (mean.device, mean.stream) == (1, 4)


def test_else_it_is_the_default_stream(emulation: Any) -> None:
    updates = Foreign(cuda.to_device(UPDATES, stream=4), stream=None)
    emulation.log()
    cuda.weighted_mean(updates, WEIGHTS)
    assert launches(emulation) == ["weighted_mean device 0 stream 1"]


def test_the_current_device_stays_what_it_was(emulation: Any) -> None:
    cuda.weighted_mean(cuda.to_device(UPDATES, device=1), WEIGHTS)
    emulation.log()
    cuda.weighted_mean(Foreign(cuda.to_device(UPDATES)), WEIGHTS)
    assert launches(emulation) == ["weighted_mean device 0 stream 1"]


def test_results_go_where_the_caller_wants_them(emulation: Any) -> None:
    out = empty("float32[P]", {"P": 3})
    assert cuda.weighted_mean(cuda.to_device(UPDATES), WEIGHTS, out=out) is out
    assert cuda.to_host(out).tolist() == [1.5, 2.5, 3.5]


def test_nothing_is_leaked(emulation: Any) -> None:
    before = emulation.blocks()
    cuda.to_host(cuda.weighted_mean(cuda.to_device(UPDATES), WEIGHTS))
    assert emulation.blocks() == before


def test_results_are_arrays_of_cupy_where_arguments_are(
    emulation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Ndarray(Foreign):
        pass

    Ndarray.__module__ = "cupy"

    def new(shape: tuple[int, ...], dtype: Any) -> Ndarray:
        seen.append((shape, np.dtype(dtype).name))
        return Ndarray(DeviceArray(shape, np.dtype(dtype), 0, 1))

    def on_stream(handle: int) -> AbstractContextManager[None]:
        seen.append(handle)
        return nullcontext()

    cupy = ModuleType("cupy")
    cupy.empty = new  # type: ignore[attr-defined]
    streams = SimpleNamespace(null=nullcontext())
    cupy.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        Device=lambda number: nullcontext(),
        Stream=streams,
        ExternalStream=on_stream,
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    mean = cuda.weighted_mean(Ndarray(cuda.to_device(UPDATES)), WEIGHTS)
    assert isinstance(mean, Ndarray)
    assert seen == [((3,), "float32")]
    assert cuda.to_host(mean).tolist() == [1.5, 2.5, 3.5]
    cuda.weighted_mean(Ndarray(cuda.to_device(UPDATES)), WEIGHTS, stream=8)
    assert seen[1] == 8


@pytest.mark.parametrize(
    ("updates", "error", "message"),
    [
        (UPDATES.astype(np.float64), TypeError, r"updates: must be float32\[N, P\], is float64\[2"),
        (UPDATES.astype(">f4"), TypeError, r"updates: must be float32\[N, P\], is >f4\[2, 3\]"),
        (UPDATES[0], ValueError, r"updates: must be float32\[N, P\], has shape \[3\]"),
        (UPDATES[:0], ValueError, "updates: needs at least one row"),
    ],
)
def test_unfit_arrays_are_refused_by_name(
    emulation: Any, updates: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cuda.weighted_mean(cuda.to_device(updates), np.ones(len(updates)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strides": (4, 8)}, ValueError, "updates: .*in C order; pass a contiguous copy"),
        ({"typestr": "<f8"}, TypeError, r"updates: .*is float64\[2, 3\]"),
    ],
)
def test_unfit_interfaces_are_refused_by_name(
    emulation: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cuda.weighted_mean(Foreign(cuda.to_device(UPDATES), **changes), WEIGHTS)


def test_an_address_between_items_is_refused(emulation: Any) -> None:
    array = cuda.to_device(np.zeros(8, dtype=np.float32))
    odd = Foreign(array, data=(array.memory.address + 1, False), shape=(2, 3))
    with pytest.raises(ValueError, match=r"updates: .*aligned to its items"):
        cuda.weighted_mean(odd, WEIGHTS)


def test_unfit_results_are_refused_by_name(emulation: Any) -> None:
    updates = cuda.to_device(UPDATES)
    with pytest.raises(ValueError, match=r"out: must be float32\[P\] with P = 3, has shape \[2\]"):
        cuda.weighted_mean(updates, WEIGHTS, out=empty("float32[P]", {"P": 2}))
    read_only = empty("float32[P]", {"P": 3})
    data = (read_only.memory.address, True)
    with pytest.raises(ValueError, match="out: must be writeable"):
        cuda.weighted_mean(updates, WEIGHTS, out=Foreign(read_only, data=data))
    inside = Foreign(updates, shape=(3,))
    with pytest.raises(ValueError, match="out: must not share memory with updates"):
        cuda.weighted_mean(updates, WEIGHTS, out=inside)
    with pytest.raises(ValueError, match="out: lies on device 1, others on 0"):
        cuda.weighted_mean(updates, WEIGHTS, out=empty("float32[P]", {"P": 3}, device=1))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, 1.0], TypeError, r"weights: must be float64\[N\] of NumPy, is list"),
        (WEIGHTS.astype(np.float32), TypeError, "weights: .*is float32"),
        (np.ones(3), ValueError, r"weights: .*rows \(2\), has shape \[3\]"),
        (np.zeros(2), ValueError, "weights: the sum must be above zero"),
        (np.array([1.0, -1.0]), ValueError, "weights: .*entry 1 is -1.0"),
        (np.array([np.nan, 1.0]), ValueError, "weights: .*entry 0 is nan"),
        (np.full(2, 1.7e308), ValueError, "weights: the sum must be .*within float64"),
    ],
)
def test_unfit_weights_are_refused_by_name(
    emulation: Any, weights: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cuda.weighted_mean(cuda.to_device(UPDATES), weights)
