import numpy as np
from numpy.typing import NDArray

def merge_moments(
    means: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]: ...
def sample_moments(
    samples: NDArray[np.float32] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]: ...
