from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_COUNT: Final[int]

def all_facts() -> list[dict[str, str | int | float | tuple[float, ...]]]: ...

class Batch:
    def __init__(
        self, number: int, count: int, seed: int, is_exact: bool, threads: int
    ) -> None: ...
    def start(self, seed: int | None) -> NDArray[np.float32]: ...
    def step_function(
        self,
    ) -> Callable[
        [NDArray[np.int64] | NDArray[np.float32]],
        tuple[
            NDArray[np.float32],
            NDArray[np.float32],
            NDArray[np.bool_],
            NDArray[np.bool_],
        ],
    ]: ...
    def states(self) -> NDArray[np.float64]: ...
    def set_states(self, states: NDArray[np.float64]) -> NDArray[np.float32]: ...
    def resume(
        self,
        states: NDArray[np.float64],
        elapsed_steps: NDArray[np.int32],
        episodes: NDArray[np.int64],
    ) -> NDArray[np.float32]: ...
    def elapsed_steps(self) -> NDArray[np.int32]: ...
    def episodes(self) -> NDArray[np.int64]: ...
    @property
    def observations(self) -> NDArray[np.float32]: ...
    @property
    def final_observations(self) -> NDArray[np.float32]: ...
