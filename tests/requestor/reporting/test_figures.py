"""Figures of studies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from requestor.errors import PreflightError
from requestor.reporting.figures import draw_rounds


def test_the_same_data_give_the_same_drawing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data: dict[str, dict[str, float | None]] = {
        "default": {"none": 6.0, "zero": 7.0},
        "mean": {"none": 6.0, "zero": None},
    }
    for name in ("a.svg", "b.svg"):
        draw_rounds(tmp_path / name, data, title="Title", most_rounds=12)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.startswith("<?xml")
    assert drawn == (tmp_path / "b.svg").read_text()


def test_without_matplotlib_it_is_said_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PreflightError, match="matplotlib") as caught:
        draw_rounds(tmp_path / "a.svg", {}, title="", most_rounds=1)
    assert "derl[plots]" in str(caught.value.fix)
