"""The sections `env`, `federation`, `golem` and `evaluation`. Units end a name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from requestor.config.expressions import parse_expression
from requestor.config.values import (
    Bool,
    Glm,
    NonNegative,
    NonNegativeWhole,
    Number,
    PlainMapping,
    Positive,
    PositiveWhole,
    Section,
    Text,
)

_ZOO_NORMALIZE = {
    "norm_obs": "observations",
    "norm_reward": "rewards",
    "clip_obs": "clip_observations",
    "clip_reward": "clip_rewards",
}


class WrapperConfig(Section):
    """A Gymnasium wrapper: a name from `gymnasium.wrappers`, or `module:Class`."""

    name: Text
    kwargs: PlainMapping = Field(default_factory=dict)


class NormalizeConfig(Section):
    """Running normalisation of observations and rewards, as SB3's VecNormalize does it."""

    observations: Bool = True
    rewards: Bool = True
    clip_observations: Positive = 10.0
    clip_rewards: Positive = 10.0
    epsilon: Positive = 1e-8


def _wrapper(value: Any) -> Any:
    """Accept `Name`, `{Name: {kwargs}}` as in rl-zoo, and `{name, kwargs}`."""
    if isinstance(value, str):
        value = {"name": value}
    elif isinstance(value, dict) and len(value) == 1 and "name" not in value:
        ((name, kwargs),) = value.items()
        value = {"name": name, "kwargs": kwargs}
    if isinstance(value, dict) and isinstance(name := value.get("name"), str):
        module, dot, kind = name.removeprefix("gymnasium.wrappers.").rpartition(".")
        if dot and ":" not in name:
            value = {**value, "name": f"{module}:{kind}"}
        elif not dot:
            value = {**value, "name": kind}
    return value


def _wrappers(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | dict) else value


def _normalize(value: Any) -> Any:
    if isinstance(value, str):
        value = parse_expression(value)
    if isinstance(value, bool):
        return NormalizeConfig() if value else None
    if isinstance(value, dict):
        return {_ZOO_NORMALIZE.get(key, key): entry for key, entry in value.items()}
    return value


class EnvConfig(Section):
    """`env`: a registered Gymnasium id or `module:Class`, and how it is dressed."""

    id: Text
    kwargs: PlainMapping = Field(default_factory=dict)
    n_envs: Annotated[PositiveWhole, Field(le=1024)] = 1
    wrappers: Annotated[
        tuple[Annotated[WrapperConfig, BeforeValidator(_wrapper)], ...],
        Field(max_length=32),
        BeforeValidator(_wrappers),
    ] = ()
    frame_stack: Annotated[NonNegativeWhole, Field(le=64)] = 0
    normalize: Annotated[NormalizeConfig | None, BeforeValidator(_normalize)] = None


class FederationConfig(Section):
    """`federation`: what a round is and how its results are merged."""

    rounds: PositiveWhole = 10
    clients: Annotated[PositiveWhole, Field(le=10_000)] = 8
    local_steps: Annotated[PositiveWhole, Field(le=10**9)] = 2048
    aggregation: Literal["fedavg"] = "fedavg"
    server_learning_rate: Positive = 1.0
    quorum: PositiveWhole | None = None
    round_deadline_seconds: Positive = 600.0
    max_attempts: PositiveWhole = 5
    speculate: Bool = True
    optimizer: Literal["reset", "merged", "kept"] = "reset"
    replay: Literal["reset", "kept"] = "reset"
    normalizer: Literal["merged", "frozen"] = "merged"


Network: TypeAlias = Literal[
    "mainnet", "polygon", "hoodi", "holesky", "sepolia", "amoy", "mumbai", "goerli", "rinkeby"
]


class PriceCeilings(Section):
    """`golem.max_price`: the most a provider may ask."""

    start_glm: Glm = Decimal("0.01")
    cpu_hour_glm: Glm = Decimal("0.5")
    hour_glm: Glm = Decimal("0.2")


class GolemConfig(Section):
    """`golem`: where compute is rented, how much of it, and for how much.

    `fleet` (mode mock) is read relative to the config file; null is the fleet of four that comes
    with DeRL.
    """

    mode: Literal["mock", "yagna"] = "mock"
    fleet: Path | None = None
    providers: Annotated[PositiveWhole, Field(le=1000)] = 4
    subnet: Text = "public"
    payment_driver: Text = "erc20"
    payment_network: Network = "hoodi"
    image: Text | None = None
    image_url: Text | None = None
    budget_glm: Annotated[Glm, Field(gt=0)] = Decimal(1)
    max_price: PriceCeilings = PriceCeilings()
    memory_gib: Positive = 2.0
    storage_gib: Positive = 2.0
    threads: PositiveWhole = 1
    deploy_timeout_seconds: Positive = 300.0
    order_timeout_seconds: Positive = 300.0
    startup_timeout_seconds: Positive = 180.0
    invoice_timeout_seconds: Positive = 15.0
    expiration_minutes: Annotated[Number, Field(ge=5, le=290)] = 120.0


class GateConfig(Section):
    """`evaluation.gate`: when a merged model is published."""

    rule: Literal["not_worse", "none"] = "not_worse"
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] = 0.95
    tolerance: NonNegative = 0.0


class EvaluationConfig(Section):
    """`evaluation`: held-out episodes on the requestor's own machine."""

    episodes: Annotated[PositiveWhole, Field(le=10_000)] = 20
    final_episodes: Annotated[PositiveWhole, Field(le=10_000)] = 100
    every_rounds: PositiveWhole = 1
    target_return: Number | None = None
    deterministic: Bool = True
    gate: GateConfig = GateConfig()
