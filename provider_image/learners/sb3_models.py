"""An SB3 model from a LearnerSpec: names and values checked, nothing evaluated, nothing pickled.

Only SB3's own classes go into a model, so that an exported zip opens without our code.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from provider_image.learners.base import LearnerRefused
from provider_image.wire import EnvironmentSpec, LearnerSpec, Schedule

ALGORITHMS: dict[str, type[OnPolicyAlgorithm] | type[OffPolicyAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "dqn": DQN,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
}
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "elu": torch.nn.ELU,
    "leaky_relu": torch.nn.LeakyReLU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": torch.optim.RMSprop,
    "RMSpropTFLike": RMSpropTFLike,
    "SGD": torch.optim.SGD,
}
POLICY_KWARGS = frozenset(
    {
        *("net_arch", "activation_fn", "ortho_init", "log_std_init", "full_std", "use_expln"),
        *("squash_output", "share_features_extractor", "normalize_images", "n_critics"),
        *("clip_mean", "optimizer_class", "optimizer_kwargs"),
    }
)
_OWNED = frozenset(
    {
        *("self", "policy", "env", "seed", "device", "verbose", "tensorboard_log"),
        *("policy_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs"),
        *("replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"),
        "_init_setup_model",
    }
)


class WholeRunProgress(BaseAlgorithm):
    """Mixed into the algorithm for training: progress is that of the run, not of one `learn`.

    Learning rate, clip range and DQN's exploration then follow the whole run's schedule.
    """

    run_steps_total: int = 1

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, self.run_steps_total)


_TRAINABLE: dict[str, type[BaseAlgorithm]] = {
    name: type(f"WholeRun{algorithm.__name__}", (WholeRunProgress, algorithm), {})
    for name, algorithm in ALGORITHMS.items()
}


@dataclass(frozen=True)
class ModelPlan:
    """What to build. `buffer_steps` bounds the replay buffer (all environments together).

    With `run_steps_total` the model's schedules follow the whole run.
    """

    environment: EnvironmentSpec
    learner: LearnerSpec
    seed: int
    buffer_steps: int | None = 1
    run_steps_total: int | None = None


def build_model(plan: ModelPlan, environment: VecEnv) -> BaseAlgorithm:
    """A model on one CPU thread's worth of SB3, freshly drawn from the seed.

    Raises LearnerRefused, naming the field, if SB3 would not take the hyperparameters.
    """
    spec = plan.learner
    algorithm = ALGORITHMS[spec.algorithm]
    _check_names(spec, algorithm)
    arguments = _constructor_arguments(spec, algorithm, environment)
    if plan.buffer_steps is not None and issubclass(algorithm, OffPolicyAlgorithm):
        wanted = int(arguments.get("buffer_size", replay_capacity(spec)))
        arguments["buffer_size"] = min(wanted, max(plan.buffer_steps, environment.num_envs))
    built_class = algorithm if plan.run_steps_total is None else _TRAINABLE[spec.algorithm]
    try:
        model: BaseAlgorithm = built_class(
            policy=spec.policy,
            env=environment,
            seed=plan.seed,
            device="cpu",
            policy_kwargs=policy_kwargs(spec),
            **arguments,
        )
    except (AssertionError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise LearnerRefused(
            f"{spec.algorithm} does not accept environment {plan.environment.id} with these "
            f"hyperparameters: {error}"
        ) from error
    if isinstance(model, WholeRunProgress) and plan.run_steps_total is not None:
        model.run_steps_total = plan.run_steps_total
    return model


def replay_capacity(spec: LearnerSpec) -> int:
    """The replay buffer's size in steps as the hyperparameters or SB3's default say."""
    default = inspect.signature(ALGORITHMS[spec.algorithm]).parameters["buffer_size"].default
    return int(spec.hyperparameters.get("buffer_size", default))


def is_on_policy(spec: LearnerSpec) -> bool:
    """True for algorithms that learn from fresh rollouts alone."""
    return issubclass(ALGORITHMS[spec.algorithm], OnPolicyAlgorithm)


def policy_kwargs(spec: LearnerSpec) -> dict[str, Any]:
    """SB3's `policy_kwargs` from the JSON form; LearnerRefused for unknown names."""
    kwargs = dict(spec.policy_kwargs)
    _refuse_unknown("policy_kwargs", kwargs, POLICY_KWARGS)
    if "activation_fn" in kwargs:
        kwargs["activation_fn"] = _named("policy_kwargs.activation_fn", kwargs, ACTIVATIONS)
    if "optimizer_class" in kwargs:
        kwargs["optimizer_class"] = _named("policy_kwargs.optimizer_class", kwargs, OPTIMIZERS)
    return kwargs


