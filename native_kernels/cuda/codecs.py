"""Updates as few bytes, on a CUDA device; contracts and layouts: ``native_kernels.codecs``.

The bytes are those that the CPU writes, for fp16, int8 and int4; topk is the CPU's alone.
"""

from typing import Any

from native_kernels.codecs import MAX_ELEMENTS, Codec, payload_sizes
from native_kernels.cuda.calls import Call

__all__ = ["decode", "encode"]


def encode(update: Any, codec: Codec, *, seed: int = 0, out: Any = None, stream: Any = None) -> Any:
    """The payload of ``update``, uint8[Q] on its device; Q is ``payload_sizes(codec, P)[1]``.

    update: float32[P] on a device. seed: 0 to 2^64 - 1. out: uint8[Q] on the device, or None.
    Entries that are not finite or beyond ±1e30 make a payload that ``codecs.decode`` refuses.

    Raises TypeError for another dtype or place, ValueError for another shape, order, codec or seed,
    KernelError, UnavailableError. Does not wait for the result.
    """
    _require(codec)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: must be 0 to 2^64 - 1, is {seed}")
    call = Call(stream)
    elements = call.input(update, "update", "float32[P]")
    count = _checked_count(call.sizes["P"])
    call.sizes["Q"] = payload_sizes(codec, count)[1]
    payload, result = call.output(out, "out", "uint8[Q]")
    is_stochastic = codec.rounding == "stochastic"
    call.run(call.module.encode, codec.kind, elements, count, is_stochastic, seed, payload)
    return result


def decode(payload: Any, codec: Codec, count: int, *, out: Any = None, stream: Any = None) -> Any:
    """The update float32[count] that ``payload`` stands for, on its device.

    payload: uint8[Q] on a device. out: float32[count] on the device, or None. An element that no
    encoder could have written comes out as NaN, and bits that belong to none are not looked at:
    bytes of strangers belong into ``native_kernels.codecs.decode``, which refuses them in words.

    Raises TypeError for another dtype or place, ValueError for another length, order or codec,
    KernelError, UnavailableError. Does not wait for the result.
    """
    _require(codec)
    call = Call(stream)
    call.sizes["P"] = _checked_count(count)
    call.sizes["Q"] = payload_sizes(codec, count)[1]
    data = call.input(payload, "payload", "uint8[Q]")
    update, result = call.output(out, "out", "float32[P]")
    call.run(call.module.decode, codec.kind, data, count, update)
    return result


def _require(codec: Codec) -> None:
    if codec.name == "topk":
        raise ValueError("codec: must be fp16, int8 or int4 on a CUDA device, is topk")


def _checked_count(count: int) -> int:
    if not 0 <= count <= MAX_ELEMENTS:
        raise ValueError(f"count: must be 0 to {MAX_ELEMENTS}, is {count}")
    return count
