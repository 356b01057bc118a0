"""Vectorised environments for SB3: monitors, recorder of this round's moments, normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from provider_image.environments import make_environment
from provider_image.learners.base import LearnerRefused
from provider_image.learners.moments import (
    Moments,
    RunningMoments,
    moment_tensors,
    received_statistics,
)
from provider_image.wire import (
    MOMENTS_PREFIX,
    NORMALIZER_PREFIX,
    EnvironmentSpec,
    NormalizeSpec,
    StateRules,
    Tensors,
)


class MomentRecorder(VecEnvWrapper):
    """Passes everything through and collects the moments of this round's own samples.

    It sees what VecNormalize's running statistics see (every observation after reset and step,
    and the discounted return of each environment), but starts from nothing and works in float64.
    """

    def __init__(self, venv: VecEnv, spec: NormalizeSpec) -> None:
        super().__init__(venv)
        self._gamma = spec.gamma
        shape = venv.observation_space.shape
        self.observation = (
            RunningMoments(shape) if spec.observations and shape is not None else None
        )
        self.discounted_return = RunningMoments(()) if spec.rewards else None
        self._returns = np.zeros(self.num_envs)

    def reset(self) -> VecEnvObs:
        """Reset and record the first observations."""
        observations = self.venv.reset()
        self._returns = np.zeros(self.num_envs)
        self._record(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step and record observations and discounted returns."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._record(observations)
        if self.discounted_return is not None:
            self._returns = self._returns * self._gamma + rewards
            self.discounted_return.update(self._returns)
            self._returns[dones] = 0
        return observations, rewards, dones, infos

    def _record(self, observations: VecEnvObs) -> None:
        if self.observation is not None and isinstance(observations, np.ndarray):
            self.observation.update(observations)

    def tensors(self) -> Tensors:
        """`moments/<what>/{mean,var,count}` float64."""
        tensors: Tensors = {}
        if self.observation is not None:
            tensors |= moment_tensors(f"{MOMENTS_PREFIX}observation", self.observation.moments())
        if self.discounted_return is not None:
            moments = self.discounted_return.moments()
            tensors |= moment_tensors(f"{MOMENTS_PREFIX}return", moments)
        return tensors


@dataclass(frozen=True)
class VectorEnvironment:
    """The environment a model works on, and the parts of it that the learner must reach."""

    outermost: VecEnv
    recorder: MomentRecorder | None
    normalizer: VecNormalize | None

    def close(self) -> None:
        """Close every environment."""
        self.outermost.close()


def training_environment(
    spec: EnvironmentSpec, rules: StateRules, *, n_envs: int | None = None
) -> VectorEnvironment:
    """`spec.n_envs` environments (or `n_envs`) stepped one after another, dressed as specified."""
    count = spec.n_envs if n_envs is None else n_envs
    base = DummyVecEnv([lambda: Monitor(make_environment(spec)) for _ in range(count)])
    normalize = spec.normalize
    if normalize is None:
        return VectorEnvironment(base, None, None)
    if normalize.observations and not isinstance(base.observation_space, spaces.Box):
        base.close()
        raise LearnerRefused(
            f"environment {spec.id}: normalize.observations needs a Box observation space, not "
            f"{base.observation_space}; set it to false"
        )
    recorder = MomentRecorder(base, normalize)
    normalizer = VecNormalize(
        recorder,
        training=rules.normalizer == "merged",
        norm_obs=normalize.observations,
        norm_reward=normalize.rewards,
        clip_obs=normalize.clip_observations,
        clip_reward=normalize.clip_rewards,
        gamma=normalize.gamma,
        epsilon=normalize.epsilon,
    )
    return VectorEnvironment(normalizer, recorder, normalizer)


def normalizer_tensors(normalizer: VecNormalize | None) -> Tensors:
    """`normalizer/<what>/{mean,var,count}` float64 of the running statistics."""
    tensors: Tensors = {}
    for name, statistics in _statistics(normalizer).items():
        tensors |= moment_tensors(
            f"{NORMALIZER_PREFIX}{name}",
            Moments(statistics.mean, statistics.var, float(statistics.count)),
        )
    return tensors


def load_normalizer(normalizer: VecNormalize | None, tensors: Tensors) -> None:
    """Set the running statistics; names, shapes and finiteness were checked before."""
    for name, statistics in _statistics(normalizer).items():
        received = received_statistics(f"{NORMALIZER_PREFIX}{name}", tensors)
        statistics.mean, statistics.var = received.mean, received.variance
        statistics.count = received.count


def _statistics(normalizer: VecNormalize | None) -> dict[str, RunningMeanStd]:
    found: dict[str, RunningMeanStd] = {}
    if normalizer is None:
        return found
    if normalizer.norm_obs:
        found["observation"] = cast(RunningMeanStd, normalizer.obs_rms)
    if normalizer.norm_reward:
        found["return"] = normalizer.ret_rms
    return found
