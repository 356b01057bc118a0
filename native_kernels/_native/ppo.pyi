from collections.abc import Sequence
from typing import SupportsInt

import numpy as np
from numpy.typing import NDArray

class Ppo:
    def __init__(
        self,
        observation_size: SupportsInt,
        action_size: SupportsInt,
        is_gaussian: bool,
        pi: Sequence[SupportsInt],
        vf: Sequence[SupportsInt],
        is_relu: bool,
        parameters: NDArray[np.float32],
        threads: SupportsInt,
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
