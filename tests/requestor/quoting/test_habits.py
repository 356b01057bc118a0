"""What past runs spent besides orders, read off a log."""

from __future__ import annotations

from typing import Any

import pytest

from requestor.quoting.habits import (
    DEFAULT_BETWEEN_SECONDS,
    Habit,
    Judging,
    guessed_overheads,
    habit_of,
    usual_overheads,
)
from requestor.quoting.simulation import Overheads
from requestor.training_run import events
from requestor.training_run.events import Event


def evaluated(purpose: str, seconds: float, episodes: int = 10) -> events.Evaluated:
    return events.Evaluated(1, purpose, episodes, 1.0, 0.0, 5.0, seconds)


def closed(round_: int) -> events.RoundClosed:
    return events.RoundClosed(round_, (0,), 8, 8, 1.0)


STARTED = events.RunStarted("r", "n", 2, 1, 8, "1", 0, is_resumed=False, parameters=1)


def log(outcome: str = "completed") -> list[tuple[float, Event]]:
    """Two rounds: begun at 100 s, done at 110 and 120 s, ended at 130 s."""
    finished = events.RunFinished(outcome, "", 2, 16, 1.0, 1.0, "1", 30.0)
    return [
        (100.0, evaluated("initial", 0.5)),
        (100.0, STARTED),
        (103.0, events.RoundStarted(0, 1, 0)),
        (110.0, closed(0)),
        (111.0, evaluated("candidate", 1.0)),
        (111.25, events.RoundStarted(1, 1, 0)),
        (120.0, closed(1)),
        (122.0, evaluated("candidate", 2.0)),
        (125.0, evaluated("final", 3.0, episodes=100)),
        (130.0, finished),
    ]


def test_a_run_of_two_rounds_by_hand() -> None:
    assert habit_of(log(), 102.0, 120.5) == Habit(
        before_seconds=2.0,
        between_seconds=0.25,  # 1.25 s, of which a second was spent on a model
        evaluation_seconds=0.2,  # the later of 0.1 and 0.2 s an episode
        final_seconds=0.03,
        ending_seconds=0.5,
        export_seconds=5.0,  # of the last 10 s two evaluations took 5
    )


@pytest.mark.parametrize("case", ["failed", "unfinished", "resumed", "no round", "never judged"])
def test_only_runs_that_went_well_in_one_go_tell(case: str) -> None:
    story = log("failed" if case == "failed" else "completed")
    if case == "unfinished":
        story = story[:-1]
    elif case == "resumed":
        story += [(140.0, STARTED)]
    elif case == "no round":
        story = [one for one in story if not isinstance(one[1], events.RoundClosed)]
    elif case == "never judged":
        story = [
            one
            for one in story
            if not (isinstance(one[1], events.Evaluated) and one[1].purpose == "candidate")
        ]
    assert habit_of(story, 102.0, 120.5) is None


def test_one_round_has_nothing_between() -> None:
    story = [one for one in log() if one[0] not in (111.0, 111.25, 110.0)]
    habit = habit_of(story, 102.0, 120.5)
    assert habit is not None
    assert habit.between_seconds == DEFAULT_BETWEEN_SECONDS


def habit(**changes: Any) -> Habit:
    usual = dict.fromkeys(
        (
            "before_seconds",
            "between_seconds",
            "evaluation_seconds",
            "final_seconds",
            "ending_seconds",
            "export_seconds",
        ),
        1.0,
    )
    return Habit(**{**usual, **changes})


def test_what_is_usual_is_the_median_for_as_many_episodes() -> None:
    judging = Judging(episodes=20, final_episodes=100, every_rounds=1)
    habits = [
        habit(evaluation_seconds=value, final_seconds=0.02, export_seconds=1.5)
        for value in (0.125, 0.2, 0.9)
    ]
    # after: 0.5 s of files, the last round's evaluation of 4 s and the final one of 2 s
    assert usual_overheads(habits, judging) == Overheads(1.0, 1.0, 4.0, 1.0, 6.5)
    assert usual_overheads([], judging) is None


def test_without_a_past_an_untrained_model_is_the_measure() -> None:
    found = guessed_overheads(0.01, Judging(20, 100, 1))
    # taken to play three times as long once it is trained
    assert found.evaluation_seconds == pytest.approx(0.6)
    assert found.after_seconds == pytest.approx(0.5 + 0.6 + 3.0)
