"""`algo.policy_kwargs`: what each algorithm's SB3 policy takes, as far as it is plain data.

A key that is left out has SB3's own default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from requestor.config.expressions import CLASSES
from requestor.config.values import (
    Bool,
    Number,
    PlainMapping,
    Positive,
    PositiveWhole,
    Section,
)


def _class_name(value: Any) -> Any:
    return CLASSES.get(value, value) if isinstance(value, str) else value


Activation: TypeAlias = Annotated[
    Literal["tanh", "relu", "elu", "leaky_relu", "gelu", "silu"], BeforeValidator(_class_name)
]
OptimizerName: TypeAlias = Annotated[
    Literal["Adam", "AdamW", "RMSprop", "RMSpropTFLike", "SGD"], BeforeValidator(_class_name)
]


def _net_arch(heads: tuple[str, ...]) -> Any:
    def parse(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0]  # the spelling of older rl-zoo files
        is_split = heads and isinstance(value, dict) and set(value) == set(heads)
        if value is None or all(map(_is_layers, value.values() if is_split else [value])):
            return value
        wanted = "a list of layer sizes"
        if heads:
            wanted += " or {" + ", ".join(f"{head}: [...]" for head in heads) + "}"
        raise ValueError(f"must be {wanted}, is {value!r}")

    return BeforeValidator(parse)


def _is_layers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(n) is int and n >= 1 for n in value)


class PolicyKwargs(Section):
    """What every policy takes."""

    activation_fn: Activation | None = None
    normalize_images: Bool | None = None
    optimizer_class: OptimizerName | None = None
    optimizer_kwargs: PlainMapping | None = None


class ActorCriticKwargs(PolicyKwargs):
    """Policies of PPO and A2C."""

    net_arch: Annotated[list[int] | dict[str, list[int]] | None, _net_arch(("pi", "vf"))] = None
    ortho_init: Bool | None = None
    log_std_init: Number | None = None
    full_std: Bool | None = None
    use_expln: Bool | None = None
    squash_output: Bool | None = None
    share_features_extractor: Bool | None = None


class DQNKwargs(PolicyKwargs):
    """Policies of DQN."""

    net_arch: Annotated[list[int] | None, _net_arch(())] = None


class TD3Kwargs(PolicyKwargs):
    """Policies of TD3 and DDPG."""

    net_arch: Annotated[list[int] | dict[str, list[int]] | None, _net_arch(("pi", "qf"))] = None
    n_critics: PositiveWhole | None = None
    share_features_extractor: Bool | None = None


class SACKwargs(TD3Kwargs):
    """Policies of SAC."""

    log_std_init: Number | None = None
    use_expln: Bool | None = None
    clip_mean: Positive | None = None


class PerceptronKwargs(Section):
    """The network of federated policy gradients; the defaults are FedPG-BR's for CartPole."""

    net_arch: Annotated[list[int], Field(min_length=1), _net_arch(())] = Field(
        default_factory=lambda: [16, 16]
    )
    activation_fn: Annotated[Literal["tanh", "relu"], BeforeValidator(_class_name)] = "relu"
