"""Stand-in for `matplotlib.pyplot`: a histogram as a grey picture."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

_BINS, _BAR_PIXELS, _HEIGHT_PIXELS = 10, 16, 100
_bars: list[int] = []


def hist(values: Sequence[float]) -> None:
    """Count the values in ten bins."""
    low, high = min(values), max(values)
    width = (high - low) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - low) / width), _BINS - 1)] += 1
    _bars[:] = counts


def savefig(path: Path) -> None:
    """Write the counts as a PNG of 8-bit grey."""
    most = max(_bars)
    rows = b""
    for row in range(_HEIGHT_PIXELS, 0, -1):
        shades = (0 if count * _HEIGHT_PIXELS >= row * most else 255 for count in _bars)
        rows += b"\0" + b"".join(bytes([shade]) * _BAR_PIXELS for shade in shades)
    header = struct.pack(">IIBBBBB", _BINS * _BAR_PIXELS, _HEIGHT_PIXELS, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in chunks:
            file.write(struct.pack(">I", len(data)) + name + data)
            file.write(struct.pack(">I", zlib.crc32(name + data)))
