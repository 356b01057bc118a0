"""How client updates are merged, on a CUDA device; contracts: ``native_kernels.aggregation``.

Arrays are anybody's on a device (``arrays.py``), results are cupy's if an argument is, else
``DeviceArray``. A kernel cannot refuse what stands in an array: see each function.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels.cuda.calls import Call

__all__ = [
    "clip_norms",
    "coordinate_median",
    "squared_distances",
    "trimmed_mean",
    "weighted_mean",
]


def weighted_mean(
    updates: Any, weights: NDArray[np.float64], *, out: Any = None, stream: Any = None
) -> Any:
    """Mean of the rows of ``updates`` weighted by ``weights``, summed in row order in float64.

    updates: float32[N, P] on a device. weights: float64[N] of NumPy, finite, not negative, not all
    zero. out: float32[P] on the device, or None. Returns ``out`` or a new float32[P], the bits of
    the CPU.

    Raises TypeError for another dtype or place, ValueError for another shape or order or unfit
    weights, KernelError, UnavailableError. Does not wait for the result.
    """
    call = Call(stream)
    rows = call.input(updates, "updates", "float32[N, P]")
    shares = _shares(weights, call.sizes["N"])
    mean, result = call.output(out, "out", "float32[P]")
    call.run(call.module.weighted_mean, rows, shares, call.sizes["P"], mean)
    return result


def coordinate_median(updates: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Median of each column; of an even number of rows, the mean of the two middle ones.

    updates: float32[N, P] on a device, 1 <= N <= 384. out: float32[P] on the device, or None.
    Returns ``out`` or a new float32[P], the bits of the CPU; NaN where the column has one.

    Raises TypeError for another dtype or place, ValueError for another shape or order, KernelError,
    UnavailableError. Does not wait for the result.
    """
    return _order_statistics(updates, None, out, stream)


def trimmed_mean(updates: Any, trim: int, *, out: Any = None, stream: Any = None) -> Any:
    """Mean of each column without its ``trim`` smallest and ``trim`` largest entries.

    updates: float32[N, P] on a device, 1 <= N <= 384. trim: 0 <= 2 * trim < N. out: float32[P] on
    the device, or None. Returns ``out`` or a new float32[P], summed in ascending order in float32,
    which is the definition's order and within N * 6e-8 of the mean magnitude of the CPU's result;
    NaN where the column has one.

    Raises TypeError for another dtype or place, ValueError for another shape or order or an unfit
    ``trim``, KernelError, UnavailableError. Does not wait for the result.
    """
    return _order_statistics(updates, trim, out, stream)


def squared_distances(updates: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Squared Euclidean distances between all rows, from their differences, not from products.

    updates: float32[N, P] on a device, N at least 1. out: float64[N, N] on the device, or None.
    Returns ``out`` or a new float64[N, N], symmetric, zero on the diagonal, the bits of the CPU;
    not finite where an entry is not.

    Raises TypeError for another dtype or place, ValueError for another shape or order, KernelError,
    UnavailableError. Does not wait for the result.
    """
    call = Call(stream)
    rows = call.input(updates, "updates", "float32[N, P]")
    clients = _require_rows(call)
    distances, result = call.output(out, "out", "float64[N, N]")
    call.run(call.module.squared_distances, rows, clients, call.sizes["P"], distances)
    return result


def clip_norms(
    updates: Any, limit: float, *, out: tuple[Any, Any] | None = None, stream: Any = None
) -> tuple[Any, Any]:
    """Shorten each row that is longer than ``limit`` to it: row * min(1, limit / norm).

    updates: float32[N, P] on a device, N at least 1. limit: finite, above zero. out: float32[N, P]
    and float64[N] on the device, or None. Returns (clipped float32[N, P], the norms before
    float64[N]), the bits of the CPU; rows whose norm is not finite are not either, or zero.

    Raises TypeError for another dtype or place, ValueError for another shape or order or an unfit
    ``limit``, KernelError, UnavailableError. Does not wait for the result.
    """
    if not 0.0 < limit < np.inf:
        raise ValueError(f"limit: must be finite and above zero, is {limit}")
    call = Call(stream)
    rows = call.input(updates, "updates", "float32[N, P]")
    clients = _require_rows(call)
    clipped, first = call.output(out and out[0], "out", "float32[N, P]")
    norms, second = call.output(out and out[1], "out", "float64[N]")
    call.run(call.module.clip_norms, rows, float(limit), clients, call.sizes["P"], clipped, norms)
    return first, second


def _require_rows(call: Call) -> int:
    if call.sizes["N"] == 0:
        raise ValueError("updates: needs at least one row")
    return call.sizes["N"]


def _order_statistics(updates: Any, trim: Any, out: Any, stream: Any) -> Any:
    call = Call(stream)
    rows = call.input(updates, "updates", "float32[N, P]")
    clients, parameters = call.sizes["N"], call.sizes["P"]
    most = call.module.MOST_SORTED_CLIENTS
    if not 1 <= clients <= most:
        raise ValueError(f"updates: must have 1 to {most} rows on a CUDA device, has {clients}")
    if trim is None:
        trim = (clients - 1) // 2
    elif isinstance(trim, bool) or not isinstance(trim, int) or not 0 <= 2 * trim < clients:
        raise ValueError(f"trim: must be a number of rows, 0 <= 2 * trim < {clients}, is {trim}")
    mean, result = call.output(out, "out", "float32[P]")
    call.run(
        call.module.mean_of_order_statistics,
        rows, clients, parameters, trim, clients - trim, mean,
    )  # fmt: skip
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
