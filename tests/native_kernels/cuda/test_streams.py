"""Streams of any library are numbers in the end."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from native_kernels.cuda.streams import handle_of


class OfCudaCore:
    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 77


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, None),
        (0, 1),
        (1, 1),
        (2, 2),
        (0x55D0, 0x55D0),
        (SimpleNamespace(ptr=5), 5),
        (SimpleNamespace(ptr=0), 1),
        (SimpleNamespace(cuda_stream=6), 6),
        (SimpleNamespace(handle=ctypes.c_void_p(8)), 8),
        (SimpleNamespace(__cuda_stream__=(0, 9)), 9),
        (OfCudaCore(), 77),
    ],
)
def test_the_handle_of(stream: Any, handle: int | None) -> None:
    assert handle_of(stream) == handle


@pytest.mark.parametrize("stream", ["a stream", -1, True, 1.5, object()])
def test_what_is_no_stream_is_refused(stream: Any) -> None:
    with pytest.raises(TypeError, match="stream: must be None, the handle"):
        handle_of(stream)
