"""Triggers: skipped chances, limited times, seeded probability."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.faults import (
    CommandFails,
    CommandHangs,
    Fault,
    FaultSchedule,
    RejectAgreement,
    ResultTampered,
)


def fired(schedule: FaultSchedule, kind: type[Fault], chances: int) -> list[bool]:
    return [schedule.fires(kind) is not None for _ in range(chances)]


def fails(**trigger: float) -> CommandFails:
    return CommandFails.model_validate({"kind": "command_fails", **trigger})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 5)))
def test_after_and_times(after: int, times: int | None) -> None:
    fault = CommandFails(kind="command_fails", after=after, times=times)
    got = fired(FaultSchedule([fault], 0, "oak"), CommandFails, 12)
    last = 12 if times is None else after + times
    assert got == [after <= chance < last for chance in range(12)]


def test_no_fault_never_fires() -> None:
    assert FaultSchedule([], 0, "oak").fires(CommandFails) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(), st.text(max_size=5), st.lists(st.booleans(), max_size=30))
def test_decisions_do_not_depend_on_other_kinds(
    seed: int, scope: str, interleaving: Sequence[bool]
) -> None:
    faults = [fails(probability=0.5), CommandHangs(kind="command_hangs", probability=0.5)]
    alone = fired(FaultSchedule(faults, seed, scope), CommandFails, 10)
    schedule = FaultSchedule(faults, seed, scope)
    mixed = []
    for other in interleaving:
        if other:
            schedule.fires(CommandHangs)
    mixed = fired(schedule, CommandFails, 10)
    assert mixed == alone


def test_seed_and_scope_matter() -> None:
    faults = [fails(probability=0.5)]
    patterns = {
        tuple(fired(FaultSchedule(faults, seed, scope), CommandFails, 40))
        for seed in (0, 1)
        for scope in ("oak", "elm")
    }
    assert len(patterns) == 4


def test_probability_is_kept_in_the_long_run() -> None:
    got = fired(FaultSchedule([fails(probability=0.25)], 7, "oak"), CommandFails, 4000)
    assert 0.22 < sum(got) / len(got) < 0.28


def test_the_first_that_fires_wins_and_all_count() -> None:
    first = CommandFails(kind="command_fails", exit_code=1, after=1, times=1)
    second = CommandFails(kind="command_fails", exit_code=2, times=2)
    schedule = FaultSchedule([first, second], 0, "oak")
    codes = []
    for _ in range(4):
        fault = schedule.fires(CommandFails)
        codes.append(None if fault is None else fault.exit_code)
    assert codes == [2, 1, None, None]


def test_only_some_faults_of_a_kind_may_have_the_chance() -> None:
    honest = ResultTampered(kind="result_tampered", tamper="nan")
    liar = ResultTampered(kind="result_tampered", tamper="nan", consistent=True, after=1)
    schedule = FaultSchedule([honest, liar], 0, "oak")
    assert schedule.fires(ResultTampered, lambda one: one.consistent) is None
    assert schedule.fires(ResultTampered, lambda one: not one.consistent) is honest
    assert schedule.fires(ResultTampered, lambda one: one.consistent) is liar


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        RejectAgreement(kind="reject_agreement", probability=probability)
