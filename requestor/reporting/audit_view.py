"""What is known of the work of a run: who was looked at how often, and what an audit found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.printing import print_trimmed
from requestor.reporting.wording import count_text, one_line, plural
from requestor.training_run.auditing.verifying import AuditReport, Check
from requestor.trust.catching import SHARES
from requestor.trust.provenance import History
from requestor.trust.record_of_voices import VoiceRecord, overall, voice_records

MAX_LINES = 20
JSON_FORMAT = 1
STYLES = {"verified": "green", "differs": "bold red", "incomparable": "yellow"}
WORDS = {"verified": "the same", "differs": "differs", "incomparable": "cannot be compared"}


def percent(chance: float) -> str:
    """Return a chance in percent; what is not sure is never 100."""
    return "100 %" if chance >= 1.0 else f"{min(100 * chance, 99.9):.3g} %"


def percents(chances: Sequence[float]) -> str:
    """Return chances side by side: `24.3/97/100 %`."""
    return f"{'/'.join(percent(chance).removesuffix(' %') for chance in chances)} %"


def caught_sentence(chances: Sequence[float]) -> str:
    """Say what audits were worth against cheats who fake a share of their items."""
    shares = "/".join(f"{100 * share:g}" for share in SHARES)
    return f"who fakes {shares} % of all items would have been caught with {percents(chances)}"


def was_audited(history: History) -> bool:
    """Tell whether any work could have been drawn at all."""
    return any(overall(history.rounds))


def draw_voices(history: History, glyphs: Glyphs) -> RenderableType:
    """Return the table of voices, and what the audits were worth.

    The last column: the chance that a cheat would have been caught who fakes so much of its items.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    titles = ["provider", "items", "audited", "verified", "refused"]
    titles.append(f"caught at {'/'.join(f'{100 * share:g}' for share in SHARES)} %")
    for title in titles:
        side = "left" if title == "provider" else "right"
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for voice in voice_records(history.rounds):
        table.add_row(*_voice_cells(voice, glyphs))
    lines = [Text(caught_sentence(overall(history.rounds)), style="dim")]
    if history.tainted:
        rounds = ", ".join(str(number + 1) for number in history.tainted)
        text = f"faked work was merged, before it was found out, in round {rounds}"
        lines.append(Text(text, style="bold yellow"))
    return Group(table, *lines)


def _voice_cells(voice: VoiceRecord, glyphs: Glyphs) -> list[Text]:
    name = ", ".join(voice.names) or voice.voice
    bad = "red" if voice.faked else ("yellow" if voice.refused else "dim")
    return [
        Text(glyphs.text(one_line(name, 24))),
        Text(count_text(voice.items)),
        Text(count_text(voice.audited)),
        Text(count_text(voice.verified)),
        Text(count_text(voice.refused), style=bad),
        Text(percents(voice.caught), style="dim"),
    ]


def voices_json(history: History) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "shares": list(SHARES),
        "caught": list(overall(history.rounds)),
        "tainted_rounds": [number + 1 for number in history.tainted],
        "providers": [
            {
                "voice": voice.voice,
                "names": list(voice.names),
                "items": voice.items,
                "audited": voice.audited,
                "verified": voice.verified,
                "faked": voice.faked,
                "refused": voice.refused,
                "caught": list(voice.caught),
            }
            for voice in voice_records(history.rounds)
        ],
    }


def print_audit(report: AuditReport, console: Console) -> None:
    """Print what an audit of a run found."""
    glyphs = glyphs_for(console.encoding)
    rounds = len(report.history.rounds)
    parts: list[RenderableType] = [
        Text(f"the chain of {plural(rounds, 'round')} and the files it names are whole")
        if not report.chain_faults
        else Text("the chain of records is broken:", style="bold red")
    ]
    parts += [Text(f"  {glyphs.text(one_line(fault))}") for fault in report.chain_faults]
    if report.checks:
        parts += [_checks_table(report.checks, glyphs), *_lines(report.checks, glyphs)]
    if report.history.rounds:
        parts += [Text(""), draw_voices(report.history, glyphs)]
    print_trimmed(console, Group(*parts))


def _checks_table(checks: Sequence[Check], glyphs: Glyphs) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("done again", "verified", "differs", "cannot be compared"):
        side = "left" if title == "done again" else "right"
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    names = dict.fromkeys(one.provider for one in checks if one.client is not None)
    rows = [(f"items of {name}", [c for c in checks if c.provider == name]) for name in names]
    merges = [one for one in checks if one.client is None]
    if merges:
        rows.append(("merged rounds", merges))
    for title, of_row in rows:
        cells = [
            Text(count_text(sum(one.outcome == outcome for one in of_row)))
            for outcome in ("verified", "differs", "incomparable")
        ]
        table.add_row(Text(glyphs.text(one_line(title))), *cells)
    return table


def _lines(checks: Iterable[Check], glyphs: Glyphs) -> list[Text]:
    told = [one for one in checks if one.outcome != "verified"]
    lines = [
        Text(
            glyphs.text(
                f"round {one.round + 1}, "
                + ("the merge" if one.client is None else f"client {one.client}, {one.provider}")
                + f": {WORDS[one.outcome]}: {one_line(one.reason)}"
            ),
            style=STYLES[one.outcome],
        )
        for one in told[:MAX_LINES]
    ]
    if len(told) > MAX_LINES:
        lines.append(Text(f"and {len(told) - MAX_LINES} more", style="dim"))
    return lines


def audit_record(report: AuditReport) -> dict[str, Any]:
    """Return what an audit found as plain data."""
    return {
        "format": JSON_FORMAT,
        "is_sound": report.is_sound,
        "rounds": len(report.history.rounds),
        "chain_faults": list(report.chain_faults),
        "checks": [
            {
                "round": one.round + 1,
                "client": one.client,
                "provider": one.provider or None,
                "outcome": one.outcome,
                "reason": one.reason,
            }
            for one in report.checks
        ],
        "audits": voices_json(report.history),
    }
