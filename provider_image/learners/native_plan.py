"""What an order asks of the native PPO, checked and typed; and whether it can be done at all.

Pure functions over a LearnerSpec and spaces. Defaults are those of SB3's PPO and its MlpPolicy
(2.9). Read `native_choice.py` next.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from native_kernels.ppo import PolicyShape, PpoSettings
from provider_image.environments import Space, Spaces
from provider_image.wire import LearnerSpec, Schedule

MAX_DEPTH = 4
MAX_WIDTH = 512
LEAST_CLIP = 1e-30
"""Stands for a clip range of 0, where a schedule may end; 1 plus this is 1."""

_ADAM_EPSILON = 1e-5
_TORCH_ADAM_EPSILON = 1e-8

_Count = Annotated[int, Meta(ge=1)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_NotNegative = Annotated[float, Meta(ge=0)]
_Positive = Annotated[float, Meta(gt=0)]


class Misfit(ValueError):
    """Why the native learner cannot take an order: what is there, and what it takes."""


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is read out of an order's JSON."""


FieldsT = TypeVar("FieldsT", bound=Fields)


class Hyperparameters(Fields, frozen=True):
    """PPO's, under SB3's constructor names."""

    n_steps: _Count = 2048
    batch_size: _Count = 64
    n_epochs: _Count = 10
    gamma: _Share = 0.99
    gae_lambda: _Share = 0.95
    ent_coef: _NotNegative = 0.0
    vf_coef: _NotNegative = 0.5
    max_grad_norm: _Positive = 0.5
    normalize_advantage: bool = True
    target_kl: _Positive | None = None
    stats_window_size: _Count = 100
    use_sde: bool = False
    sde_sample_freq: int = -1
    learning_rate: _NotNegative | None = None
    clip_range: _NotNegative | None = None
    clip_range_vf: _NotNegative | None = None


class _NetArch(Fields, frozen=True):
    pi: tuple[_Count, ...] = ()
    vf: tuple[_Count, ...] = ()


class _AdamKwargs(Fields, frozen=True):
    betas: tuple[float, float] = (0.9, 0.999)
    eps: _Positive = _TORCH_ADAM_EPSILON


class PolicyKwargs(Fields, frozen=True):
    """SB3's `policy_kwargs` in their JSON form.

    Some change nothing here: `normalize_images` without images, `full_std` and `use_expln` without
    state-dependent exploration, `share_features_extractor` where the extractor only flattens.
    """

    net_arch: tuple[_Count, ...] | _NetArch | None = None
    activation_fn: str = "tanh"
    ortho_init: bool = True
    log_std_init: float = 0.0
    squash_output: bool = False
    optimizer_class: str = "Adam"
    optimizer_kwargs: dict[str, Any] | None = None
    share_features_extractor: bool = True
    normalize_images: bool = True
    full_std: bool = True
    use_expln: bool = False


class NativePlan(NamedTuple):
    """An order's learner, ready for the kernels."""

    hyperparameters: Hyperparameters
    schedules: dict[str, Schedule]
    shape: PolicyShape
    adam_betas: tuple[float, float]
    adam_epsilon: float
    log_std_init: float
    spaces: Spaces

    def scheduled_at(self, progress: float) -> dict[str, float]:
        """What is scheduled, once `progress` (0 to 1) of the whole run's steps are done."""
        return {name: value_at(schedule, progress) for name, schedule in self.schedules.items()}

    def settings_at(self, progress: float) -> PpoSettings:
        """The update's settings once `progress` of the whole run's steps are done."""
        given = self.hyperparameters
        now = self.scheduled_at(progress)
        value_clip = now.get("clip_range_vf")
        return PpoSettings(
            learning_rate=now["learning_rate"],
            clip_range=max(now["clip_range"], LEAST_CLIP),
            clip_range_vf=None if value_clip is None else max(value_clip, LEAST_CLIP),
            ent_coef=given.ent_coef,
            vf_coef=given.vf_coef,
            max_grad_norm=given.max_grad_norm,
            normalize_advantage=given.normalize_advantage,
            target_kl=given.target_kl,
            batch_size=given.batch_size,
            n_epochs=given.n_epochs,
            adam_betas=self.adam_betas,
            adam_epsilon=self.adam_epsilon,
        )


def value_at(schedule: Schedule, progress: float) -> float:
    """A schedule's value; as SB3's `LinearSchedule` reckons it."""
    if schedule.kind == "constant":
        return schedule.start
    # SB3 keeps what remains, and takes it from 1 again
    done = 1.0 - (1.0 - progress)
    return schedule.start + done * (schedule.end - schedule.start)


def plan_of(learner: LearnerSpec, spaces: Spaces) -> NativePlan:
    """The plan for a specification and an environment's spaces; raises Misfit."""
    hyperparameters, kwargs = fields_of(learner)
    betas, epsilon = _adam(kwargs)
    pi, vf = _layers(kwargs)
    size, actions, distribution = _sizes(spaces)
    try:
        shape = PolicyShape(
            observation_size=size,
            action_size=actions,
            distribution=distribution,
            pi=pi,
            vf=vf,
            activation="relu" if kwargs.activation_fn == "relu" else "tanh",
        )
    except ValueError as error:
        raise Misfit(str(error)) from error
    return NativePlan(
        hyperparameters=hyperparameters,
        schedules=_schedules(learner, hyperparameters),
        shape=shape,
        adam_betas=betas,
        adam_epsilon=epsilon,
        log_std_init=kwargs.log_std_init,
        spaces=spaces,
    )


