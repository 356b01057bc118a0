"""Streams of CUDA, whoever made them, as numbers.

A stream is named by its handle (cudaStream_t). 1 is the legacy default stream and 2 the default
stream of the thread, as in CUDA's own headers; 0, which means 1 or 2 depending on how a program was
compiled, is taken for 1.
"""

from typing import Any

__all__ = ["DEFAULT_STREAM", "handle_of"]

DEFAULT_STREAM = 1


def handle_of(stream: Any) -> int | None:
    """The handle of a stream, or None for None.

    stream: an integer, a cupy stream (``ptr``), a torch stream (``cuda_stream``), a numba stream
    (``handle``) or anything with ``__cuda_stream__``. Raises TypeError for anything else.
    """
    if stream is None:
        return None
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        _, handle = protocol() if callable(protocol) else protocol
    elif isinstance(stream, int) and not isinstance(stream, bool):
        handle = stream
    else:
        for name in ("ptr", "cuda_stream", "handle"):
            handle = getattr(stream, name, None)
            if handle is not None:
                handle = getattr(handle, "value", handle)
                break
    if not isinstance(handle, int) or handle < 0:
        raise TypeError(
            "stream: must be None, the handle of a CUDA stream, or a stream of cupy, torch or "
            f"numba, is {type(stream).__name__}"
        )
    return handle or DEFAULT_STREAM
