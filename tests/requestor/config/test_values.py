"""Single values: schedules, train frequencies, numbers without surprises."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from requestor.config.values import (
    CountOrAll,
    EntropyCoefficient,
    Glm,
    Number,
    PositiveWhole,
    Scheduled,
    TargetEntropy,
    TrainFrequency,
    parse_scheduled,
    parse_train_frequency,
    scheduled_text,
    train_frequency_text,
)

POSITIVE = st.floats(min_value=1e-300, max_value=1e300)


@pytest.mark.parametrize(
    ("value", "scheduled"),
    [
        (3e-4, Scheduled(3e-4)),
        (1, Scheduled(1.0)),
        ("lin_3e-4", Scheduled(3e-4, 0.0)),
        ("lin_0.2", Scheduled(0.2, 0.0)),
        ({"start": 0.2, "end": 0.1}, Scheduled(0.2, 0.1)),
    ],
)
def test_schedules_are_read(value: object, scheduled: Scheduled) -> None:
    assert parse_scheduled(value) == scheduled


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1.0,
        "lin_-1",
        "lin_",
        "lin_x",
        "lin_inf",
        "lin_nan",
        "lin_0",
        "cos_1",
        "3e-4",
        True,
        None,
        [1],
        float("nan"),
        float("inf"),
        {"start": 1},
        {"start": 1, "end": -1},
        {"start": True, "end": 0},
        {"start": 1, "end": 0, "x": 1},
    ],
)
def test_other_schedules_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"must|exactly"):
        parse_scheduled(value)


@given(st.builds(Scheduled, POSITIVE, st.none() | st.just(0.0) | POSITIVE))
def test_schedules_survive_being_written(scheduled: Scheduled) -> None:
    assert parse_scheduled(scheduled_text(scheduled)) == scheduled


@pytest.mark.parametrize(
    ("value", "frequency"),
    [
        (4, TrainFrequency(4)),
        (4.0, TrainFrequency(4)),
        ([1, "episode"], TrainFrequency(1, "episode")),
        ((2, "step"), TrainFrequency(2, "step")),
    ],
)
def test_train_frequencies_are_read(value: object, frequency: TrainFrequency) -> None:
    assert parse_train_frequency(value) == frequency
    assert parse_train_frequency(train_frequency_text(frequency)) == frequency


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, True, "4", "episode", None, [], [1], [1, "year"], [1, "step", 2], [0, "step"], {}],
)
def test_other_train_frequencies_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_train_frequency(value)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (PositiveWhole, 1e5, 100_000),
        (PositiveWhole, 7, 7),
        (CountOrAll, -1, -1),
        (Number, 3, 3.0),
        (Glm, 0.1, Decimal("0.1")),
        (Glm, 1, Decimal(1)),
        (Glm, "0.000000000000000001", Decimal("0.000000000000000001")),
        (EntropyCoefficient, "auto", "auto"),
        (EntropyCoefficient, "auto_0.1", "auto_0.1"),
        (EntropyCoefficient, 0.2, 0.2),
        (TargetEntropy, -1, -1.0),
        (TargetEntropy, "auto", "auto"),
    ],
)
def test_values_are_read(kind: Any, value: object, read: object) -> None:
    parsed = TypeAdapter(kind).validate_python(value)
    assert parsed == read
    assert type(parsed) is type(read)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PositiveWhole, 0),
        (PositiveWhole, 1.5),
        (PositiveWhole, True),
        (PositiveWhole, "7"),
        (PositiveWhole, float("inf")),
        (CountOrAll, 0),
        (CountOrAll, -2),
        (Number, float("nan")),
        (Number, "1"),
        (Number, True),
        (Glm, -1),
        (Glm, True),
        (Glm, float("nan")),
        (Glm, "1e-19"),
        (Glm, "x"),
        (EntropyCoefficient, "auto_"),
        (EntropyCoefficient, "auto_-1"),
        (EntropyCoefficient, "auto_nan"),
        (EntropyCoefficient, -0.1),
        (TargetEntropy, "auto_0.1"),
        (TargetEntropy, None),
    ],
)
def test_other_values_are_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)
