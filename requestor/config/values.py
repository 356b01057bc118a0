"""The types of single config values: numbers without surprises, schedules, train frequencies.

Numbers are strict: no text, no `true`; only a float that is whole, like `1e5`, counts as a whole
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    Strict,
)

from requestor.config.expressions import parse_expression


class Section(BaseModel):
    """Base of all parts of a config: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_zero(value: int) -> int:
    if value == 0:
        raise ValueError("must be -1 or at least 1, is 0")
    return value


def _exact(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number of GLM, is a truth value")
    return repr(value) if isinstance(value, float) else value


def _shortest(amount: Decimal) -> Decimal:
    text = f"{amount:f}"
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def plain_data(value: Any) -> Any:
    """Read text as an rl-zoo expression; refuse what JSON cannot hold with a ValueError."""
    if isinstance(value, BaseModel):
        return value
    value = parse_expression(value) if isinstance(value, str) else value
    _require_plain(value, depth=0)
    return value


def _require_plain(value: Any, depth: int) -> None:
    if depth > 20:
        raise ValueError("is nested too deeply")
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} must be text; put it in quotes")
            _require_plain(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _require_plain(entry, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("holds a number that is not finite")
    elif value is not None and not isinstance(value, bool | int | str):
        raise ValueError(f"holds a {type(value).__name__}; allowed is what JSON can hold")


Bool: TypeAlias = Annotated[bool, Strict()]
Text: TypeAlias = Annotated[str, Strict(), Field(min_length=1)]
Whole: TypeAlias = Annotated[int, Strict(), BeforeValidator(_whole)]
NonNegativeWhole: TypeAlias = Annotated[int, Strict(), Field(ge=0), BeforeValidator(_whole)]
PositiveWhole: TypeAlias = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_whole)]
CountOrAll: TypeAlias = Annotated[
    int, Strict(), Field(ge=-1), AfterValidator(_not_zero), BeforeValidator(_whole)
]
"""A positive whole number, or SB3's -1."""
Number: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]
NonNegative: TypeAlias = Annotated[float, Strict(), Field(ge=0), AllowInfNan(False)]
Positive: TypeAlias = Annotated[float, Strict(), Field(gt=0), AllowInfNan(False)]
Fraction: TypeAlias = Annotated[float, Strict(), Field(ge=0, le=1), AllowInfNan(False)]
Glm: TypeAlias = Annotated[
    Decimal,
    Field(ge=0, max_digits=36, decimal_places=18, allow_inf_nan=False),
    BeforeValidator(_exact),
    AfterValidator(_shortest),
]
PlainMapping: TypeAlias = Annotated[dict[str, Any], BeforeValidator(plain_data)]
"""A JSON object, also written as an rl-zoo expression."""


@dataclass(frozen=True)
class Scheduled:
    """A hyperparameter over the progress of the whole run: constant, or linear to `end`."""

    start: float
    end: float | None = None


def _number(value: object, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{what} must be a number, is {value!r}")


def parse_scheduled(value: object) -> Scheduled:
    """Read `3e-4`, `lin_3e-4` (falls to 0) or `{start: 3e-4, end: 1e-5}`.

    Raises ValueError for everything else and for values that are not positive.
    """
    if isinstance(value, Scheduled):
        return value
    if isinstance(value, str):
        if not value.startswith("lin_"):
            raise ValueError(f"must be a number, lin_<number> or {{start, end}}, is {value!r}")
        try:
            scheduled = Scheduled(_number(float(value[4:]), "start"), 0.0)
        except ValueError:
            raise ValueError(f"{value!r} must have a number after lin_") from None
    elif isinstance(value, Mapping):
        if set(value) != {"start", "end"}:
            raise ValueError("a schedule has exactly the keys start and end")
        scheduled = Scheduled(_number(value["start"], "start"), _number(value["end"], "end"))
    else:
        scheduled = Scheduled(_number(value, "it"))
    if scheduled.start <= 0 or (scheduled.end is not None and scheduled.end < 0):
        raise ValueError(f"must be above zero, is {value!r}")
    return scheduled


def scheduled_text(scheduled: Scheduled) -> JsonValue:
    """The shortest spelling that `parse_scheduled` reads back as the same."""
    if scheduled.end is None:
        return scheduled.start
    if scheduled.end == 0:
        return f"lin_{scheduled.start!r}"
    return {"start": scheduled.start, "end": scheduled.end}


ScheduledValue: TypeAlias = Annotated[
    Scheduled, PlainValidator(parse_scheduled), PlainSerializer(scheduled_text)
]


@dataclass(frozen=True)
class TrainFrequency:
    """Train after so many environment steps or episodes."""

    every: int
    unit: str = "step"


def parse_train_frequency(value: object) -> TrainFrequency:
    """Read `4`, `[4, step]` or `[1, episode]`; ValueError for everything else."""
    if isinstance(value, TrainFrequency):
        return value
    match value:
        case [every, "step" | "episode" as unit]:
            frequency = TrainFrequency(_whole(every), unit)
        case list() | tuple() | str() | dict():
            raise ValueError(f"must be a number of steps or [number, step|episode], is {value!r}")
        case every:
            frequency = TrainFrequency(_whole(every))
    if type(frequency.every) is not int or frequency.every < 1:
        raise ValueError(f"must be a whole number of at least 1, is {frequency.every!r}")
    return frequency


def train_frequency_text(frequency: TrainFrequency) -> JsonValue:
    """The spelling in configs and orders: `4` or `[1, "episode"]`."""
    return frequency.every if frequency.unit == "step" else [frequency.every, frequency.unit]


TrainFrequencyValue: TypeAlias = Annotated[
    TrainFrequency, PlainValidator(parse_train_frequency), PlainSerializer(train_frequency_text)
]


def _automatic(allow_start: bool) -> Any:
    def parse(value: object) -> float | str:
        if isinstance(value, str):
            if value == "auto":
                return value
            if allow_start and value.startswith("auto_"):
                try:
                    if _number(float(value[5:]), "it") > 0:
                        return value
                except ValueError:
                    pass
            spellings = "auto, auto_<number above zero>" if allow_start else "auto"
            raise ValueError(f"must be a number or {spellings}, is {value!r}")
        number = _number(value, "it")
        if allow_start and number < 0:
            raise ValueError(f"must be at least 0, is {number}")
        return number

    return PlainValidator(parse)


EntropyCoefficient: TypeAlias = Annotated[float | str, _automatic(allow_start=True)]
"""SAC's `ent_coef`: a number, `auto`, or `auto_0.1` (learned, starting there)."""

TargetEntropy: TypeAlias = Annotated[float | str, _automatic(allow_start=False)]
