"""What a study consists of, and what its results come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from requestor.config import load_config
from requestor.studies.byzantine import (
    VARIANTS,
    Row,
    figure_data,
    markdown,
    plan_cells,
    summarise,
)
from requestor.studies.cells import Cell, CellResult

CONFIG = Path(__file__).parents[3] / "configs" / "byzantine.yaml"


def result(attack: str, seed: int, rounds: int | None, variant: str = "mean") -> CellResult:
    return CellResult(
        cell=Cell(variant, attack, seed),
        rounds=rounds,
        returns=(10.0, 480.0),
        refused_liars=0,
        refused_honest=0,
        lost_liars=0,
        lost_honest=0,
        convicted_liars=1,
        convicted_honest=0,
        reasons=("too long",),
        outcome="completed",
        seconds=1.0,
    )


def rows(*results: CellResult) -> dict[str, Row]:
    return {row.attack: row for row in summarise(results)}


def test_unattacked_cells_come_first() -> None:
    cells = plan_cells(["default", "mean"], ["zero"], range(2))
    assert [(cell.attack, cell.variant, cell.seed) for cell in cells] == [
        ("none", "default", 0),
        ("none", "default", 1),
        ("none", "mean", 0),
        ("none", "mean", 1),
        ("zero", "default", 0),
        ("zero", "default", 1),
        ("zero", "mean", 0),
        ("zero", "mean", 1),
    ]


def test_the_ratio_is_that_of_the_medians() -> None:
    unattacked = [result("none", seed, rounds) for seed, rounds in enumerate((5, 6, 9))]
    attacked = [result("zero", seed, rounds) for seed, rounds in enumerate((8, 9, 30))]
    row = rows(*attacked, *unattacked)["zero"]
    assert (row.median_rounds, row.ratio, row.passes) == (9, 1.5, True)


def test_one_seed_that_does_not_arrive_misses_the_gate() -> None:
    unattacked = [result("none", seed, 6) for seed in range(3)]
    row = rows(*unattacked, *(result("zero", s, r) for s, r in enumerate((6, 6, None))))["zero"]
    assert (row.median_rounds, row.ratio, row.passes) == (6, 1.0, False)
    row = rows(*unattacked, *(result("zero", s, r) for s, r in enumerate((6, None, None))))["zero"]
    assert (row.median_rounds, row.ratio, row.passes) == (None, None, False)


def test_a_variant_is_held_against_its_own_unattacked_runs() -> None:
    found = summarise(
        [
            result("none", 0, 4, "default"),
            result("none", 0, 8, "mean"),
            result("zero", 0, 8, "default"),
            result("zero", 0, 8, "mean"),
        ]
    )
    assert {row.variant: row.ratio for row in found if row.attack == "zero"} == {
        "default": 2.0,
        "mean": 1.0,
    }


def test_the_table_has_a_line_for_each_attack() -> None:
    found = summarise([result("none", 0, 6), result("zero", 0, None), result("zero", 1, 9)])
    text = markdown(found, "Title", ["told"])
    assert "| none | 6 (6) | 1.00 | 1 / 0 |" in text
    assert "| zero | - (- 9) | - | 2 / 0 |" in text
    assert figure_data(found) == {"mean": {"none": 6, "zero": None}}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_is_a_config(name: str) -> None:
    trust = load_config(CONFIG, VARIANTS[name].overrides).trust
    assert (trust.audits.first == 0) == (name != "default")
    assert trust.screening.copies == (name in ("default", "screened"))
