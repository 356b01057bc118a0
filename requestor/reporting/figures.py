"""Figures of studies, as SVG; the one place that needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from requestor.errors import PreflightError

_HEIGHT_INCHES = 0.34
_WIDTH_INCHES = 8.0


def draw_rounds(
    path: Path,
    data: Mapping[str, Mapping[str, float | None]],
    *,
    title: str,
    most_rounds: int,
) -> None:
    """Draw the rounds to the target, a bar for each variant beside each attack.

    data: by variant and attack; None (not reached) is a hatched bar as long as the run.

    Raises:
        PreflightError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise PreflightError(
            "figures need matplotlib, which is not installed",
            fix="pip install 'derl[plots]', or leave the figure out with --no-figure",
        ) from error
    matplotlib.use("svg")
    from matplotlib.figure import Figure

    # the same data give the same file
    matplotlib.rcParams["svg.hashsalt"] = "derl"
    attacks = list(dict.fromkeys(attack for bars in data.values() for attack in bars))
    height = 1.2 + _HEIGHT_INCHES * len(attacks) * max(1.0, len(data) / 2)
    figure = Figure(figsize=(_WIDTH_INCHES, height))
    axes = figure.subplots()
    thickness = 0.8 / max(1, len(data))
    for place, (variant, bars) in enumerate(data.items()):
        known = [(n, bars[a]) for n, a in enumerate(attacks) if a in bars]
        axes.barh(
            [n + (place + 0.5) * thickness - 0.4 for n, _ in known],
            [most_rounds if rounds is None else rounds for _, rounds in known],
            height=thickness * 0.9,
            label=variant,
            hatch=["//" if rounds is None else "" for _, rounds in known],
            alpha=0.9,
        )
    axes.set_yticks(range(len(attacks)), labels=attacks)
    axes.set_xlabel("rounds to the target (hatched: not reached)")
    axes.set_title(title)
    axes.legend(loc="upper right", ncols=max(1, len(data)))
    axes.set_ylim(len(attacks) - 0.4, -1.3)  # the legend stands above the bars
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
