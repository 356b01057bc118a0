"""How client updates are merged, on a CUDA device; contracts: ``native_kernels.aggregation``.

Arrays are anybody's on a device (``arrays.py``), results are cupy's if an argument is, else
``DeviceArray``. Bits are those of the CPU and of ``native_kernels.reference``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels.cuda.calls import Call

__all__ = ["weighted_mean"]


def weighted_mean(
    updates: Any, weights: NDArray[np.float64], *, out: Any = None, stream: Any = None
) -> Any:
    """Mean of the rows of ``updates`` weighted by ``weights``, summed in row order in float64.

    updates: float32[N, P] on a device. weights: float64[N] of NumPy, finite, not negative, not all
    zero. out: float32[P] on the device, or None. Returns ``out`` or a new float32[P].

    Raises TypeError for another dtype or place, ValueError for another shape or order or unfit
    weights, KernelError, UnavailableError. Does not wait for the result.
    """
    call = Call(stream)
    rows = call.input(updates, "updates", "float32[N, P]")
    shares = _shares(weights, call.sizes["N"])
    mean, result = call.output(out, "out", "float32[P]")
    call.run(call.module.weighted_mean, rows, shares, call.sizes["P"], mean)
    return result


def _shares(weights: Any, clients: int) -> NDArray[np.float64]:
    """Divide the weights by their sum in order, as the CPU does before it looks at any column."""
    if not isinstance(weights, np.ndarray) or weights.dtype != np.float64:
        dtype = getattr(weights, "dtype", type(weights).__name__)
        raise TypeError(f"weights: must be float64[N] of NumPy, is {dtype}")
    if clients == 0:
        raise ValueError("updates: needs at least one row")
    if weights.shape != (clients,):
        raise ValueError(
            f"weights: must have as many entries as updates has rows ({clients}), "
            f"has shape {list(weights.shape)}"
        )
    total = 0.0
    for number, weight in enumerate(weights.tolist()):
        if not (np.isfinite(weight) and weight >= 0.0):
            raise ValueError(
                f"weights: every entry must be finite and not negative, entry {number} is {weight}"
            )
        total += weight
    if not 0.0 < total < np.inf:
        raise ValueError("weights: the sum must be above zero and within float64")
    return weights / total
