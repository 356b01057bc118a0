"""What the variants of the image hold. Plain data: both ways of building read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Variant = Literal["native", "sb3", "cuda"]
VARIANTS: tuple[Variant, ...] = ("native", "sb3", "cuda")

PREFIX = "/opt/derl"
"""Python's prefix in the image: programs in `bin`, packages in `lib/python3.11/site-packages`."""
PYTHON = "python3.11"
WORK_VOLUME = "/golem/work"
SOURCE_DATE_EPOCH = 1_767_225_600
"""2026-01-01: every file of an image is of this second."""

ENVIRONMENT: dict[str, str] = {
    "PATH": f"{PREFIX}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    # nothing is written outside the volume: the root's overlay is small
    "HOME": WORK_VOLUME,
    "TMPDIR": WORK_VOLUME,
    "XDG_CACHE_HOME": f"{WORK_VOLUME}/.cache",
    "XDG_CONFIG_HOME": f"{WORK_VOLUME}/.config",
    "MPLCONFIGDIR": f"{WORK_VOLUME}/.cache/matplotlib",
    "NUMBA_CACHE_DIR": f"{WORK_VOLUME}/.cache/numba",
    "TORCHINDUCTOR_CACHE_DIR": f"{WORK_VOLUME}/.cache/torch",
    "CUPY_CACHE_DIR": f"{WORK_VOLUME}/.cache/cupy",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class VariantSpec:
    """One variant: `learner` is what its worker has in memory, `runtime` the kind it is fit for."""

    name: Variant
    summary: str
    learner: Literal["native", "sb3"]
    runtime: Literal["vm", "vm-nvidia"]


SPECS: dict[Variant, VariantSpec] = {
    "native": VariantSpec(
        "native", "Python, NumPy and the compiled kernels: native rounds", "native", "vm"
    ),
    "sb3": VariantSpec(
        "sb3", "the same, Stable-Baselines3 and torch for processors: any round", "sb3", "vm"
    ),
    "cuda": VariantSpec(
        "cuda", "the same with torch for CUDA, cupy and the CUDA kernels", "sb3", "vm-nvidia"
    ),
}
