"""How large an optimizer's averages can be beside each other, whatever the gradients were.

Averaged over clients, or kept from an earlier round, an optimizer's state may come from a
stranger. A first moment far above the root of the second one makes a step of any size, and the
model is lost. So what is loaded is held within bounds that no run of the optimizer leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

SLACK = 100.0
"""How far beyond its bound a value may lie; rounding while models are merged needs some of it."""

VARIANCE_SHARE = 1e-6
"""How much of a second moment must be variance; float32 rounds off less."""

_NEVER_NEGATIVE = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "step"})

Array = npt.NDArray[np.float32]


def adam_ratio(beta1: float, beta2: float) -> float:
    """Return the least c with |exp_avg| <= c * sqrt(exp_avg_sq) for any gradients; may be inf.

    m = (1 - b1) * sum(b1^k g_k) and v = (1 - b2) * sum(b2^k g_k^2); by Cauchy-Schwarz, with
    b1^k = (b1^2/b2)^(k/2) * b2^(k/2),

        m^2 <= (1 - b1)^2 / (1 - b2) / (1 - b1^2/b2) * v        if b1^2 < b2.

    Its factor (1 - b1) / sqrt(1 - b2) alone is the bound of a single gradient in Kingma and Ba,
    "Adam" (2015), section 2.1. Weighted averages keep to the bound: the root is concave.
    """
    decay = beta1**2 / beta2 if beta1 else 0.0
    return (1 - beta1) / math.sqrt((1 - beta2) * (1 - decay)) if decay < 1 else math.inf


def momentum_limit(alpha: float, momentum: float) -> float:
    """Return the bound of RMSprop's momentum buffer: it sums g / sqrt(v) <= 1 / sqrt(1 - alpha)."""
    spread = (1 - alpha) * (1 - momentum) ** 2
    return 1 / math.sqrt(spread) if spread > 0 and momentum < 1 else math.inf


def bounded(state: Mapping[str, Array], group: Mapping[str, Any]) -> dict[str, Array]:
    """Return an optimizer's state of one parameter within bounds; honest values stay bit for bit.

    `group` is the optimizer's parameter group: `betas` and `eps` of Adam; `alpha` and `momentum`
    of RMSprop. float32 in and out; the bounds are reckoned in float64, whose root is exact to the
    last bit on every machine. One honest value can be touched: centered RMSprop's mean of
    gradients that never change, where rounding would make the optimizer's own variance negative.
    """
    held = {
        name: np.asarray(np.maximum(value, 0)) if name in _NEVER_NEGATIVE else np.array(value)
        for name, value in state.items()
    }
    if "exp_avg" in held:
        ratio = SLACK * max(1.0, adam_ratio(*group["betas"]) / 10)
        root = np.sqrt(held["exp_avg_sq"], dtype=np.float64)
        held["exp_avg"] = _clamped(held["exp_avg"], ratio * (root + group["eps"]))
    if "grad_avg" in held:
        # the optimizer takes the root of square_avg - grad_avg^2
        root = np.sqrt(held["square_avg"], dtype=np.float64)
        held["grad_avg"] = _clamped(held["grad_avg"], (1 - VARIANCE_SHARE) * root)
    if "momentum_buffer" in held and "square_avg" in held and "grad_avg" not in held:
        limit = SLACK * momentum_limit(group["alpha"], group["momentum"])
        held["momentum_buffer"] = _clamped(held["momentum_buffer"], np.float64(limit))
    return held


def _clamped(value: Array, limit: npt.NDArray[np.float64] | np.float64) -> Array:
    return np.clip(value.astype(np.float64), -limit, limit).astype(np.float32)
