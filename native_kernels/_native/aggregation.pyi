import numpy as np
from numpy.typing import NDArray

def weighted_mean(
    updates: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float32]: ...
def merge_moments(
    means: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]: ...
