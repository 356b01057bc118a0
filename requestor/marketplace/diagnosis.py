"""Checks and what they found: run one after another, all of them or up to the first failure.

A check says by returning that all is well or worth a look, and by raising `CheckFailed` that it
is not; one whose needs have failed is not made but shown as skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from requestor.errors import PreflightError


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Answer:
    """What a check that did not fail has to say; `facts` are plain data for `--json`.

    With a `warning` in place of "all is well" there may be a `fix`.
    """

    says: str
    is_warning: bool = False
    fix: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class CheckFailed(Exception):
    """Something is not in order: what, and the command or setting that mends it."""

    def __init__(self, says: str, fix: str, facts: Mapping[str, Any] | None = None) -> None:
        """Keep what is wrong, the fix and what was measured."""
        super().__init__(says)
        self.says = says
        self.fix = fix
        self.facts = facts or {}


class NotApplicable(Exception):
    """The check makes no sense here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One thing to look at; `needs` names the checks that must not have failed before it.

    `before_run`: a run looks at it, too, before it begins.
    """

    name: str
    examine: Callable[[], Awaitable[Answer]]
    needs: tuple[str, ...] = ()
    before_run: bool = False


@dataclass(frozen=True)
class Finding:
    """How one check came out."""

    name: str
    state: State
    says: str
    fix: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


async def examine_all(
    checks: Sequence[Check], tell: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """Make every check in order and `tell` each finding as it comes."""
    findings: list[Finding] = []
    unmet: set[str] = set()
    for check in checks:
        missing = [need for need in check.needs if need in unmet]
        if missing:
            text = f"needs {' and '.join(missing)}"
            finding = Finding(check.name, State.SKIPPED, text)
        else:
            finding = await _examine(check)
        # what was skipped for a failure is unmet too; what does not apply here is not
        if finding.state is State.FAILED or missing:
            unmet.add(check.name)
        findings.append(finding)
        tell(finding)
    return findings


async def require_all(checks: Iterable[Check]) -> list[Finding]:
    """Make the checks that a run looks at, up to the first failure.

    Raises:
        PreflightError: the first thing that is not in order, with its fix.
    """
    findings = []
    for check in checks:
        if not check.before_run:
            continue
        finding = await _examine(check)
        if finding.state is State.FAILED:
            raise PreflightError(finding.says, fix=finding.fix)
        findings.append(finding)
    return findings


def has_failed(findings: Iterable[Finding]) -> bool:
    """Say whether any check failed."""
    return any(finding.state is State.FAILED for finding in findings)


async def _examine(check: Check) -> Finding:
    try:
        answer = await check.examine()
    except CheckFailed as failure:
        return Finding(check.name, State.FAILED, failure.says, failure.fix, failure.facts)
    except NotApplicable as reason:
        return Finding(check.name, State.SKIPPED, str(reason))
    state = State.WARNING if answer.is_warning else State.OK
    return Finding(check.name, state, answer.says, answer.fix, answer.facts)
