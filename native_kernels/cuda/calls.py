"""One call of a kernel: its arguments checked, its device and stream chosen, its results made.

The order of work, whoever's streams are involved: the kernel runs on the stream that the caller
named, else on the one that the arguments name, else on the default stream. It begins after what the
streams of its arguments hold, and what these get to do later comes after it. The host never waits.
"""

import sys
from collections.abc import Callable
from typing import Any

from native_kernels.cuda.arrays import DeviceArray, View, axes_of, view_of
from native_kernels.cuda.library import require_device
from native_kernels.cuda.streams import DEFAULT_STREAM, handle_of

__all__ = ["Call"]


class Call:
    """Collects arguments; ``sizes`` has the length of each axis once an argument has named it."""

    def __init__(self, stream: Any = None) -> None:
        """``stream``: what the caller passed, of any library, or None."""
        self.module = require_device()
        self.sizes: dict[str, int] = {}
        self._stream = handle_of(stream)
        self._inputs: list[tuple[str, View]] = []
        self._outputs: list[tuple[str, View]] = []

    def input(self, array: Any, name: str, wanted: str) -> int:
        """Check an array that is read, as in "float32[N, P]"; returns its address.

        Raises TypeError for another dtype or place, ValueError for another shape, order or device.
        """
        view = self._checked(array, name, wanted)
        self._inputs.append((name, view))
        return view.address

    def output(self, array: Any, name: str, wanted: str) -> tuple[int, Any]:
        """Check an array that is written, or make one if it is None; returns address and array."""
        if array is None:
            array = self._made(wanted)
        view = self._checked(array, name, wanted)
        if view.read_only:
            raise ValueError(f"{name}: must be writeable")
        for other, seen in (*self._inputs, *self._outputs):
            apart = view.address + view.bytes <= seen.address
            if (
                view.bytes
                and seen.bytes
                and not (apart or seen.address + seen.bytes <= view.address)
            ):
                raise ValueError(f"{name}: must not share memory with {other}")
        self._outputs.append((name, view))
        return view.address, array

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function(*arguments, place)``, ordered with all streams that the arrays name."""
        place = self.place
        others = {view.stream for _, view in (*self._inputs, *self._outputs)}
        others -= {None, self.stream}
        for other in sorted(stream for stream in others if stream is not None):
            self.module.wait_for(place, other)
        function(*arguments, place)
        for other in sorted(stream for stream in others if stream is not None):
            self.module.wait_for(self.module.Place(self.device, other), self.stream)

    @property
    def device(self) -> int:
        """The device of the first argument that holds anything."""
        return next((view.device for _, view in self._inputs if view.bytes), 0)

    @property
    def stream(self) -> int:
        """The stream that the kernel runs on."""
        named = (view.stream for _, view in self._inputs if view.stream is not None)
        return self._stream if self._stream is not None else next(named, DEFAULT_STREAM)

    @property
    def place(self) -> Any:
        """Return device and stream as the built module takes them."""
        return self.module.Place(self.device, self.stream)

    def _checked(self, array: Any, name: str, wanted: str) -> View:
        view = view_of(array, name, wanted, self._stream)
        dtype, axes = axes_of(wanted)
        about = f"{name}: must be {wanted}"
        if view.dtype != dtype:
            raise TypeError(f"{about}, is {view.dtype}{list(view.shape)}")
        if len(view.shape) != len(axes):
            raise ValueError(f"{about}, has shape {list(view.shape)}")
        for axis, length in zip(axes, view.shape, strict=True):
            size = self.sizes.setdefault(axis, int(axis) if axis.isdigit() else length)
            if length != size:
                raise ValueError(f"{about} with {axis} = {size}, has shape {list(view.shape)}")
        if not view.in_order:
            raise ValueError(f"{about} in C order; pass a contiguous copy")
        if view.bytes and (view.address % dtype.itemsize):
            raise ValueError(f"{about}, aligned to its items")
        if view.bytes and self._inputs and view.device != self.device:
            raise ValueError(f"{name}: lies on device {view.device}, others on {self.device}")
        return view

    def _made(self, wanted: str) -> Any:
        """Make an array of cupy if an argument is one, else one of ours."""
        dtype, axes = axes_of(wanted)
        shape = tuple(self.sizes[a] if a in self.sizes else int(a) for a in axes)
        if any(type(view.owner).__module__.partition(".")[0] == "cupy" for _, view in self._inputs):
            cupy = sys.modules["cupy"]
            with cupy.cuda.Device(self.device), _cupy_stream(cupy, self.stream):
                return cupy.empty(shape, dtype)
        return DeviceArray(shape, dtype, self.device, self.stream)


def _cupy_stream(cupy: Any, stream: int) -> Any:
    if stream == DEFAULT_STREAM:
        return cupy.cuda.Stream.null
    return cupy.cuda.ExternalStream(stream)
