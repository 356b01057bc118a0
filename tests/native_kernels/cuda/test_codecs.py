"""Codecs on a CUDA device: the bytes of the CPU, and what cannot be refused there."""

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import codecs, cuda
from native_kernels.codecs import Codec

CODECS = [
    Codec("fp16"),
    Codec("int8"),
    Codec("int8", rounding="nearest"),
    Codec("int4"),
    Codec("int4", rounding="nearest"),
]


def an_update(count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(count)
    sizes = 10.0 ** random.integers(-9, 6, size=count)
    update: NDArray[np.float32] = (random.normal(size=count) * sizes).astype(np.float32)
    update[::7] = 0.0
    return update


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 1001])
def test_bytes_and_elements_are_those_of_the_cpu(device: str, codec: Codec, count: int) -> None:
    update = an_update(count)
    payload = cuda.encode(cuda.to_device(update), codec, seed=2**63 + 5)
    wanted = codecs.encode(update, codec, seed=2**63 + 5)
    assert cuda.to_host(payload).tobytes() == wanted
    decoded = cuda.to_host(cuda.decode(payload, codec, count))
    assert decoded.tobytes() == codecs.decode(wanted, codec, count).tobytes()


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("unfit", [np.nan, np.inf, -np.inf, 2e30])
def test_unfit_elements_make_bytes_that_decoders_refuse(
    device: str, codec: Codec, unfit: float
) -> None:
    update = an_update(600)
    update[300] = unfit
    payload = cuda.encode(cuda.to_device(update), codec)
    with pytest.raises(codecs.CodecError):
        codecs.decode(cuda.to_host(payload).tobytes(), codec, 600)
    assert np.isnan(cuda.to_host(cuda.decode(payload, codec, 600))[300])


@pytest.mark.parametrize("codec", CODECS[::2], ids=repr)
def test_bytes_that_no_encoder_wrote_come_out_as_nan_or_sound(device: str, codec: Codec) -> None:
    """What the CPU accepts decodes to its elements; what it refuses has a NaN, or odd padding."""
    random = np.random.default_rng(3)
    size = codecs.payload_sizes(codec, 40)[1]
    for _ in range(50):
        payload = random.integers(0, 256, size=size, dtype=np.uint8)
        found = cuda.to_host(cuda.decode(cuda.to_device(payload), codec, 40))
        try:
            wanted = codecs.decode(payload.tobytes(), codec, 40)
        except codecs.CodecError:
            assert np.isnan(found).any()
        else:
            assert found.tobytes() == wanted.tobytes()


def test_unfit_arguments_are_refused_by_name(emulation: object) -> None:
    update = cuda.to_device(an_update(10))
    with pytest.raises(ValueError, match="codec: must be fp16, int8 or int4"):
        cuda.encode(update, Codec("topk", fraction=0.5))
    with pytest.raises(ValueError, match="seed: must be 0 to"):
        cuda.encode(update, CODECS[0], seed=-1)
    with pytest.raises(ValueError, match=r"payload: must be uint8\[Q\] with Q = 14, has shape \[3"):
        cuda.decode(cuda.to_device(np.zeros(3, dtype=np.uint8)), CODECS[1], 10)
    with pytest.raises(ValueError, match="count: must be 0 to"):
        cuda.decode(cuda.to_device(np.zeros(3, dtype=np.uint8)), CODECS[1], -1)
