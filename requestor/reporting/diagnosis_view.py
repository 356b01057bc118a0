"""What `derl-request doctor` shows: a line for each finding, and the fix below what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from requestor.marketplace.diagnosis import Finding, State, has_failed
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.printing import print_trimmed
from requestor.reporting.wording import one_line, plural
from requestor.secrecy import redact, redacted_data

JSON_FORMAT = 1
NAME_WIDTH = 13
STYLES = {
    State.OK: "green",
    State.WARNING: "yellow",
    State.FAILED: "bold red",
    State.SKIPPED: "dim",
}
WORDS = {
    State.OK: "fine",
    State.WARNING: "worth a look",
    State.FAILED: "failed",
    State.SKIPPED: "skipped",
}


def print_heading(subject: str, mode: str, console: Console) -> None:
    """Print what is looked at."""
    glyphs = glyphs_for(console.encoding)
    line = Text().append(glyphs.text(one_line(subject, 100)), style="bold")
    print_trimmed(console, Padding(line.append(f" {glyphs.dot} mode {mode}", "dim"), (1, 0, 1, 1)))


def print_finding(finding: Finding, console: Console) -> None:
    """Print one finding, as it comes, without secrets."""
    glyphs = glyphs_for(console.encoding)
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=2)
    row.add_column(width=NAME_WIDTH, no_wrap=True)
    row.add_column(overflow="fold")
    quiet = "dim" if finding.state is State.SKIPPED else ""
    row.add_row(
        Text(_mark(finding.state, glyphs), style=STYLES[finding.state]),
        Text(finding.name, style=quiet or "bold"),
        _with_commands(glyphs.text(one_line(redact(finding.says), 500)), quiet),
    )
    if finding.fix is not None:
        fix = _with_commands(glyphs.text(one_line(redact(finding.fix), 500)))
        row.add_row("", Text("  fix", style="dim"), fix)
    print_trimmed(console, Padding(row, (0, 0, 0, 1)))


def print_verdict(findings: Sequence[Finding], console: Console) -> None:
    """Print the line that sums up."""
    counts = Counter(finding.state for finding in findings)
    words = [f"{counts[state]} {WORDS[state]}" for state in State if counts[state]]
    lead, style = "All is well: ", "bold green"
    if has_failed(findings):
        lead, style = "Not fit for a run yet: ", "bold red"
    elif counts[State.WARNING]:
        lead = "Fit for a run: "
    line = Text().append(lead, style=style).append(", ".join(words))
    print_trimmed(console, Padding(line, (1, 0, 1, 1)))


def diagnosis_json(findings: Sequence[Finding], mode: str) -> str:
    """Return all findings as one JSON object, without secrets."""
    record = {
        "format": JSON_FORMAT,
        "mode": mode,
        "is_fit": not has_failed(findings),
        "checks": [
            {
                "name": finding.name,
                "state": finding.state.value,
                "says": finding.says,
                "fix": finding.fix,
                "facts": finding.facts,
            }
            for finding in findings
        ],
    }
    return json.dumps(redacted_data(record), indent=1, allow_nan=False)


def failures_text(findings: Sequence[Finding]) -> str:
    """Return how many checks failed, and which."""
    names = [finding.name for finding in findings if finding.state is State.FAILED]
    return f"{plural(len(names), 'check')} failed: {', '.join(names)}"


def _mark(state: State, glyphs: Glyphs) -> str:
    return {
        State.OK: glyphs.good,
        State.WARNING: "!",
        State.FAILED: glyphs.bad,
        State.SKIPPED: glyphs.dot,
    }[state]


def _with_commands(text: str, style: str = "") -> Text:
    """Return a text whose commands, which stand between backticks, stand out."""
    shown = Text(text, style=style)
    shown.highlight_regex(r"`[^`]+`", "bold cyan")
    return shown
