"""Gymnasium's classic environments in batches on a CUDA device, in float32.

The same seed, actions and order give the same bits as ``native_kernels.environments`` in float32:
both are made of the dynamics in ``include/derl/environments`` and of the same random numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels.cuda.arrays import DeviceArray, to_device, to_host
from native_kernels.cuda.calls import Call
from native_kernels.cuda.library import device_count, require_device
from native_kernels.cuda.streams import DEFAULT_STREAM, handle_of
from native_kernels.environments import ENVIRONMENTS

__all__ = ["BatchEnvironment"]

MAX_COUNT = 1 << 24


class BatchEnvironment:
    """``count`` environments of one kind on a device, stepped together; B stands for ``count``.

    id: one of ``native_kernels.environments.ENVIRONMENTS``. count: 1 to 2^24. seed: 0 to 2^64 - 1.
    device: its number. stream: on which all work of this batch is done; the default stream if None.

    Episodes that end start anew within the same step, as on the CPU; ``final_observations`` then
    has the last observation of the old one. A choice that there is not, or an action that is not
    finite, makes state, reward and observation of its environment NaN, until that episode ends by
    truncation or ``reset`` is called.

    Raises ValueError that names the argument, KernelError, UnavailableError.
    """

    def __init__(
        self, id: str, count: int, *, seed: int = 0, device: int = 0, stream: Any = None
    ) -> None:
        if id not in ENVIRONMENTS:
            raise ValueError(f"id: must be one of {', '.join(ENVIRONMENTS)}; is {id!r}")
        if not 1 <= count <= MAX_COUNT:
            raise ValueError(f"count: must be 1 to {MAX_COUNT}, is {count}")
        if not 0 <= device < device_count():
            raise ValueError(f"device: must be 0 to {device_count() - 1}, is {device}")
        self.facts = ENVIRONMENTS[id]
        self.count = count
        self.stream = handle_of(stream) or DEFAULT_STREAM
        self._place = require_device().Place(device, self.stream)
        states, size = self.facts.state_size, self.facts.observation_size
        self._states = self._zeros((states, count), np.float32, device)
        self._elapsed = self._zeros((count,), np.int32, device)
        self.observations = self._zeros((count, size), np.float32, device)
        """float32[B, O] of the last step or reset; overwritten by the next."""
        self.final_observations = self._zeros((count, size), np.float32, device)
        """float32[B, O]; rows mean something where an episode ended in the last step."""
        self._rewards = self._zeros((count,), np.float32, device)
        self._flags = [self._zeros((count,), np.bool_, device) for _ in range(2)]
        self.device = device
        self._reseed(seed)
        self._has_started = False

    def reset(self, seed: int | None = None) -> DeviceArray:
        """Start a new episode everywhere; returns observations float32[B, O], as ``step`` does.

        With a seed (0 to 2^64 - 1) episodes are numbered from 0 again, as in a new batch.
        """
        if seed is not None:
            self._reseed(seed)
        self._batch.start(self._place)
        self._has_started = True
        return self.observations

    def step(self, actions: Any) -> tuple[DeviceArray, DeviceArray, DeviceArray, DeviceArray]:
        """Take one step in every environment.

        actions: int64[B] (discrete) or float32[B, A] (continuous) on the device.
        Returns observations float32[B, O], rewards float32[B], terminated bool[B], truncated
        bool[B], which belong to the environment; its next step overwrites them. Does not wait.

        Raises TypeError for another dtype or place, ValueError for another shape or order,
        RuntimeError before the first reset, KernelError.
        """
        if not self._has_started:
            raise RuntimeError("reset the environments before the first step")
        call = Call(self.stream)
        call.sizes.update(B=self.count, A=self.facts.action_size)
        wanted = "int64[B]" if self.facts.n_actions else "float32[B, A]"
        taken = call.input(actions, "actions", wanted)
        call.output(self.observations, "observations", f"float32[B, {self.observations.shape[1]}]")
        call.run(self._batch.step, taken)
        return self.observations, self._rewards, self._flags[0], self._flags[1]

    def collect(
        self,
        policy: Any,
        parameters: DeviceArray,
        course: tuple[int, int, int],
        gamma: float,
        state: tuple[DeviceArray, ...],
        outputs: tuple[DeviceArray, ...],
    ) -> None:
        """Take many steps under a policy; for ``rollouts.py``, which makes the arguments.

        parameters: float32[P] on the device, packed. Raises RuntimeError before the first reset,
        KernelError.
        """
        if not self._has_started:
            raise RuntimeError("reset the environments before the first step")
        require_device().collect(
            policy,
            self._batch,
            parameters.memory.address,
            course,
            gamma,
            [array.memory.address for array in state],
            [array.memory.address for array in outputs],
            self._place,
        )

    @property
    def elapsed_steps(self) -> NDArray[np.int32]:
        """Steps of each episode so far, int32[B] of NumPy; waits for the device."""
        return to_host(self._elapsed)

    @property
    def states(self) -> NDArray[np.float64]:
        """The states float64[B, S] of NumPy; waits for the device."""
        return to_host(self._states).T.astype(np.float64, order="C")

    def set_states(self, states: NDArray[np.float64]) -> DeviceArray:
        """Start a new episode everywhere, from these states; returns observations float32[B, O].

        states: float64[B, S] of NumPy, finite; rounded to float32.
        """
        wanted = (self.count, self.facts.state_size)
        if states.dtype != np.float64 or states.shape != wanted or not np.isfinite(states).all():
            raise ValueError(f"states: must be finite float64{list(wanted)} of NumPy")
        self.reset()
        module = require_device()
        columns = np.ascontiguousarray(states.T, dtype=np.float32)
        module.copy_to_device(self._states.memory, columns, self._place)
        self._batch.observe(self._place)
        return self.observations

    def _reseed(self, seed: int) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: must be 0 to 2^64 - 1, is {seed}")
        self._episodes = self._zeros((self.count,), np.uint32, self.device)
        arrays = (
            self._states, self._elapsed, self._episodes, self.observations, self._rewards,
            *self._flags, self.final_observations,
        )  # fmt: skip
        number = list(ENVIRONMENTS).index(self.facts.id)
        addresses = [array.memory.address for array in arrays]
        self._batch = require_device().Batch(number, self.count, seed, *addresses)

    def _zeros(self, shape: tuple[int, ...], dtype: Any, device: int) -> DeviceArray:
        return to_device(np.zeros(shape, dtype), device=device, stream=self.stream)
