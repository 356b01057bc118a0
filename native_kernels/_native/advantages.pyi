import numpy as np
from numpy.typing import NDArray

def generalized_advantages(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
def discounted_returns(
    rewards: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
) -> NDArray[np.float32]: ...
