"""GPUs of an offer, under the property names that were ever in use. Pure.

The names are those of GAP-35 while it was experimental and since, each with or without the number
of the device (`d0.`); `count` and `gib` are of an older proposal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from requestor.marketplace.untrusted import bounded_number, printable

NEW_PREFIX = "golem.inf.gpu."
OLD_PREFIX = "golem.!exp.gap-35.v1.inf.gpu."
MAX_GPUS = 16
MAX_QUANTITY = 64
_DEVICE = re.compile(r"d([0-9]{1,3})\.(.+)")


@dataclass(frozen=True)
class Gpu:
    """One kind of card of an offer, and how many; 0 and "" stand for what is not told."""

    model: str
    quantity: int = 1
    memory_gib: float = 0.0
    cuda_cores: int = 0
    cuda_version: str = ""
    compute_capability: str = ""

    def __str__(self) -> str:
        """Say it in a few words, e.g. `2x NVIDIA A30 (24 GiB)`."""
        text = self.model if self.quantity == 1 else f"{self.quantity}x {self.model}"
        return f"{text} ({self.memory_gib:g} GiB)" if self.memory_gib else text


def read_gpus(properties: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """Return the GPUs, by device number; what is malformed is left out."""
    for prefix in (NEW_PREFIX, OLD_PREFIX):
        devices, shared = _devices(properties, prefix)
        found = [_gpu(devices[number], shared) for number in sorted(devices)]
        gpus = tuple(gpu for gpu in found if gpu is not None)[:MAX_GPUS]
        if gpus:
            return gpus
    return ()


def _devices(
    properties: Mapping[str, Any], prefix: str
) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Sort the properties by device; what names no device is of device -1 and shared by all."""
    devices: dict[int, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for name, value in properties.items():
        if not name.startswith(prefix) or len(name) > 200:
            continue
        rest = name.removeprefix(prefix)
        match = _DEVICE.fullmatch(rest)
        if match is None:
            shared[rest] = value
        else:
            devices.setdefault(int(match[1]), {})[match[2]] = value
    return devices or ({-1: shared} if shared else {}), shared


def _gpu(own: Mapping[str, Any], shared: Mapping[str, Any]) -> Gpu | None:
    def first(*names: str) -> Any:
        values = (source.get(name) for source in (own, shared) for name in names)
        return next((value for value in values if value is not None), None)

    model = printable(first("model"))
    if not model:
        return None
    return Gpu(
        model=model,
        quantity=max(1, int(bounded_number(first("quantity", "count"), MAX_QUANTITY))),
        memory_gib=round(bounded_number(first("memory.total.gib", "gib"), 1e5), 2),
        cuda_cores=int(bounded_number(first("cuda.cores"), 1e7)),
        cuda_version=printable(first("cuda.version")),
        compute_capability=printable(first("cuda.compute-capability", "cuda.caps")),
    )