def schedule_value(schedule: Schedule) -> float | LinearSchedule:
    """SB3's own form of a schedule over the remaining progress (1 to 0)."""
    if schedule.kind == "constant":
        return schedule.start
    return LinearSchedule(schedule.start, schedule.end, 1.0)


def _constructor_arguments(
    spec: LearnerSpec, algorithm: type[BaseAlgorithm], environment: VecEnv
) -> dict[str, Any]:
    arguments = dict(spec.hyperparameters)
    for name, schedule in spec.schedules.items():
        if name in arguments:
            raise LearnerRefused(f"{name} is given as hyperparameter and as schedule; remove one")
        arguments[name] = schedule_value(schedule)
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    noise = _action_noise(arguments, environment.action_space)
    if noise is not None:
        if "action_noise" not in inspect.signature(algorithm).parameters:
            raise LearnerRefused(f"{spec.algorithm} takes no action noise; remove it")
        arguments["action_noise"] = noise
    return arguments


def _check_names(spec: LearnerSpec, algorithm: type[BaseAlgorithm]) -> None:
    known = set(inspect.signature(algorithm).parameters) - _OWNED
    if "action_noise" in known:
        known |= {"noise_type", "noise_std"}
    _refuse_unknown("hyperparameters", spec.hyperparameters, known)
    _refuse_unknown("schedules", spec.schedules, known)
    if spec.policy not in algorithm.policy_aliases:
        raise LearnerRefused(
            f"policy {spec.policy} is unknown to {spec.algorithm}; "
            f"known: {', '.join(algorithm.policy_aliases)}"
        )


def _action_noise(arguments: dict[str, Any], space: spaces.Space[Any]) -> ActionNoise | None:
    """Take the noise out of the arguments: `action_noise: {type, std}` or rl-zoo's two names."""
    given = arguments.pop("action_noise", None) or {}
    kind = arguments.pop("noise_type", given.get("type"))
    deviation = arguments.pop("noise_std", given.get("std"))
    if kind is None:
        return None
    classes: dict[str, type[NormalActionNoise] | type[OrnsteinUhlenbeckActionNoise]] = {
        "normal": NormalActionNoise,
        "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise,
    }
    if kind not in classes or not isinstance(deviation, (int, float)) or space.shape is None:
        raise LearnerRefused(
            f"action noise {kind} with std {deviation}: type is one of {', '.join(classes)}, std "
            "a number, and the actions continuous"
        )
    zeros = np.zeros(space.shape)
    return classes[kind](mean=zeros, sigma=zeros + float(deviation))


def _named(field: str, kwargs: Mapping[str, Any], table: Mapping[str, Any]) -> Any:
    name = kwargs[field.partition(".")[2]]
    if not isinstance(name, str) or name not in table:
        raise LearnerRefused(f"{field} {name!r} is unknown; known: {', '.join(table)}")
    return table[name]


def _refuse_unknown(field: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            raise LearnerRefused(
                f"{field}.{name} is unknown; "
                + (f"near names: {', '.join(near)}" if near else f"known: {', '.join(names)}")
            )
