"""Arrays in the memory of a CUDA device: looking at anybody's, and a small one of our own.

Others' arrays are seen through ``__cuda_array_interface__`` (cupy, torch, numba, …) or, where they
have none, DLPack. Nothing is ever copied. ``calls.py`` is next.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels.cuda.library import require_device
from native_kernels.cuda.streams import DEFAULT_STREAM, handle_of

__all__ = ["DeviceArray", "View", "empty", "to_device", "to_host", "view_of"]

DLPACK_CUDA = (2, 13)
"""DLPack's names for memory of a CUDA device and for memory that CUDA moves as needed."""
DLPACK_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
DLPACK_KINDS = {code: kind for kind, code in DLPACK_CODES.items()}


@dataclass(frozen=True)
class View:
    """What is known of an array on a device; ``owner`` keeps its memory alive.

    stream: on which the memory was last written, None if there is nothing to wait for.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: int
    stream: int | None
    read_only: bool
    in_order: bool
    owner: Any = field(repr=False)

    @property
    def bytes(self) -> int:
        """How much memory the array spans."""
        return math.prod(self.shape) * self.dtype.itemsize


class DeviceArray:
    """An array of ours on a CUDA device, C order; others take it without a copy.

    ``cupy.asarray(x)``, ``torch.as_tensor(x, device="cuda")`` and ``from_dlpack`` of either share
    its memory, which lives as long as anyone of them. ``to_host(x)`` copies it into NumPy.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, stream: int
    ) -> None:
        """Memory that is not yet written; ``stream`` is where it will be."""
        self.shape = shape
        self.dtype = dtype
        self.stream = stream
        self.memory = require_device().Memory(math.prod(shape) * dtype.itemsize, device)

    @property
    def device(self) -> int:
        """Return the number of the device."""
        return int(self.memory.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.memory.address, False),
            "version": 3,
            "strides": None,
            "stream": self.stream,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return DLPACK_CUDA[0], self.device

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        """Share the memory; work on ``stream`` (-1: no wish) then comes after ours."""
        module = require_device()
        wanted = None if stream == -1 else (handle_of(stream) or DEFAULT_STREAM)
        if wanted not in (None, self.stream):
            module.wait_for(module.Place(self.device, wanted), self.stream)
        code = DLPACK_CODES[self.dtype.kind]
        return module.to_dlpack(self.memory, list(self.shape), code, self.dtype.itemsize * 8)

    def __repr__(self) -> str:
        """Return dtype, shape and device."""
        return f"DeviceArray({self.dtype}{list(self.shape)} on device {self.device})"


def view_of(array: Any, name: str, wanted: str, stream: int | None = None) -> View:
    """See an array on a device as what it is; ``wanted`` says in the message what it should be.

    stream: for DLPack, which orders the streams itself, the stream that will read the array.
    Raises TypeError if it is no array on a CUDA device.
    """
    if isinstance(array, DeviceArray):
        return View(
            array.memory.address, array.shape, array.dtype, array.device, array.stream,
            read_only=False, in_order=True, owner=array,
        )  # fmt: skip
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        return _of_interface(array, interface, name, wanted)
    if hasattr(array, "__dlpack_device__"):
        kind, _ = array.__dlpack_device__()
        if int(kind) in DLPACK_CUDA:
            return _of_dlpack(array, stream)
    raise TypeError(
        f"{name}: must be {wanted} on a CUDA device, is {type(array).__module__}."
        f"{type(array).__qualname__} in host memory; pass native_kernels.cuda.to_device({name})"
    )


def _of_interface(array: Any, interface: dict[str, Any], name: str, wanted: str) -> View:
    if interface.get("mask") is not None:
        raise TypeError(f"{name}: must be {wanted}, is a masked array")
    address, read_only = interface["data"]
    shape = tuple(int(length) for length in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    device = 0
    if math.prod(shape) > 0:
        device = require_device().device_of(int(address or 0))
        if device < 0:
            raise TypeError(f"{name}: must be {wanted} on a CUDA device, lies elsewhere")
    stream = interface.get("stream")
    if stream is not None and (isinstance(stream, bool) or int(stream) <= 0):
        raise ValueError(f"{name}: its __cuda_array_interface__ names stream {stream!r}")
    return View(
        int(address or 0), shape, dtype, device, stream, bool(read_only),
        _is_in_order(shape, interface.get("strides"), dtype.itemsize), array,
    )  # fmt: skip


def _of_dlpack(array: Any, stream: int | None) -> View:
    capsule = array.__dlpack__(stream=stream or DEFAULT_STREAM)
    tensor = require_device().from_dlpack(capsule)
    kind = DLPACK_KINDS.get(tensor["code"]) if tensor["lanes"] == 1 else None
    dtype = np.dtype("V1") if kind is None else np.dtype(f"{kind}{tensor['bits'] // 8}")
    shape = tuple(tensor["shape"])
    # the capsule is not consumed: when it dies it gives the tensor back itself
    return View(
        tensor["address"], shape, dtype, tensor["device"], None, tensor["read_only"],
        _is_in_order(shape, tensor.get("strides"), 1), (array, capsule),
    )  # fmt: skip


def _is_in_order(shape: tuple[int, ...], strides: Any, unit: int) -> bool:
    """Whether the strides (None: C order), in steps of ``unit``, are those of C order."""
    if strides is None or 0 in shape:
        return True
    step = unit
    for length, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True


def axes_of(wanted: str) -> tuple[np.dtype[Any], list[str]]:
    """Read a phrase as "float32[N, P]"."""
    match = re.fullmatch(r"(\w+)\[(.*)\]", wanted)
    if match is None:
        raise ValueError(f"not a dtype with a shape: {wanted}")
    return np.dtype(match[1]), [axis.strip() for axis in match[2].split(",") if axis.strip()]


def empty(wanted: str, sizes: dict[str, int], device: int = 0, stream: Any = None) -> DeviceArray:
    """Return memory that is not yet written, as ``wanted`` ("float32[N, P]") and ``sizes`` say."""
    dtype, axes = axes_of(wanted)
    shape = tuple(sizes[axis] if axis in sizes else int(axis) for axis in axes)
    return DeviceArray(shape, dtype, device, handle_of(stream) or DEFAULT_STREAM)


def to_device(array: NDArray[Any], *, device: int = 0, stream: Any = None) -> DeviceArray:
    """Copy a NumPy array, as float32[N, P] or any other, to a device, in the order of the stream.

    The array may change again when this returns. Raises KernelError, UnavailableError.
    """
    array = np.asarray(array, order="C")
    handle = handle_of(stream) or DEFAULT_STREAM
    copy = DeviceArray(array.shape, array.dtype, device, handle)
    if array.size:
        module = require_device()
        module.copy_to_device(copy.memory, array, module.Place(device, handle))
    return copy


def to_host(array: Any, *, stream: Any = None) -> NDArray[Any]:
    """Copy an array from a device into NumPy, as float32[N, P] or any other, and wait for it.

    stream: the copy comes after the work there; None means the stream that the array names.
    Raises TypeError, ValueError (not in C order), KernelError, UnavailableError.
    """
    handle = handle_of(stream)
    view = view_of(array, "array", "any array", handle)
    if not view.in_order:
        raise ValueError("array: must be in C order")
    copy = np.empty(view.shape, dtype=view.dtype)
    if copy.size:
        module = require_device()
        place = module.Place(view.device, handle or view.stream or DEFAULT_STREAM)
        if handle is not None and view.stream not in (None, handle):
            module.wait_for(place, view.stream)
        module.copy_to_host(view.address, copy, place)
    return copy
