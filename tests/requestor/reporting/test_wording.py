from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.reporting.glyphs import ASCII, UNICODE, glyphs_for, thinned
from requestor.reporting.wording import (
    clock_text,
    glm_text,
    one_line,
    return_text,
    spread_text,
    stamp_text,
)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("0.5", "0.5"),
        ("12.50", "12.5"),
        ("1000", "1000"),
        ("0.00123456", "0.001235"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("0.99999", "1"),
        ("123.456789", "123.4568"),
        ("1E+3", "1000"),
    ],
)
def test_glm(amount: str, text: str) -> None:
    assert glm_text(Decimal(amount)) == text


@given(st.decimals(min_value=0, max_value=10**9, places=18))
def test_glm_is_close_and_has_no_exponent(amount: Decimal) -> None:
    text = glm_text(amount)
    assert "E" not in text
    assert abs(Decimal(text) - amount) <= max(Decimal("0.00005"), amount / 1000)


@pytest.mark.parametrize(
    ("seconds", "clock", "stamp"),
    [
        (0, "0:00", "00:00"),
        (61.9, "1:01", "01:01"),
        (3600, "1:00:00", "1:00:00"),
        (-3, "0:00", "00:00"),
    ],
)
def test_durations(seconds: float, clock: str, stamp: str) -> None:
    assert (clock_text(seconds), stamp_text(seconds)) == (clock, stamp)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (21.44, "21.4"),
        (-0.01234, "-0.0123"),
        (3204.4, "3,204"),
        (float("nan"), "nan"),
    ],
)
def test_returns(value: float, text: str) -> None:
    assert return_text(value) == text


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (9.8, 0.512, "9.8 ± 0.5"),
        (-0.0123, 0.5, "-0.012 ± 0.500"),
        (3204.4, 12.34, "3,204 ± 12"),
        (0.0, 0.0, "0.0 ± 0.0"),
        (1e-300, 0.0, "0.000000000 ± 0.000000000"),
        (float("nan"), float("inf"), "nan ± inf"),
    ],
)
def test_spreads(mean: float, spread: float, text: str) -> None:
    assert spread_text(mean, spread, "±") == text


@given(st.text(), st.integers(min_value=4, max_value=80))
def test_one_line_is_harmless(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()


@given(st.lists(st.floats(), max_size=50), st.floats(), st.floats())
def test_sparkline_takes_any_numbers(values: list[float], lowest: float, highest: float) -> None:
    assert len(UNICODE.sparkline(values, lowest, highest)) == len(values)


def test_sparkline_uses_all_its_levels() -> None:
    assert UNICODE.sparkline(range(8), 0, 7) == "▁▂▃▄▅▆▇█"
    assert ASCII.sparkline(range(8), 0, 7) == "_.-:=+*#"


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.integers(min_value=1, max_value=50))
def test_thinned(values: list[float], count: int) -> None:
    kept = thinned(values, count)
    assert len(kept) == min(count, len(values))
    assert kept[-1] == values[-1]


def test_encodings() -> None:
    assert glyphs_for("UTF-8") is glyphs_for("utf8") is UNICODE
    assert glyphs_for("ascii") is glyphs_for("latin-1") is ASCII
    assert ASCII.text("größer") == "gr??er"
