"""Table and figure of what published_methods.py measured.

    python tests/benchmarks/published_methods_report.py --figure curves.svg k10.jsonl k3.jsonl …
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WINDOW = 5
TARGET = 450.0
Row = Mapping[str, Any]


def curves(paths: Sequence[Path]) -> dict[str, dict[int, list[Row]]]:
    """Rows of each kind of run and seed, in the order that they were learned in."""
    found: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            kind = f"{row['method']}, K = {row['clients']}, {row['attack']}, {row['rule']}"
            found[kind][row["seed"]].append(row)
    return found


def smoothed(rows: Sequence[Row]) -> np.ndarray:
    """Means of the last `WINDOW` evaluations: float64[E - WINDOW + 1]."""
    returns = np.array([row["return"] for row in rows])
    return np.convolve(returns, np.ones(WINDOW) / WINDOW, mode="valid")


def reached(rows: Sequence[Row]) -> int | None:
    """Episodes per agent when the smoothed return is first at the target."""
    first = np.flatnonzero(smoothed(rows) >= TARGET)
    return int(rows[first[0] + WINDOW - 1]["episodes"]) if len(first) else None


def table(found: Mapping[str, Mapping[int, Sequence[Row]]]) -> str:
    """Markdown: when each seed reached the target, and where it ended."""
    lines = ["| run | episodes per agent to 450, by seed | at the end |", "|---|---|---|"]
    for kind, seeds in found.items():
        hits = ", ".join(f"{hit:,}" if (hit := reached(r)) else "never" for r in seeds.values())
        ends = ", ".join(f"{smoothed(rows)[-1]:.0f}" for rows in seeds.values())
        lines.append(f"| {kind} | {hits} | {ends} |")
    return "\n".join(lines)


def draw(path: Path, found: Mapping[str, Mapping[int, Sequence[Row]]]) -> None:
    """Draw the mean smoothed return over seeds, against episodes per agent."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "derl"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    for kind, seeds in found.items():
        end = min(rows[-1]["episodes"] for rows in seeds.values())
        at = np.linspace(0, end, 200)
        each = [
            np.interp(at, [row["episodes"] for row in rows[WINDOW - 1 :]], smoothed(rows))
            for rows in seeds.values()
        ]
        axes.plot(at, np.mean(each, axis=0), label=kind)
    axes.axhline(TARGET, color="grey", linewidth=0.5)
    axes.set_xlabel("episodes per agent")
    axes.set_ylabel(f"return, mean of {WINDOW} evaluations and of seeds")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    found = curves(given.curves)
    print(table(found))
    if given.figure is not None:
        draw(given.figure, found)


if __name__ == "__main__":
    main()
