"""Arrays on a device: anybody's are seen for what they are, ours can be taken by anybody."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import cuda
from native_kernels.cuda.arrays import DeviceArray, empty, view_of
from native_kernels.cuda.library import require_device


class Foreign:
    """Somebody's array over the memory of one of ours, with parts of its interface changed."""

    def __init__(self, array: DeviceArray, **changes: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


class OnlyDlpack:
    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.streams: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__(stream=stream)


FLOATS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "u2", "?"])
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3)])
def test_what_goes_to_a_device_comes_back(device: str, dtype: str, shape: tuple[int, ...]) -> None:
    array: NDArray[Any] = np.random.default_rng(1).integers(0, 2, size=shape).astype(dtype)
    back = cuda.to_host(cuda.to_device(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_a_transposed_array_arrives_in_c_order(device: str) -> None:
    there = cuda.to_device(FLOATS.T)
    assert there.shape == (3, 2)
    np.testing.assert_array_equal(cuda.to_host(there), FLOATS.T)


def test_the_interface_says_what_there_is(emulation: object) -> None:
    array = cuda.to_device(FLOATS, stream=7)
    interface = array.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert interface["typestr"] == "<f4"
    assert interface["data"] == (array.memory.address, False)
    assert interface["version"] == 3
    assert interface["stream"] == 7
    assert repr(array) == "DeviceArray(float32[2, 3] on device 0)"


def test_others_arrays_are_seen_without_a_copy(emulation: object) -> None:
    array = cuda.to_device(FLOATS, device=1)
    view = view_of(Foreign(array, stream=5), "x", "any array")
    assert view.address == array.memory.address
    assert (view.shape, view.device, view.stream) == ((2, 3), 1, 5)
    assert view.dtype == np.dtype(np.float32)
    assert view.in_order
    assert not view.read_only


@pytest.mark.parametrize(
    ("strides", "in_order"),
    [(None, True), ((12, 4), True), ((4, 8), False), ((24, 4), False), ((12, 8), False)],
)
def test_strides_tell_the_order(
    emulation: object, strides: tuple[int, ...] | None, in_order: bool
) -> None:
    array = cuda.to_device(FLOATS)
    assert view_of(Foreign(array, strides=strides), "x", "any").in_order is in_order


def test_an_axis_of_one_may_have_any_stride(emulation: object) -> None:
    array = cuda.to_device(FLOATS[:1])
    assert view_of(Foreign(array, strides=(999, 4)), "x", "any").in_order


def test_dlpack_hands_over_the_same_memory(emulation: object) -> None:
    array = cuda.to_device(FLOATS, stream=3)
    other = OnlyDlpack(array)
    view = view_of(other, "x", "any array", stream=9)
    assert view.address == array.memory.address
    assert (view.shape, view.device) == ((2, 3), 0)
    assert view.dtype == np.dtype(np.float32)
    assert other.streams == [9]
    np.testing.assert_array_equal(cuda.to_host(other), FLOATS)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "?"])
def test_dlpack_keeps_every_dtype(emulation: object, dtype: str) -> None:
    array = cuda.to_device(np.ones(3, dtype=dtype))
    assert view_of(OnlyDlpack(array), "x", "any array").dtype == np.dtype(dtype)


def test_a_capsule_that_nobody_takes_gives_its_memory_back(emulation: Any) -> None:
    before = emulation.blocks()
    array = cuda.to_device(FLOATS)
    capsule = array.__dlpack__()
    del array
    assert emulation.blocks() == before + 1  # the capsule holds it
    del capsule
    assert emulation.blocks() == before


def test_dlpack_orders_the_streams(emulation: Any) -> None:
    array = cuda.to_device(FLOATS, stream=3)
    emulation.log()
    array.__dlpack__(stream=3)
    array.__dlpack__(stream=-1)
    assert emulation.log() == []
    array.__dlpack__(stream=4)
    array.__dlpack__()
    assert emulation.log() == [
        "wait for stream 3 device 0 stream 4",
        "wait for stream 3 device 0 stream 1",
    ]


def test_a_capsule_of_something_else_is_refused(emulation: object) -> None:
    with pytest.raises(TypeError, match="no capsule of a tensor"):
        require_device().from_dlpack(object())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mask": object()}, TypeError, "x: must be any array, is a masked array"),
        ({"stream": 0}, ValueError, "x: its __cuda_array_interface__ names stream 0"),
        ({"data": (4096, False)}, TypeError, "x: must be any array on a CUDA device, lies els"),
    ],
)
def test_unfit_interfaces_are_refused_by_name(
    emulation: object, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    array = cuda.to_device(FLOATS)
    with pytest.raises(error, match=message):
        view_of(Foreign(array, **changes), "x", "any array")


@pytest.mark.parametrize("there", [FLOATS, [1.0], None])
def test_arrays_in_host_memory_are_refused_with_the_way_out(
    emulation: object, there: object
) -> None:
    with pytest.raises(TypeError, match=r"x: must be float32\[N\] on a CUDA.*to_device\(x\)"):
        view_of(there, "x", "float32[N]")


def test_what_is_not_in_order_is_not_copied_back(emulation: object) -> None:
    array = Foreign(cuda.to_device(FLOATS), strides=(4, 8))
    with pytest.raises(ValueError, match="array: must be in C order"):
        cuda.to_host(array)


def test_a_failing_call_tells_name_and_place(emulation: Any) -> None:
    emulation.refuse_allocations(1)
    with pytest.raises(
        cuda.KernelError, match=r"^cudaErrorMemoryAllocation: out of memory \(.*memory.cpp:\d+\)$"
    ):
        empty("float32[N]", {"N": 3})
    assert cuda.to_device(FLOATS).shape == (2, 3)  # and the next call is none the worse


def test_another_device_is_one_that_exists(emulation: object) -> None:
    with pytest.raises(cuda.KernelError, match="cudaErrorInvalidDevice"):
        cuda.to_device(FLOATS, device=2)
