"""The parts of `federation` that say how updates are merged: `aggregation`, `server_optimizer`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from requestor.config.values import Fraction, Number, Positive, PositiveWhole, Section


def _automatic_count(least: int) -> Any:
    def parse(value: object) -> int | str:
        if value == "auto":
            return "auto"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be auto, or a whole number of at least {least}, is {value!r}")
        return value

    return PlainValidator(parse)


class _Sparse(Section):
    """A section that is written without what is not set."""

    @model_serializer(mode="wrap")
    def _without_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


class PreAggregatorConfig(_Sparse):
    """One entry of `federation.aggregation.before`; a name will do, or `{bucketing: 2}`."""

    name: Literal["nearest_neighbour_mixing", "bucketing", "norm_clipping", "arc"]
    size: PositiveWhole | None = None
    limit: Positive | None = None


_MAIN_PARAMETER = {"bucketing": "size", "norm_clipping": "limit"}


def _pre_aggregator(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        ((name, parameters),) = value.items()
        if isinstance(parameters, dict):
            return {"name": name, **parameters}
        return {"name": name, _MAIN_PARAMETER.get(name, "size"): parameters}
    return value


def _pre_aggregators(value: Any) -> Any:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


class AggregationConfig(_Sparse):
    """`federation.aggregation`: how a round's updates become one; a rule's name will do.

    `auto` is the weighted mean where nobody is assumed to lie, else the default robust rule.
    `faulty_providers`: how many providers (or wallets) may lie; auto is a quarter of all but one,
    with `mean` none: with another number of golem.providers the same seed may give another model.
    `items_per_provider`: how many items of a round one may do; auto is an equal
    share. `voices`: capped, each item counts once and a provider does so many at most; pooled, what
    a provider sent is averaged first and counts once. `before`: what is done to the updates first,
    in order. The rest are the rules' own: `chosen` (multi_krum), `iterations` and `smoothing`
    (geometric_median), `radius` and `iterations` (centered_clipping), `limit` (norm_clipping),
    `sigma`, `episodes`, `delta`, `alpha` and `slack` (fedpg_br). performance, transfer_best and
    evolutionary play mixtures of the updates on this machine, each for `trial_episodes` episodes:
    `weighting` (softmax or rank) and `temperature` (performance), `search` (cma or
    differential_evolution) and `evaluations` (evolutionary).
    """

    rule: Literal[
        "auto",
        "mean",
        "coordinate_median",
        "trimmed_mean",
        "krum",
        "multi_krum",
        "bulyan",
        "geometric_median",
        "minimum_diameter",
        "centered_clipping",
        "norm_clipping",
        "fedpg_br",
        "performance",
        "transfer_best",
        "evolutionary",
    ] = "auto"
    faulty_providers: Annotated[int | str, _automatic_count(0)] = "auto"
    items_per_provider: Annotated[int | str, _automatic_count(1)] = "auto"
    voices: Literal["capped", "pooled"] = "capped"
    before: Annotated[
        tuple[Annotated[PreAggregatorConfig, BeforeValidator(_pre_aggregator)], ...],
        Field(max_length=8),
        BeforeValidator(_pre_aggregators),
    ] = ()
    chosen: PositiveWhole | None = None
    iterations: Annotated[PositiveWhole, Field(le=10_000)] | None = None
    smoothing: Positive | None = None
    radius: Positive | None = None
    limit: Positive | None = None
    sigma: Positive | None = None
    episodes: Positive | None = None
    delta: Annotated[Number, Field(gt=0, lt=1)] | None = None
    alpha: Annotated[Number, Field(ge=0, lt=0.5)] | None = None
    slack: Annotated[Number, Field(ge=1)] | None = None
    weighting: Literal["softmax", "rank"] | None = None
    temperature: Positive | None = None
    trial_episodes: Annotated[PositiveWhole, Field(le=10_000)] | None = None
    search: Literal["cma", "differential_evolution"] | None = None
    evaluations: Annotated[PositiveWhole, Field(le=100_000)] | None = None


def read_aggregation(value: Any) -> Any:
    """Accept a rule's name, and `fedavg` for the mean."""
    if isinstance(value, str):
        value = {"rule": value}
    if isinstance(value, dict) and value.get("rule") == "fedavg":
        return {**value, "rule": "mean"}
    return value


class ServerOptimizerConfig(_Sparse):
    """`federation.server_optimizer`: how the merged update moves the model; a name will do.

    What is not set is the optimizer's own default: `learning_rate` 1 (sgd, momentum), 0.7
    (nesterov), 0.01 (adagrad, adam, yogi); `beta` 0.9 (momentum, nesterov); `beta1` 0.9 (adagrad:
    0), `beta2` 0.99, `tau` 0.001.
    """

    name: Literal["sgd", "momentum", "nesterov", "adagrad", "adam", "yogi"] = "sgd"
    learning_rate: Positive | None = None
    beta: Annotated[Fraction, Field(lt=1)] | None = None
    beta1: Annotated[Fraction, Field(lt=1)] | None = None
    beta2: Annotated[Fraction, Field(lt=1)] | None = None
    tau: Positive | None = None


def read_server_optimizer(value: Any) -> Any:
    """Accept an optimizer's name."""
    return {"name": value} if isinstance(value, str) else value
