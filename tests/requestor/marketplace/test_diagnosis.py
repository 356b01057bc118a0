"""Checks are made in order; what depends on a failed one is skipped; a run stops at the first."""

from __future__ import annotations

import asyncio

import pytest

from requestor.errors import PreflightError
from requestor.marketplace.diagnosis import (
    Answer,
    Check,
    CheckFailed,
    Finding,
    NotApplicable,
    State,
    examine_all,
    has_failed,
    require_all,
)


class Checks:
    """Checks that note when they are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def of(self, name: str, outcome: str, needs: str = "", *, before_run: bool = True) -> Check:
        async def examine() -> Answer:
            self.made.append(name)
            if outcome == "failed":
                raise CheckFailed(f"{name} is broken", f"mend {name}", {"of": name})
            if outcome == "skipped":
                raise NotApplicable("no need")
            return Answer(f"{name} says", is_warning=outcome == "warning")

        return Check(name, examine, tuple(needs.split()), before_run)


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state.value for finding in findings}


def test_dependents_of_a_failure_are_skipped_and_their_dependents_too() -> None:
    checks = Checks()
    told: list[Finding] = []
    plan = [
        checks.of("a", "ok"),
        checks.of("b", "failed", "a"),
        checks.of("c", "ok", "a b"),
        checks.of("d", "ok", "c"),
        checks.of("e", "warning", "a"),
        checks.of("f", "skipped"),
        checks.of("g", "ok", "f"),
    ]
    findings = asyncio.run(examine_all(plan, told.append))
    assert findings == told
    assert states(findings) == {
        "a": "ok",
        "b": "failed",
        "c": "skipped",
        "d": "skipped",
        "e": "warning",
        "f": "skipped",
        "g": "ok",
    }
    assert checks.made == ["a", "b", "e", "f", "g"]
    by_name = {finding.name: finding for finding in findings}
    assert (by_name["b"].says, by_name["b"].fix) == ("b is broken", "mend b")
    assert by_name["b"].facts == {"of": "b"}
    assert by_name["c"].says == "needs b"
    assert by_name["d"].says == "needs c"
    assert by_name["f"].says == "no need"
    assert has_failed(findings)
    assert not has_failed([one for one in findings if one.state is not State.FAILED])


def test_a_run_stops_at_the_first_failure() -> None:
    checks = Checks()
    plan = [
        checks.of("a", "warning"),
        checks.of("only doctor", "failed", before_run=False),
        checks.of("b", "failed"),
        checks.of("c", "failed"),
    ]
    with pytest.raises(PreflightError) as caught:
        asyncio.run(require_all(plan))
    assert (caught.value.message, caught.value.fix) == ("b is broken", "mend b")
    assert caught.value.exit_code == 4
    assert checks.made == ["a", "b"]


def test_a_run_goes_on_if_nothing_fails() -> None:
    checks = Checks()
    plan = [checks.of("a", "warning"), checks.of("b", "skipped"), checks.of("c", "ok", "b")]
    assert states(asyncio.run(require_all(plan))) == {"a": "warning", "b": "skipped", "c": "ok"}
