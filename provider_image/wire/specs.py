"""What shall be trained: environment, learner and state rules, as frozen msgspec structs.

Field limits stand beside the fields and are enforced whenever an order is encoded or decoded.
Read `orders.py` next: the four orders that carry these specifications.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from native_kernels.codecs import CodecName, Rounding
from native_kernels.environments import ENVIRONMENTS

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object: keys are text, values are JSON values."""

Algorithm: TypeAlias = Literal["ppo", "a2c", "dqn", "sac", "td3", "ddpg", "pg"]

LearnerName: TypeAlias = Literal["native", "sb3"]
"""What executes an algorithm: `native_kernels` (PPO, `pg`), or Stable-Baselines3 (all but `pg`)."""

_Id = Annotated[str, Meta(min_length=1, max_length=200)]
_PositiveFloat = Annotated[float, Meta(gt=0)]


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every specification: immutable, unknown fields are errors."""


class NormalizeSpec(_Spec, frozen=True):
    """Running normalisation of observations and rewards, as SB3's `VecNormalize` does it."""

    observations: bool = True
    rewards: bool = True
    clip_observations: _PositiveFloat = 10.0
    clip_rewards: _PositiveFloat = 10.0
    gamma: Annotated[float, Meta(ge=0, le=1)] = 0.99
    epsilon: _PositiveFloat = 1e-8


class WrapperSpec(_Spec, frozen=True):
    """A Gymnasium wrapper: a name from `gymnasium.wrappers`, or `module:Class`."""

    name: _Id
    kwargs: JsonObject = {}


class EnvironmentSpec(_Spec, frozen=True):
    """An environment: a registered Gymnasium id, or `module:Class`, and how to dress it.

    Wrappers are applied in order, then `frame_stack` (0 or 1 = none, along the last axis, or
    along the channel axis of an image), then `normalize`.
    """

    id: _Id
    kwargs: JsonObject = {}
    n_envs: Annotated[int, Meta(ge=1, le=1024)] = 1
    wrappers: Annotated[tuple[WrapperSpec, ...], Meta(max_length=32)] = ()
    frame_stack: Annotated[int, Meta(ge=0, le=64)] = 0
    normalize: NormalizeSpec | None = None


class Schedule(_Spec, frozen=True):
    """A hyperparameter over the progress of the whole run (not of one round).

    `constant`: `start` throughout. `linear`: from `start` at the first step to `end` at the last.
    """

    kind: Literal["constant", "linear"]
    start: float
    end: float = 0.0


ScheduledName: TypeAlias = Literal["learning_rate", "clip_range", "clip_range_vf"]


class LearnerSpec(_Spec, frozen=True):
    """An algorithm with its hyperparameters under SB3's constructor names.

    `policy_kwargs` is JSON: `net_arch` as a list or `{pi, vf | qf}`, `activation_fn` and
    `optimizer_class` by name, the rest as in SB3. `learner` says what executes it; `auto` may
    stand where a model is made, whose metadata then names the choice.
    """

    algorithm: Algorithm
    policy: Annotated[str, Meta(min_length=1, max_length=100)] = "MlpPolicy"
    hyperparameters: JsonObject = {}
    schedules: dict[ScheduledName, Schedule] = {}
    policy_kwargs: JsonObject = {}
    learner: Literal["auto", "native", "sb3"] = "sb3"


class StateRules(_Spec, frozen=True):
    """What becomes of the state beside the policy when a round ends.

    `optimizer`: forgotten, averaged with the model, or kept by the client. `replay`: forgotten or
    kept by the client. `normalizer`: statistics merged exactly, or frozen at what was received.
    `drift` is what holds a client near the others: `fedprox` adds `proximal` * (y - w) to every
    gradient, w being the received and y the present parameters (Li et al. 2020, arXiv 1812.06127);
    `scaffold` adds c - c_i, the model's control variate minus the client's (Karimireddy et al.
    2020, arXiv 1910.06378).
    """

    optimizer: Literal["reset", "merged", "kept"] = "reset"
    replay: Literal["reset", "kept"] = "reset"
    normalizer: Literal["merged", "frozen"] = "merged"
    drift: Literal["none", "fedprox", "scaffold"] = "none"
    proximal: Annotated[float, Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        if (self.drift == "fedprox") != (self.proximal > 0):
            raise ValueError("rules.proximal must be above 0 for drift fedprox, and for no other")

    @property
    def client_has_state(self) -> bool:
        """True where a client carries something of its own from round to round."""
        return "kept" in (self.optimizer, self.replay) or self.drift == "scaffold"


def is_native_environment(environment: EnvironmentSpec) -> bool:
    """True for an environment of `native_kernels` without arguments, wrappers or stacked frames."""
    is_bare = not environment.kwargs and not environment.wrappers and environment.frame_stack <= 1
    return environment.id in ENVIRONMENTS and is_bare


def has_portable_bits(learner: LearnerSpec, environment: EnvironmentSpec) -> bool:
    """True where an order's results are the same bits on every CPU; `learner` is not `auto`."""
    return learner.learner == "native" and is_native_environment(environment)


class CompressionSpec(_Spec, frozen=True):
    """How the update of a train result is written: see `native_kernels.codecs.Codec`.

    `fraction` is topk's, and only its. With `feedback` the client keeps what the codec leaves out
    and adds it to its next update.
    """

    codec: CodecName
    fraction: Annotated[float, Meta(gt=0, le=1)] | None = None
    rounding: Rounding = "stochastic"
    feedback: bool = False

    def __post_init__(self) -> None:
        if (self.codec == "topk") != (self.fraction is not None):
            raise ValueError("compression.fraction must be given for topk, and for no other codec")
