"""Ours and the peers, made ready with the same settings on the same environment.

Everything is imported where it is used: a process that trains with ours alone loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.settings import Settings

if TYPE_CHECKING:
    from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, Rollout
    from native_kernels.rollouts import Collector


def cartpole_shape() -> PolicyShape:
    """SB3's MlpPolicy on CartPole: actor and critic of 2 x 64, tanh."""
    from native_kernels.ppo import PolicyShape

    return PolicyShape(4, 2)


def ours(settings: Settings, seed: int) -> tuple[Ppo, Collector]:
    """Return our learner and collector on CartPole."""
    from native_kernels.environments import BatchEnvironment
    from native_kernels.ppo import Ppo, orthogonal_parameters
    from native_kernels.rollouts import Collector

    shape = cartpole_shape()
    ppo = Ppo(shape, orthogonal_parameters(shape, seed))
    environment = BatchEnvironment("CartPole-v1", settings.n_envs, seed=seed)
    return ppo, Collector(ppo, environment, seed=seed)


def update_settings(settings: Settings, steps: int) -> PpoSettings:
    """Return the settings of an update after so many environment steps."""
    from native_kernels.ppo import PpoSettings

    return PpoSettings(
        learning_rate=settings.now("learning_rate", steps),
        clip_range=settings.now("clip_range", steps),
        ent_coef=settings.ent_coef,
        batch_size=settings.batch_size,
        n_epochs=settings.n_epochs,
    )


def tensors(ppo: Ppo) -> dict[str, NDArray[np.float32]]:
    """Return the weights under SB3's names."""
    shapes = ppo.shape.tensors
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])
    parts = np.split(ppo.parameters, ends[:-1])
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(shape) for (name, shape), part in named}


def sb3(
    settings: Settings, seed: int, environment: str = "CartPole-v1", **environment_keywords: Any
) -> Any:
    """Return SB3's PPO in a DummyVecEnv with monitors, on one thread."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    environments = make_vec_env(
        environment, settings.n_envs, seed=seed, env_kwargs=environment_keywords
    )
    return PPO("MlpPolicy", environments, seed=seed, **settings.keywords())


def parameters_of(model: Any) -> NDArray[np.float32]:
    """Return an SB3 model's weights, float32[P], in our order, which is its own."""
    parts = [value.detach().numpy().ravel() for value in model.policy.parameters()]
    return np.concatenate(parts).astype(np.float32)


def rollout_of(model: Any) -> Rollout:
    """Return a copy of what an SB3 model has collected and not yet trained with."""
    from native_kernels.ppo import Rollout

    buffer = model.rollout_buffer
    return Rollout(
        observations=buffer.observations.astype(np.float32),
        actions=buffer.actions[:, :, 0].astype(np.int64),
        log_probs=buffer.log_probs.copy(),
        values=buffer.values.copy(),
        advantages=buffer.advantages.copy(),
        returns=buffer.returns.copy(),
    )


def sbx(module: Any, settings: Settings, seed: int) -> Any:
    """Return SBX's PPO on CartPole."""
    from stable_baselines3.common.env_util import make_vec_env

    environment = make_vec_env("CartPole-v1", settings.n_envs, seed=seed)
    return module.PPO("MlpPolicy", environment, seed=seed, **settings.keywords())


def begin(model: Any) -> Any:
    """Make an SB3 or SBX model ready for collecting; return the callback to collect with."""
    _, callback = model._setup_learn(10**9)
    callback.on_training_start({}, {})
    return callback


def collect(model: Any, callback: Any) -> None:
    """Collect one rollout of an SB3 or SBX model."""
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
