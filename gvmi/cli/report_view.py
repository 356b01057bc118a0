"""The report of a verification on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gvmi.verification.deviations import CHECKS, RUN_CHECKS, SHOWN_PER_CHECK, shown
from gvmi.verification.report import ImageFacts, Report, Timings

_BAR_COLUMNS = 20
_PIPE_COLUMNS = 120
_WIDEST = 110
_VERDICTS = {
    "good": ("good", "bold green"),
    "bad": ("BAD", "bold red"),
    "not run": ("nothing wrong found, but NOT RUN", "bold yellow"),
}
_STYLES = {"passed": "green", "failed": "red", "skipped": "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Print a report within the terminal's width; a pipe gets 120 columns."""
    columns = min(console.width if console.is_terminal else _PIPE_COLUMNS, _WIDEST)
    marks = _marks(console)
    blocks = [
        _facts(report.facts),
        _parts(report.facts, marks["bar"]),
        _checks(report, marks),
        *([_timings(report.timings)] if report.timings else []),
        *([_list("notes", report.notes)] if report.notes else []),
        *_deviations(report),
        _verdict(report),
    ]
    for number, block in enumerate(blocks):
        lines = console.render_lines(block, console.options.update(width=columns), pad=False)
        if number:
            console.print()
        for line in lines:
            text = Text.assemble(*((part.text, part.style or "") for part in line))
            text.rstrip()
            console.print(text, soft_wrap=True, highlight=False)


def _marks(console: Console) -> dict[str, str]:
    try:
        "✓✗█".encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return {"passed": "ok", "failed": "NO", "skipped": "--", "bar": "#"}
    return {"passed": "✓", "failed": "✗", "skipped": "-", "bar": "█"}


def _facts(facts: ImageFacts) -> RenderableType:
    ratio = facts.unpacked_bytes / max(facts.size_bytes, 1)
    label = facts.labels.get
    rows = {
        "image": shown(facts.path, most=400),
        "variant": facts.variant or "not said",
        "hash": facts.sha3,
        "size": f"{size_text(facts.size_bytes)}; unpacked {size_text(facts.unpacked_bytes)}, "
        f"{ratio:.1f} times as much",
        "holds": f"{facts.names} names, {facts.packages} Python packages",
        "squashfs": f"{facts.compression}, blocks of {facts.block_bytes >> 10} KiB",
        "sources": facts.sources or "not said",
        "version": label("org.opencontainers.image.version", "not said"),
        "CUDA": _cuda(facts.cuda),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value, style="bold" if name in ("image", "variant") else ""))
    return table


def _cuda(label: str | None) -> str:
    if label is None:
        return "not said"
    return label if label not in ("false", "no", "0", "") else "none: no CUDA kernels in it"


def _parts(facts: ImageFacts, mark: str) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(Text("largest parts", style="bold"), Text("unpacked", style="dim"), "", "")
    most = max((size for _, size in facts.largest), default=0) or 1
    for name, size in facts.largest:
        share = size / max(facts.unpacked_bytes, 1)
        bar = mark * max(1, round(_BAR_COLUMNS * size / most))
        table.add_row(Text(f"  {name}"), size_text(size), f"{share:.0%}", Text(bar, style="cyan"))
    return table


def _checks(report: Report, marks: dict[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, meaning in (CHECKS | RUN_CHECKS).items():
        state = report.state(name)
        told = Text(meaning)
        if state == "skipped":
            told.append(f"  not checked: {report.skipped[name]}", style="yellow")
        elif state == "failed":
            count = sum(deviation.check == name for deviation in report.deviations)
            told.append(f"  {count} deviation{'s' if count > 1 else ''}", style="red")
        table.add_row(Text(f"  {marks[state]}", style=_STYLES[state]), name, told)
    return Group(Text("checks", style="bold"), table)


def _timings(timings: Sequence[Timings]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    titles = ("wall", "CPU", "peak memory")
    table.add_row(Text("inside the image", style="bold"), *(Text(t, style="dim") for t in titles))
    for timing in timings:
        cpu = "" if timing.cpu_seconds is None else f"{timing.cpu_seconds:.2f} s"
        peak = "" if timing.peak_bytes is None else size_text(timing.peak_bytes)
        table.add_row(f"  {timing.what}", f"{timing.wall_seconds:.2f} s", cpu, peak)
    return table


def _list(title: str, texts: Sequence[str], style: str = "") -> RenderableType:
    table = Table.grid()
    table.add_column(overflow="fold")
    table.add_row(Text(title, style="bold"))
    for text in texts:
        table.add_row(Padding(Text(text, style=style), (0, 0, 0, 2)))
    return table


def _deviations(report: Report) -> Iterator[RenderableType]:
    for name, meaning in (CHECKS | RUN_CHECKS).items():
        texts = [deviation.text for deviation in report.deviations if deviation.check == name]
        if texts:
            more = len(texts) - SHOWN_PER_CHECK
            rest = [f"and {more} more; --json has all"] if more > 0 else []
            yield _list(f"not so: {meaning}", [*texts[:SHOWN_PER_CHECK], *rest], "red")


def _verdict(report: Report) -> RenderableType:
    text, style = _VERDICTS[report.verdict]
    verdict = Text.assemble(("verdict: ", "bold"), (text, style))
    if report.verdict == "not run":
        verdict.append(f" ({next(report.skipped[name] for name in RUN_CHECKS)})")
    return verdict


def size_text(count: float) -> str:
    """Return a number of bytes in megabytes, as sizes of downloads are told."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
