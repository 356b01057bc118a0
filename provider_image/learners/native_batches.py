"""Batches of native environments: as tensors of a link's state, and stepped with their policy.

B environments with S numbers of state each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from native_kernels import rollouts
from native_kernels.environments import BatchEnvironment
from provider_image.wire import Tensors

STATES = "environment/states"
ELAPSED = "environment/elapsed_steps"
EPISODES = "environment/episodes"
RETURNS = "environment/returns"


def environment_tensors(environment: BatchEnvironment) -> Tensors:
    """States float64[B, S], elapsed steps and numbers of the running episodes int64[B]."""
    return {
        STATES: environment.states,
        ELAPSED: environment.elapsed_steps.astype(np.int64),
        EPISODES: environment.episodes,
    }


def resume_environment(environment: BatchEnvironment, state: Tensors) -> npt.NDArray[np.float32]:
    """Go on from checked tensors; the last observations float32[B, O], the environment's own."""
    elapsed = state[ELAPSED].astype(np.int32)
    return environment.resume(state[STATES], elapsed, state[EPISODES])


class FusedCollector(rollouts.Collector):
    """Steps without leaving C++, and says where it stands."""

    def standing(self) -> Tensors:
        """What the next steps depend on, the policy aside."""
        return environment_tensors(self.environment) | {RETURNS: self.running_returns}

    def go_on(self, state: Tensors, steps: int) -> None:
        """Be as `standing` was after so many steps."""
        resume_environment(self.environment, state)
        self.resume(steps, state[RETURNS])
