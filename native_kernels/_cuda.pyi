from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsInt

import numpy as np
from numpy.typing import NDArray

class Place:
    def __init__(self, device: SupportsInt, stream: SupportsInt) -> None: ...

class Memory:
    def __init__(self, bytes: SupportsInt, device: SupportsInt) -> None: ...
    @property
    def address(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def device(self) -> int: ...

class Stopwatch:
    def __init__(self) -> None: ...
    def start(self, place: Place) -> None: ...
    def stop(self, place: Place) -> float: ...

def device_count() -> int: ...
def describe(device: SupportsInt) -> dict[str, Any]: ...
def kernel_facts(device: SupportsInt) -> list[dict[str, Any]]: ...
def copy_to_device(memory: Memory, array: NDArray[Any], place: Place) -> None: ...
def copy_to_host(address: SupportsInt, array: NDArray[Any], place: Place) -> None: ...
def synchronize(place: Place) -> None: ...
def wait_for(place: Place, earlier: SupportsInt) -> None: ...
def device_of(address: SupportsInt) -> int: ...
def to_dlpack(
    memory: Memory, shape: Sequence[SupportsInt], code: SupportsInt, bits: SupportsInt
) -> Any: ...
def from_dlpack(capsule: Any) -> dict[str, Any]: ...
def weighted_mean(
    updates: SupportsInt,
    shares: NDArray[np.float64],
    parameters: SupportsInt,
    mean: SupportsInt,
    place: Place,
) -> None: ...

MOST_SORTED_CLIENTS: int

def mean_of_order_statistics(
    updates: SupportsInt,
    clients: SupportsInt,
    parameters: SupportsInt,
    first: SupportsInt,
    last: SupportsInt,
    mean: SupportsInt,
    place: Place,
) -> None: ...

def squared_distances(
    updates: SupportsInt,
    clients: SupportsInt,
    parameters: SupportsInt,
    distances: SupportsInt,
    place: Place,
) -> None: ...
def clip_norms(
    updates: SupportsInt,
    limit: SupportsFloat,
    clients: SupportsInt,
    parameters: SupportsInt,
    clipped: SupportsInt,
    norms: SupportsInt,
    place: Place,
) -> None: ...

class Trace:
    def __init__(
        self,
        rewards: SupportsInt,
        episode_starts: SupportsInt,
        last_values: SupportsInt,
        last_dones: SupportsInt,
        steps: SupportsInt,
        environments: SupportsInt,
    ) -> None: ...

def generalized_advantages(
    trace: Trace,
    values: SupportsInt,
    gamma: SupportsFloat,
    gae_lambda: SupportsFloat,
    advantages: SupportsInt,
    returns: SupportsInt,
    place: Place,
) -> None: ...
def discounted_returns(
    trace: Trace, gamma: SupportsFloat, returns: SupportsInt, place: Place
) -> None: ...
def encode(
    kind: SupportsInt,
    x: SupportsInt,
    count: SupportsInt,
    is_stochastic: bool,
    seed: SupportsInt,
    bytes: SupportsInt,
    place: Place,
) -> None: ...
def decode(
    kind: SupportsInt, bytes: SupportsInt, count: SupportsInt, x: SupportsInt, place: Place
) -> None: ...

class Batch:
    def __init__(
        self,
        id: SupportsInt,
        count: SupportsInt,
        seed: SupportsInt,
        states: SupportsInt,
        elapsed: SupportsInt,
        episodes: SupportsInt,
        observations: SupportsInt,
        rewards: SupportsInt,
        terminated: SupportsInt,
        truncated: SupportsInt,
        final_observations: SupportsInt,
    ) -> None: ...
    def start(self, place: Place) -> None: ...
    def observe(self, place: Place) -> None: ...
    def step(self, actions: SupportsInt, place: Place) -> None: ...

WIDEST_ROLLOUT: int

class Policy:
    def __init__(
        self,
        observation_size: SupportsInt,
        action_size: SupportsInt,
        is_gaussian: bool,
        pi: Sequence[SupportsInt],
        vf: Sequence[SupportsInt],
        is_relu: bool,
    ) -> None: ...
    @property
    def widest(self) -> int: ...
    def packed(self, parameters: NDArray[np.float32]) -> NDArray[np.float32]: ...

def collect(
    policy: Policy,
    batch: Batch,
    parameters: SupportsInt,
    course: Sequence[SupportsInt],
    gamma: SupportsFloat,
    state: Sequence[SupportsInt],
    outputs: Sequence[SupportsInt],
    place: Place,
) -> None: ...
