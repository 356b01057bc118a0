"""The sections `env`, `federation`, `golem` and `evaluation`. Units end a name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from requestor.config.aggregation import (
    AggregationConfig,
    ServerOptimizerConfig,
    read_aggregation,
    read_server_optimizer,
)
from requestor.config.drift import Drift
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


class CompressionConfig(Section):
    """`federation.compression`: how clients' updates travel; the codec's name alone will do.

    topk keeps `fraction` of the numbers, those largest in size, and has feedback unless told
    otherwise. Integers are rounded stochastically, with feedback to the nearest.
    """

    codec: Literal["fp16", "int8", "int4", "topk"]
    fraction: Annotated[Number, Field(gt=0, le=1)] | None = None
    rounding: Literal["stochastic", "nearest"] = "nearest"
    feedback: Bool = False


def _compression(value: Any) -> Any:
    """Accept a codec's name, `none` too, and write out what the codec's defaults are."""
    if isinstance(value, str):
        value = {"codec": value}
    if not isinstance(value, dict):
        return value
    codec = value.get("codec")
    if codec == "none" and len(value) == 1:
        return None
    defaults: dict[str, Any] = {"feedback": codec == "topk"}
    if codec == "topk":
        defaults["fraction"] = 0.15
    if codec in ("int8", "int4") and value.get("feedback", False) is False:
        defaults["rounding"] = "stochastic"
    return defaults | value


class FederationConfig(Section):
    """`federation`: what a round is and how its results are merged."""

    rounds: PositiveWhole = 10
    clients: Annotated[PositiveWhole, Field(le=10_000)] = 8
    local_steps: Annotated[PositiveWhole, Field(le=10**9)] = 2048
    aggregation: Annotated[AggregationConfig, BeforeValidator(read_aggregation)] = (
        AggregationConfig()
    )
    server_optimizer: Annotated[ServerOptimizerConfig, BeforeValidator(read_server_optimizer)] = (
        ServerOptimizerConfig()
    )
    server_learning_rate: Positive = 1.0
    quorum: PositiveWhole | None = None
    round_deadline_seconds: Positive = 600.0
    max_attempts: PositiveWhole = 5
    speculate: Bool = True
    optimizer: Literal["reset", "merged", "kept"] = "reset"
    replay: Literal["reset", "kept"] = "reset"
    normalizer: Literal["merged", "frozen"] = "merged"
    compression: Annotated[CompressionConfig | None, BeforeValidator(_compression)] = None
    drift: Drift = None


Network: TypeAlias = Literal[
    "mainnet", "polygon", "hoodi", "holesky", "sepolia", "amoy", "mumbai", "goerli", "rinkeby"
]


class PriceCeilings(Section):
    """`golem.max_price`: the most a provider may ask, and the most one agreement may come to."""

    start_glm: Glm = Decimal("0.01")
    cpu_hour_glm: Glm = Decimal("0.5")
    hour_glm: Glm = Decimal("0.2")
    agreement_glm: Annotated[Glm, Field(gt=0)] | None = None


def _texts(value: Any) -> Any:
    """Accept one text where several may stand."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Texts: TypeAlias = Annotated[tuple[Text, ...], Field(max_length=1000), BeforeValidator(_texts)]
"""A list of texts, or one."""


def _provider_names(value: Any) -> Any:
    """Undo what YAML does to a node id without quotes: it reads `0x…` as a number."""
    entries = value if isinstance(value, list) else [value]
    if any(type(entry) is int and 2**64 <= entry < 2**160 for entry in entries):
        return [f"0x{entry:040x}" if type(entry) is int else entry for entry in entries]
    return value


ProviderNames: TypeAlias = Annotated[Texts, BeforeValidator(_provider_names)]
"""Node ids, wallets or names of providers."""


class GpuConfig(Section):
    """`golem.gpu`, for runtime vm-nvidia: the least memory, and which models will do (empty: any).

    Models are as offers write them, e.g. `NVIDIA GeForce RTX 4090`; `derl-request offers` shows
    them.
    """

    memory_gib: NonNegative = 0.0
    model: Texts = ()


class ManifestConfig(Section):
    """`golem.manifest`: a computation manifest and what vouches for it; a path alone will do.

    Either a signature with its certificate, or a signed node descriptor (partner scheme).
    """

    path: Path
    signature: Path | None = None
    certificate: Path | None = None
    algorithm: Text = "sha256"
    node_descriptor: Path | None = None


def _manifest(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class GolemConfig(Section):
    """`golem`: where compute is rented, how much of it, and for how much.

    `image` is a hash, a tag (`user/repo:tag`), `lock:<variant>` (that of gvmi/image.lock.yaml), or
    `lock:auto` (the smallest of those that does the run's work). Tags and hashes are looked up at
    `registry_url`; null is Golem's registry in mode yagna, and the private daemon's own in the
    others. `fleet` (modes mock and testnet) and the files of
    `manifest` are read relative to the config file; a null fleet is the fleet of four that comes
    with DeRL. `allow` and `block` hold node ids, wallets or provider names. Agreements of
    `expiration_minutes` of 300 and more are paid for while they last, at most every
    `payment_interval_minutes`. `max_per_wallet` bounds how many nodes of one wallet are rented at
    a time; whatever it is, nodes of one wallet share their standing.
    """

    mode: Literal["mock", "testnet", "yagna"] = "mock"
    fleet: Path | None = None
    providers: Annotated[PositiveWhole, Field(le=1000)] = 4
    subnet: Text = "public"
    payment_driver: Text = "erc20"
    payment_network: Network = "hoodi"
    runtime: Literal["vm", "vm-nvidia"] = "vm"
    gpu: GpuConfig | None = None
    image: Text | None = None
    image_url: Text | None = None
    registry_url: Text | None = None
    manifest: Annotated[ManifestConfig | None, BeforeValidator(_manifest)] = None
    budget_glm: Annotated[Glm, Field(gt=0)] = Decimal(1)
    max_price: PriceCeilings = PriceCeilings()
    choose: Literal["steps_per_glm", "cheapest"] = "steps_per_glm"
    gather_seconds: Annotated[NonNegative, Field(le=300)] = 5.0
    replace_slow: Bool = True
    allow: ProviderNames = ()
    block: ProviderNames = ()
    max_per_wallet: PositiveWhole | None = None
    memory_gib: Positive = 2.0
    storage_gib: Positive = 2.0
    threads: PositiveWhole = 1
    deploy_timeout_seconds: Positive = 300.0
    order_timeout_seconds: Positive = 300.0
    startup_timeout_seconds: Positive = 180.0
    invoice_timeout_seconds: Positive = 15.0
    daemon_patience_seconds: NonNegative = 120.0
    expiration_minutes: Annotated[Number, Field(ge=5, le=10_080)] = 120.0
    payment_interval_minutes: Annotated[Number, Field(ge=2, le=10_080)] = 300.0


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
