"""The kernels on a CUDA device, for arrays that are there already: cupy's, torch's, anybody's.

What is there of it on this machine says :func:`status`. Importing this never fails for want of a
GPU, a driver or CUDA's libraries; calling it does, with ``UnavailableError`` and the reason. Next:
``arrays.py`` (what is taken), ``calls.py`` (streams), and ``src/cuda`` for the kernels.
"""

from native_kernels.cuda.advantages import discounted_returns, generalized_advantages
from native_kernels.cuda.aggregation import (
    clip_norms,
    coordinate_median,
    squared_distances,
    trimmed_mean,
    weighted_mean,
)
from native_kernels.cuda.arrays import DeviceArray, to_device, to_host
from native_kernels.cuda.codecs import decode, encode
from native_kernels.cuda.environments import BatchEnvironment
from native_kernels.cuda.errors import KernelError, UnavailableError
from native_kernels.cuda.library import device_count, status
from native_kernels.cuda.rollouts import Collector, DeviceRollout

__all__ = [
    "BatchEnvironment",
    "Collector",
    "DeviceArray",
    "DeviceRollout",
    "KernelError",
    "UnavailableError",
    "clip_norms",
    "coordinate_median",
    "decode",
    "device_count",
    "discounted_returns",
    "encode",
    "generalized_advantages",
    "squared_distances",
    "status",
    "to_device",
    "to_host",
    "trimmed_mean",
    "weighted_mean",
]
