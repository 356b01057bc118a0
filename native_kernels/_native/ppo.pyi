from collections.abc import Sequence
from typing import SupportsFloat, SupportsInt

import numpy as np
from numpy.typing import NDArray

class UpdateSettings:
    def __init__(
        self,
        learning_rate: SupportsFloat,
        clip_range: SupportsFloat,
        clip_range_vf: SupportsFloat,
        entropy_weight: SupportsFloat,
        value_weight: SupportsFloat,
        max_gradient_norm: SupportsFloat,
        normalises_advantage: bool,
        target_divergence: SupportsFloat,
        batch_size: SupportsInt,
        epochs: SupportsInt,
        beta1: SupportsFloat,
        beta2: SupportsFloat,
        epsilon: SupportsFloat,
    ) -> None: ...

class Drift:
    def __init__(
        self,
        proximal: SupportsFloat,
        anchor: NDArray[np.float32] | None,
        correction: NDArray[np.float32] | None,
    ) -> None: ...

class Diverged(FloatingPointError): ...

def orthogonal_parameters(
    shape: PolicyShape, seed: SupportsInt, log_std: SupportsFloat
) -> NDArray[np.float32]: ...

class PolicyShape:
    def __init__(
        self,
        observation_size: SupportsInt,
        action_size: SupportsInt,
        is_gaussian: bool,
        pi: Sequence[SupportsInt],
        vf: Sequence[SupportsInt],
        is_relu: bool,
    ) -> None: ...

class Ppo:
    def __init__(
        self, shape: PolicyShape, parameters: NDArray[np.float32], threads: SupportsInt
    ) -> None: ...
    def parameters(self) -> NDArray[np.float32]: ...
    def act(
        self, observations: NDArray[np.float32], seed: SupportsInt, step: SupportsInt
    ) -> tuple[
        NDArray[np.int64] | NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]
    ]: ...
    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def best_actions(
        self, observations: NDArray[np.float32]
    ) -> NDArray[np.int64] | NDArray[np.float32]: ...
    def optimizer_state(self) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]: ...
    def load_optimizer_state(
        self, step: SupportsInt, exp_avg: NDArray[np.float32], exp_avg_sq: NDArray[np.float32]
    ) -> None: ...
    def update(
        self,
        observations: NDArray[np.float32],
        actions: NDArray[np.int64] | NDArray[np.float32],
        log_probs: NDArray[np.float32],
        values: NDArray[np.float32],
        advantages: NDArray[np.float32],
        returns: NDArray[np.float32],
        settings: UpdateSettings,
        order: NDArray[np.int64] | None,
        seed: SupportsInt,
        first_epoch: SupportsInt,
        drift: Drift | None = None,
    ) -> tuple[float, float, float, float, float, float, int, int]: ...
    def gradient_sum(self) -> NDArray[np.float32]: ...
    def gradient(
        self,
        observations: NDArray[np.float32],
        actions: NDArray[np.int64] | NDArray[np.float32],
        log_probs: NDArray[np.float32],
        values: NDArray[np.float32],
        advantages: NDArray[np.float32],
        returns: NDArray[np.float32],
        settings: UpdateSettings,
        indices: NDArray[np.int64],
        drift: Drift | None = None,
    ) -> NDArray[np.float32]: ...
