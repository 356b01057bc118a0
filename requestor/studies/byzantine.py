"""The study `byzantine`: every attack against every variant of the defence, with several seeds.

Pure: what there is to do, and what the results come to. `conducting.py` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from requestor.attacks.catalogue import ATTACKS
from requestor.studies.cells import Cell, CellResult

UNATTACKED = "none"
GATE = 1.5
"""So many times the rounds of the unattacked run may be needed, at most."""

_NO_AUDITS = ("trust.audits.first=0", "trust.audits.least=0")
_NO_SCREENING = (
    "trust.screening.norm_z=null",
    "trust.screening.divergence=null",
    "trust.screening.copies=false",
    "trust.screening.speed=null",
)


@dataclass(frozen=True)
class Variant:
    """One way to defend a run: overrides of the study's config."""

    name: str
    summary: str
    overrides: tuple[str, ...]


def _rule(name: str, *overrides: str) -> Variant:
    return Variant(
        name.replace("_", "-"),
        f"{name.replace('_', ' ')} alone: no screening, no audits",
        (*(overrides or (f"federation.aggregation.rule={name}",)), *_NO_SCREENING, *_NO_AUDITS),
    )


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("default", "merging, screening and audits as they are by default", ()),
        Variant("screened", "default merging and screening, no audits", _NO_AUDITS),
        Variant(
            "merging",
            "default merging alone: no screening, no audits",
            (*_NO_SCREENING, *_NO_AUDITS),
        ),
        _rule("mean"),
        _rule("trimmed_mean"),
        _rule("geometric_median"),
        _rule("coordinate_median"),
        _rule("multi_krum"),
        _rule("centered_clipping"),
        _rule(
            "nnm_trimmed_mean",
            "federation.aggregation.rule=trimmed_mean",
            "federation.aggregation.before=[nearest_neighbour_mixing]",
        ),
    )
}


def plan_cells(variants: Sequence[str], attacks: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells of a study; unattacked ones, which all others are held against, first."""
    named = [UNATTACKED, *(attack for attack in attacks if attack != UNATTACKED)]
    return [Cell(v, attack, seed) for attack in named for v in variants for seed in seeds]


@dataclass(frozen=True)
class Row:
    """What one variant made of one attack, over the seeds.

    rounds: of each seed, None where the target was not reached. median_rounds and ratio (to the
    unattacked runs of the same variant): None where half of the seeds or more did not reach it.
    """

    variant: str
    attack: str
    rounds: tuple[int | None, ...]
    median_rounds: float | None
    ratio: float | None
    best_returns: tuple[float, ...]
    refused_liars: int
    refused_honest: int
    convicted_liars: int
    convicted_honest: int
    reasons: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """True if every seed reached the target, and their median within the gate."""
        return None not in self.rounds and self.ratio is not None and self.ratio <= GATE


def summarise(results: Iterable[CellResult]) -> list[Row]:
    """Return a row for each variant and attack, in the order of the catalogue."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        found.setdefault((result.cell.variant, result.cell.attack), []).append(result)
    order = [UNATTACKED, *ATTACKS]
    rows = []
    for variant in VARIANTS:
        usual = _median([r.rounds for r in found.get((variant, UNATTACKED), [])])
        rows += [
            _row(variant, attack, found[variant, attack], usual)
            for attack in order
            if (variant, attack) in found
        ]
    return rows


def _row(variant: str, attack: str, results: list[CellResult], usual: float | None) -> Row:
    results = sorted(results, key=lambda result: result.cell.seed)
    rounds = tuple(result.rounds for result in results)
    middle = _median(rounds)
    is_known = middle is not None and usual is not None
    reasons = dict.fromkeys(reason for result in results for reason in result.reasons)
    return Row(
        variant=variant,
        attack=attack,
        rounds=rounds,
        median_rounds=middle,
        ratio=middle / usual if is_known and middle and usual else None,
        best_returns=tuple(max(result.returns, default=0.0) for result in results),
        refused_liars=sum(result.refused_liars for result in results),
        refused_honest=sum(result.refused_honest for result in results),
        convicted_liars=sum(result.convicted_liars for result in results),
        convicted_honest=sum(result.convicted_honest for result in results),
        reasons=tuple(reasons),
    )


def _median(rounds: Sequence[int | None]) -> float | None:
    """Return the median, runs that never arrived counted as endless; None if it is endless."""
    if not rounds:
        return None
    middle = median(float("inf") if one is None else one for one in rounds)
    return middle if middle != float("inf") else None


def markdown(rows: Sequence[Row], title: str, told: Sequence[str]) -> str:
    """Return the study as Markdown: what was told, then a table with a row for each attack."""
    variants = {name: _Columns.of(rows, name) for name in dict.fromkeys(r.variant for r in rows)}
    attacks = list(dict.fromkeys(row.attack for row in rows))
    known = {(row.variant, row.attack): row for row in rows}
    head = ["attack", *(text for one in variants.values() for text in one.heads)]
    lines = [f"# {title}", "", *told, ""]
    lines += [f"- **{name}**: {VARIANTS[name].summary}." for name in variants]
    lines += [
        "",
        "Rounds to the target: median, and of each seed in brackets (-: not reached). Ratio: to "
        "the unattacked rounds of the same variant. Refused: results of liars / of honest "
        "providers that were not merged; convicted: providers that an audit proved to have faked "
        "work, liars / honest; all seeds together, and left out where there were none.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for attack in attacks:
        cells = [t for v, one in variants.items() for t in one.cells(known.get((v, attack)))]
        lines.append(f"| {' | '.join([attack, *cells])} |")
    return "\n".join([*lines, "", *_what_they_are(attacks), ""])


@dataclass(frozen=True)
class _Columns:
    """What is shown of one variant."""

    variant: str
    has_refused: bool
    has_convicted: bool

    @classmethod
    def of(cls, rows: Sequence[Row], variant: str) -> _Columns:
        own = [row for row in rows if row.variant == variant]
        return cls(
            variant,
            any(row.refused_liars or row.refused_honest for row in own),
            any(row.convicted_liars or row.convicted_honest for row in own),
        )

    @property
    def heads(self) -> list[str]:
        heads = [f"{self.variant}: rounds", "ratio"]
        return heads + ["refused"] * self.has_refused + ["convicted"] * self.has_convicted

    def cells(self, row: Row | None) -> list[str]:
        if row is None:
            return [""] * len(self.heads)
        each = " ".join("-" if rounds is None else str(rounds) for rounds in row.rounds)
        middle = "-" if row.median_rounds is None else f"{row.median_rounds:g}"
        cells = [f"{middle} ({each})", "-" if row.ratio is None else f"{row.ratio:.2f}"]
        if self.has_refused:
            cells.append(f"{row.refused_liars} / {row.refused_honest}")
        if self.has_convicted:
            cells.append(f"{row.convicted_liars} / {row.convicted_honest}")
        return cells


def _what_they_are(attacks: Sequence[str]) -> list[str]:
    listed = [name for name in attacks if name in ATTACKS]
    return [f"- `{name}`: {ATTACKS[name].summary} ({ATTACKS[name].source})." for name in listed]


def figure_data(rows: Sequence[Row]) -> Mapping[str, Mapping[str, float | None]]:
    """Return the median rounds by variant and attack, None where the target was not reached."""
    data: dict[str, dict[str, float | None]] = {}
    for row in rows:
        data.setdefault(row.variant, {})[row.attack] = row.median_rounds
    return data
