"""The table of offers: as many columns as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.offers.market import MarketOffer
from requestor.reporting.glyphs import Glyphs
from requestor.reporting.wording import glm_text, one_line

GAP = 2
NAME_WIDTH = 22
HARDWARE_WIDTH = 34
RECORD_WIDTH = 24
DROPPED_FIRST = ("node", "processor", "storage", "start", "cpu/h", "per h", "GPU", "record")
"""Columns that make room for the others, the least important first."""

PRICES = ("GLM/h", "start", "cpu/h", "per h")
LEFT_ALIGNED = ("provider", "processor", "GPU", "record", "node", "removed by")


class Pricing(Protocol):
    """What the table must know beside the offers."""

    @property
    def busy_threads(self) -> int:
        """How many threads our work keeps busy."""
        ...

    @property
    def reputations(self) -> Mapping[str, Reputation]:
        """What is known of providers, by node id."""
        ...

    @property
    def removed_by(self) -> Mapping[int, str]:
        """The filter that removed an offer, by the offer's `id()`."""
        ...


def offer_table(
    offers: Sequence[MarketOffer], pricing: Pricing, glyphs: Glyphs, width: int
) -> RenderableType:
    """Return the offers, one line each, in `width` columns."""
    rows = [_cells(offer, pricing, glyphs) for offer in offers]
    for title in PRICES:
        _align_points(title, [row[title] for row in rows])
    titles = _fitting(rows, width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        # what is aligned by its points is as wide as its column, and would lose spaces at its end
        is_left = title in LEFT_ALIGNED or title in PRICES
        table.add_column(
            title.rjust(rows[0][title].cell_len) if title in PRICES else title,
            justify="left" if is_left else "right",
            no_wrap=True,
            overflow="crop",
        )
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    return table


def _fitting(rows: Sequence[Mapping[str, Text]], width: int) -> list[str]:
    """Return the titles of the columns to show: who says anything, while there is room."""
    every = [title for title in rows[0] if any(row[title].plain for row in rows)]
    kept = [title for title in every if title not in DROPPED_FIRST]
    for wanted in reversed(DROPPED_FIRST):
        wider = [title for title in every if title in kept or title == wanted]
        if _width(rows, wider) <= width:
            kept = wider
    return kept


def _align_points(title: str, numbers: Sequence[Text]) -> None:
    """Put decimal points below each other; the numbers then are all as wide as their column."""
    parts = [number.plain.partition(".") for number in numbers]
    behind = max(len(point + rest) for _, point, rest in parts)
    width = max(len(title), *(len(whole) + behind for whole, _, _ in parts))
    for number, (whole, point, rest) in zip(numbers, parts, strict=True):
        number.plain = f"{whole}{(point + rest).ljust(behind)}".rjust(width)


def _width(rows: Sequence[Mapping[str, Text]], titles: Sequence[str]) -> int:
    widths = [max(len(title), *(row[title].cell_len for row in rows)) for title in titles]
    return sum(widths) + GAP * (len(titles) - 1)


def _cells(offer: MarketOffer, pricing: Pricing, glyphs: Glyphs) -> dict[str, Text]:
    removed_by = pricing.removed_by.get(id(offer), "")
    tone = "dim" if removed_by else ""
    reputation = pricing.reputations.get(offer.node_id, Reputation())
    prices = offer.prices

    def fit(text: str, length: int) -> str:
        return glyphs.fit(glyphs.text(one_line(text, 100)), length)

    cells: dict[str, str | Text] = {
        "provider": Text(fit(offer.name, NAME_WIDTH), style=tone or "bold"),
        "GLM/h": glm_text(offer.hourly_glm(pricing.busy_threads)),
        "start": glm_text(prices.start_glm),
        "cpu/h": glm_text(prices.cpu_hour_glm),
        "per h": glm_text(prices.hour_glm),
        "threads": str(offer.threads),
        "memory": _gib(offer.memory_gib),
        "storage": _gib(offer.storage_gib),
        "processor": fit(offer.cpu_model, HARDWARE_WIDTH),
        "GPU": fit(", ".join(map(str, offer.gpus)), HARDWARE_WIDTH),
        "record": _record(reputation, fit) if not removed_by else "",
        "node": offer.node_id[:10],
        "removed by": Text(removed_by, style="yellow"),
    }
    return {
        title: cell if isinstance(cell, Text) else Text(cell, style=tone)
        for title, cell in cells.items()
    }


def _record(reputation: Reputation, fit: Callable[[str, int], str]) -> Text:
    done = f"{reputation.orders:,} done" if reputation.orders else ""
    if reputation.standing == "good":
        return Text(done or ("" if not reputation.is_known else "failed once"), style="green")
    failure = fit(reputation.last_failure, RECORD_WIDTH) or "failed lately"
    return Text(f"{done}, {failure}" if done else failure, style="yellow")


def _gib(size: float) -> str:
    return f"{size:.3g} GiB" if size < 1000 else f"{size:,.0f} GiB"
