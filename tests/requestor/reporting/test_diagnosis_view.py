"""What doctor prints: one line for each finding, the fix below it, no secrets."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from requestor.marketplace.diagnosis import Finding, State
from requestor.reporting.diagnosis_view import (
    diagnosis_json,
    failures_text,
    print_finding,
    print_heading,
    print_verdict,
)

OK = Finding("disk", State.OK, "75.6 GiB free for runs", facts={"free_bytes": 5})
WARNING = Finding("clock", State.WARNING, "9 s apart", "`timedatectl set-ntp true`")
FAILED = Finding("key", State.FAILED, "YAGNA_APPKEY is not set", "`yagna app-key create me`")
SKIPPED = Finding("offers", State.SKIPPED, "needs key")
ALL = [OK, WARNING, FAILED, SKIPPED]
KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"


class Terminal(io.TextIOWrapper):
    """A terminal of some encoding and width."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """What was written."""
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)


def printed(findings: list[Finding], width: int = 80, encoding: str = "utf-8") -> str:
    terminal = Terminal(encoding)
    console = Console(file=terminal, width=width, color_system=None)
    for finding in findings:
        print_finding(finding, console)
    print_verdict(findings, console)
    return terminal.text


def test_every_finding_has_its_line() -> None:
    assert printed(ALL) == (
        " ✓  disk          75.6 GiB free for runs\n"
        " !  clock         9 s apart\n"
        "      fix         `timedatectl set-ntp true`\n"
        " ✗  key           YAGNA_APPKEY is not set\n"
        "      fix         `yagna app-key create me`\n"
        " ·  offers        needs key\n"
        "\n"
        " Not fit for a run yet: 1 fine, 1 worth a look, 1 failed, 1 skipped\n"
        "\n"
    )


def test_verdicts() -> None:
    assert " Fit for a run: 1 fine, 1 worth a look\n" in printed([OK, WARNING])
    assert " All is well: 1 fine, 1 skipped\n" in printed([OK, SKIPPED])


def test_terminals_without_these_signs() -> None:
    text = printed([*ALL, Finding("x", State.OK, "5 ≥ 4 …")], encoding="ascii")
    assert text.isascii()
    assert " ok disk" in text
    assert " !! key" in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_long_findings_are_folded_below_themselves(width: int) -> None:
    long = Finding("daemon", State.FAILED, "no yagna daemon answers " * 8, "start one " * 20)
    lines = printed([long], width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith(" " * 18) for line in lines[1:-3] if "fix" not in line)


def test_what_a_stranger_says_is_one_harmless_line() -> None:
    hostile = Finding("daemon", State.FAILED, "bad\x1b[2J\nnews\u202e", "`x`\n")
    text = printed([hostile])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.splitlines()[0].endswith("bad [2J news")


def test_heading() -> None:
    terminal = Terminal()
    print_heading("configs/x.yaml", "yagna", Console(file=terminal, width=80, color_system=None))
    assert terminal.text == "\n configs/x.yaml · mode yagna\n\n"


def test_json_is_whole_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    leaky = Finding("x", State.FAILED, f"key {KEY}", f"use {KEY}", {"key": KEY})
    text = diagnosis_json([*ALL, leaky], "yagna")
    assert KEY not in text
    record = json.loads(text)
    assert (record["format"], record["mode"], record["is_fit"]) == (1, "yagna", False)
    assert record["checks"][0] == {
        "name": "disk",
        "state": "ok",
        "says": "75.6 GiB free for runs",
        "fix": None,
        "facts": {"free_bytes": 5},
    }
    assert [one["state"] for one in record["checks"]] == [
        "ok",
        "warning",
        "failed",
        "skipped",
        "failed",
    ]
    assert json.loads(diagnosis_json([OK, WARNING, SKIPPED], "mock"))["is_fit"]


def test_a_terminal_shows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    text = printed([Finding("x", State.FAILED, f"key {KEY} unknown", f"use {KEY}")])
    assert KEY not in text
    assert "key <redacted> unknown" in text


def test_failures_in_a_few_words() -> None:
    assert failures_text(ALL) == "1 check failed: key"
    assert failures_text([FAILED, FAILED]) == "2 checks failed: key, key"