def fields_of(learner: LearnerSpec) -> tuple[Hyperparameters, PolicyKwargs]:
    """What a specification says, if the native learner can do it whatever the environment.

    Raises Misfit, naming the field and what can stand there.
    """
    if learner.algorithm != "ppo":
        raise Misfit(f"algorithm is {learner.algorithm}; it does ppo")
    if learner.policy != "MlpPolicy":
        raise Misfit(f"policy is {learner.policy}; it has MlpPolicy")
    hyperparameters = converted("hyperparameters", learner.hyperparameters, Hyperparameters)
    kwargs = converted("policy_kwargs", learner.policy_kwargs, PolicyKwargs)
    if hyperparameters.use_sde:
        raise Misfit("use_sde is true; it draws every action's noise anew: use_sde: false")
    if kwargs.activation_fn not in ("tanh", "relu"):
        raise Misfit(f"policy_kwargs.activation_fn is {kwargs.activation_fn}; it has tanh and relu")
    if not kwargs.ortho_init:
        raise Misfit("policy_kwargs.ortho_init is false; it draws orthogonal weights only")
    if kwargs.squash_output:
        raise Misfit("policy_kwargs.squash_output is true; it clips actions instead")
    _adam(kwargs)
    _layers(kwargs)
    _check_batches(hyperparameters)
    return hyperparameters, kwargs


def _check_batches(given: Hyperparameters) -> None:
    if given.normalize_advantage and given.batch_size == 1:
        raise Misfit(
            "batch_size is 1, and advantages of one sample cannot be normalised: use 2 or more, "
            "or normalize_advantage: false"
        )


def converted(field: str, given: dict[str, Any], kind: type[FieldsT]) -> FieldsT:
    """Read a field of an order as `kind`; Misfit names what in it is wrong."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        # msgspec says `… - at `$.name``
        text, _, path = str(error).partition(" - at `$")
        where = f"{field}{path.rstrip('`')}"
        raise Misfit(f"{where}: {text[:1].lower()}{text[1:]}") from error


def _adam(kwargs: PolicyKwargs) -> tuple[tuple[float, float], float]:
    """Betas and epsilon. SB3's own epsilon stands only where no `optimizer_kwargs` are given."""
    if kwargs.optimizer_class != "Adam":
        raise Misfit(f"policy_kwargs.optimizer_class is {kwargs.optimizer_class}; it has Adam")
    if kwargs.optimizer_kwargs is None:
        return (0.9, 0.999), _ADAM_EPSILON
    adam = converted("policy_kwargs.optimizer_kwargs", kwargs.optimizer_kwargs, _AdamKwargs)
    if not all(0 <= beta < 1 for beta in adam.betas):
        raise Misfit(
            f"policy_kwargs.optimizer_kwargs.betas are {list(adam.betas)}; each must be at least "
            "0 and less than 1"
        )
    return adam.betas, adam.eps


def _layers(kwargs: PolicyKwargs) -> tuple[tuple[int, ...], tuple[int, ...]]:
    arch = kwargs.net_arch
    if arch is None:
        arch = (64, 64)
    pi, vf = (arch.pi, arch.vf) if isinstance(arch, _NetArch) else (arch, arch)
    for layers in (pi, vf):
        if len(layers) > MAX_DEPTH or any(width > MAX_WIDTH for width in layers):
            raise Misfit(
                f"policy_kwargs.net_arch has layers {list(layers)}; it takes at most {MAX_DEPTH}, "
                f"of at most {MAX_WIDTH} units"
            )
    return pi, vf


def _sizes(spaces: Spaces) -> tuple[int, int, Literal["categorical", "gaussian"]]:
    """Size of a flat observation, of the network's last layer, and the kind of distribution."""
    size = observation_size(spaces.observation)
    action = spaces.action
    if action.kind == "discrete":
        if action.start != 0 or action.n < 2:
            raise Misfit(
                f"the action space is {action.text}; it takes Discrete(2) and more, from 0"
            )
        return size, action.n, "categorical"
    if action.kind == "box" and action.dtype.startswith("float") and action.size:
        return size, action.size, "gaussian"
    raise Misfit(f"the action space is {action.text}; it takes Discrete, and Box of floats")


def observation_size(space: Space) -> int:
    """Numbers in an observation of a space that a perceptron can take; raises Misfit."""
    is_image = len(space.shape) == 3 and space.dtype == "uint8"
    is_numeric = space.dtype.startswith(("float", "int", "uint"))
    if space.kind != "box" or is_image or not is_numeric or not space.size:
        raise Misfit(f"the observation space is {space.text}; it takes Box of numbers, no images")
    return space.size


def _schedules(learner: LearnerSpec, given: Hyperparameters) -> dict[str, Schedule]:
    schedules = {
        "learning_rate": Schedule("constant", 3e-4),
        "clip_range": Schedule("constant", 0.2),
    }
    for name in ("learning_rate", "clip_range", "clip_range_vf"):
        value: float | None = getattr(given, name)
        if value is not None:
            if name in learner.schedules:
                raise Misfit(f"{name} is given as hyperparameter and as schedule; remove one")
            schedules[name] = Schedule("constant", value)
    return schedules | {str(name): schedule for name, schedule in learner.schedules.items()}
