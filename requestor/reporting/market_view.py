"""What `derl-request offers` shows: filters and what they remove, prices, and the offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.offers.market import MarketOffer, distinct_providers
from requestor.marketplace.offers.offer_book import MarketScan
from requestor.marketplace.offers.offer_filters import Screening
from requestor.marketplace.offers.price_histogram import PriceBin, median_glm, price_histogram
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.offer_table import offer_table
from requestor.reporting.printing import print_trimmed, room
from requestor.reporting.wording import clock_text, count_text, glm_text, one_line, plural

BAR_WIDTH = 36
MARGIN = 1


@dataclass(frozen=True)
class MarketView:
    """A scan after the filters, and how it is to be shown.

    `busy_threads`: how many threads our work keeps busy; `shown` are the offers of the table, in
    order; `age_seconds` is None for a scan that was taken just now.
    """

    scan: MarketScan
    screening: Screening
    shown: Sequence[MarketOffer]
    busy_threads: int
    reputations: Mapping[str, Reputation] = field(default_factory=dict)
    age_seconds: float | None = None

    @cached_property
    def removed_by(self) -> dict[int, str]:
        """Return the filter that removed an offer, by the offer's `id()`."""
        return {id(offer): name for offer, name in self.screening.removed}

    def prices_glm(self, offers: Sequence[MarketOffer]) -> list[Decimal]:
        """Return what an hour costs in each offer."""
        return [offer.hourly_glm(self.busy_threads) for offer in offers]


def print_market(view: MarketView, console: Console) -> None:
    """Print the whole picture."""
    glyphs, width = glyphs_for(console.encoding), room(console) - 2 * MARGIN
    parts: list[RenderableType] = [_headline(view, glyphs)]
    if view.scan.seen:
        parts += [Text(""), _filters(view, glyphs)]
    if view.scan.offers:
        parts += [Text(""), _histogram(view, glyphs)]
    if view.shown:
        parts += [Text(""), offer_table(view.shown, view, glyphs, width)]
    elif view.screening.removed:
        parts.append(Text(""))
    parts += _left_out(view)
    print_trimmed(console, Padding(Group(*parts), (1, MARGIN)))


def _headline(view: MarketView, glyphs: Glyphs) -> Text:
    scan = view.scan
    line = Text().append(plural(scan.seen, "offer"), style="bold")
    if scan.offers:
        line.append(f" of {plural(distinct_providers(scan.offers), 'provider')}", style="bold")
    line.append(f" in subnet {glyphs.text(one_line(scan.subnet, 40))}")
    if view.age_seconds is None:
        when = f"scanned for {scan.seconds:.1f} s"
    else:
        moment = datetime.fromtimestamp(scan.taken_unix_seconds)
        when = f"scan of {moment:%Y-%m-%d %H:%M}, {clock_text(view.age_seconds)} ago"
    line.append(f" {glyphs.dot} {when}", style="dim")
    if scan.is_cut:
        line.append(f" {glyphs.dot} cut off, there are more", style="yellow")
    return line


def _filters(view: MarketView, glyphs: Glyphs) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("filter", no_wrap=True, overflow="crop")
    table.add_column("asks for", overflow="fold")
    table.add_column("removes", justify="right", no_wrap=True, overflow="crop")
    table.add_column("left", justify="right", no_wrap=True, overflow="crop")
    unusable = len(view.scan.unusable)
    reasons = Counter(offer.reason for offer in view.scan.unusable).most_common(2)
    why = "; ".join(one_line(reason, 60) for reason, _ in reasons)
    asked = "prices that can be checked" + (f" (not so: {why})" if why else "")
    rows = [("readable", asked, unusable, len(view.scan.offers))]
    rows += [(one.name, one.demands, one.removed, one.left) for one in view.screening.counts]
    for name, demands, removed, left in rows:
        quiet = "" if removed else "dim"
        if glyphs.encoding != "utf-8":
            demands = demands.replace("≥", ">=").replace("≤", "<=")
        table.add_row(
            Text(name, style=quiet),
            Text(glyphs.text(demands), style="dim"),
            Text(count_text(removed) if removed else glyphs.dot, "yellow" if removed else "dim"),
            Text(count_text(left), style=quiet if left else "bold red"),
        )
    return table


def _histogram(view: MarketView, glyphs: Glyphs) -> RenderableType:
    kept = view.prices_glm(view.screening.kept)
    removed = view.prices_glm([offer for offer, _ in view.screening.removed])
    bins = price_histogram(kept, removed)
    most = max(one.kept + one.removed for one in bins)
    threads = plural(view.busy_threads, "busy thread")
    title = Text().append(f"GLM per hour with {threads}", style="bold")
    median = median_glm(kept)
    if median is not None:
        title.append(f" {glyphs.dot} median of those left {glm_text(median)}", style="dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, overflow="crop", style="dim")
    table.add_column(no_wrap=True, overflow="crop", width=BAR_WIDTH)
    table.add_column(no_wrap=True, overflow="crop")
    gap = Text(glyphs.ellipsis)
    for one, follower in zip(bins, [*bins[1:], None], strict=True):
        if one.kept or one.removed:
            table.add_row(_edge(one, bins, glyphs), _bar(one, most, glyphs), _counts(one))
        elif follower is None or follower.kept or follower.removed:
            table.add_row(gap, "", "")  # however many bins are empty, one line says so
    return Group(title, table)


def _edge(one: PriceBin, bins: Sequence[PriceBin], glyphs: Glyphs) -> Text:
    width = (bins[0].high_glm or one.low_glm) - bins[0].low_glm
    places = max(0, -int(width.normalize().adjusted())) if width else 2
    low = f"{one.low_glm:.{places}f}"
    if one.high_glm is None:
        return Text(f"{glyphs.at_least} {low}" + " " * (len(low) + 1 if len(bins) > 1 else 0))
    return Text(f"{low} to {one.high_glm:.{places}f}")


def _bar(one: PriceBin, most: int, glyphs: Glyphs) -> Text:
    """Return a bar whose lengths tell the counts; whoever is there gets at least one sign."""

    def length(count: int) -> int:
        return max(1, round(count * BAR_WIDTH / most)) if count else 0

    full, light = ("█", "░") if glyphs.encoding == "utf-8" else ("#", ".")
    kept = min(length(one.kept), BAR_WIDTH - (1 if one.removed else 0))
    removed = min(length(one.removed), BAR_WIDTH - kept)
    return Text().append(full * kept, style="green").append(light * removed, style="dim")


def _counts(one: PriceBin) -> Text:
    words = Text().append(count_text(one.kept) if one.kept else "", style="green")
    if one.removed:
        words.append(f"{' + ' if one.kept else ''}{one.removed:,} removed", style="dim")
    return words


def _left_out(view: MarketView) -> list[Text]:
    notes = []
    hidden = len(view.screening.kept) - sum(id(o) not in view.removed_by for o in view.shown)
    if hidden > 0:
        notes.append(f"{plural(hidden, 'more offer')} that fit; --limit shows more")
    if view.screening.removed and not any(id(o) in view.removed_by for o in view.shown):
        notes.append(f"{plural(len(view.screening.removed), 'offer')} removed; --all shows them")
    return [Text(note, style="dim") for note in notes]
