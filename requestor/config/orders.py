"""From a config to the wire: the specifications that every order of a run carries."""

from __future__ import annotations

from typing import Any, get_args

from provider_image.wire import (
    CompressionSpec,
    EnvironmentSpec,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    ScheduledName,
    StateRules,
    WrapperSpec,
)
from requestor.config.algorithms import ByzPG, PolicyGradient
from requestor.config.model import RunConfig
from requestor.config.values import Scheduled

_SCHEDULED: tuple[ScheduledName, ...] = get_args(ScheduledName)


def environment_spec(config: RunConfig) -> EnvironmentSpec:
    """The environment every client trains in; rewards are normalised with the algorithm's gamma."""
    env = config.env
    normalize = None
    if env.normalize is not None:
        normalize = NormalizeSpec(gamma=config.algo.gamma, **env.normalize.model_dump())
    return EnvironmentSpec(
        id=env.id,
        kwargs=env.kwargs,
        n_envs=env.n_envs,
        wrappers=tuple(WrapperSpec(name=w.name, kwargs=w.kwargs) for w in env.wrappers),
        frame_stack=env.frame_stack,
        normalize=normalize,
    )


def learner_spec(config: RunConfig) -> LearnerSpec:
    """The algorithm with every hyperparameter written out, SB3's defaults included.

    Its `learner` may be `auto`: what that is, the model says that is made with it.
    """
    algo = config.algo
    if isinstance(algo, PolicyGradient):
        return _gradient_spec(algo)
    schedules = {
        name: _schedule(value)
        for name in _SCHEDULED
        if (value := getattr(algo, name, None)) is not None
    }
    hyperparameters: dict[str, Any] = algo.model_dump(
        mode="json", exclude={"name", "learner", "policy", "policy_kwargs", *_SCHEDULED}
    )
    if hyperparameters.get("noise_type", "") is None:
        del hyperparameters["noise_type"], hyperparameters["noise_std"]
    return LearnerSpec(
        algorithm=algo.name,
        learner=algo.learner,
        policy=algo.policy,
        hyperparameters=hyperparameters,
        schedules=schedules,
        policy_kwargs=algo.policy_kwargs.model_dump(mode="json", exclude_none=True),
    )


def _gradient_spec(algo: PolicyGradient) -> LearnerSpec:
    hyperparameters: dict[str, Any] = {
        "horizon": algo.horizon,
        "gamma": algo.gamma,
        "step_weights": algo.step_weights,
        "squash_logits": algo.squash_logits,
        "keeps_previous": algo.keeps_previous,
    }
    if isinstance(algo, ByzPG):
        hyperparameters["max_ratio"] = algo.max_ratio
    return LearnerSpec(
        algorithm="pg",
        learner=algo.learner,
        hyperparameters=hyperparameters,
        schedules={"learning_rate": _schedule(algo.learning_rate)},
        policy_kwargs=algo.policy_kwargs.model_dump(mode="json"),
    )


def state_rules(config: RunConfig) -> StateRules:
    """What becomes of optimizer, replay buffer and normaliser between rounds, and of drift."""
    federation = config.federation
    drift = federation.drift
    return StateRules(
        optimizer=federation.optimizer,
        replay=federation.replay,
        normalizer=federation.normalizer,
        drift="none" if drift is None else drift.name,
        proximal=0.0 if drift is None else drift.proximal or 0.0,
    )


def compression_spec(config: RunConfig) -> CompressionSpec | None:
    """How the updates of clients travel; None: as they are."""
    compression = config.federation.compression
    if compression is None:
        return None
    return CompressionSpec(
        codec=compression.codec,
        fraction=compression.fraction,
        rounding=compression.rounding,
        feedback=compression.feedback,
    )


def _schedule(value: Scheduled) -> Schedule:
    if value.end is None:
        return Schedule(kind="constant", start=value.start)
    return Schedule(kind="linear", start=value.start, end=value.end)
