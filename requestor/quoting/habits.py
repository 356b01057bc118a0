"""What runs on this machine usually spend besides orders, read off the logs of past runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from requestor.quoting.simulation import Overheads
from requestor.training_run import events
from requestor.training_run.events import Event

TimedEvent = tuple[float, Event]

DEFAULT_BEFORE_SECONDS = 1.5
"""yapapi asks for its first agreement a second after the demand."""

DEFAULT_BETWEEN_SECONDS = 0.05
DEFAULT_ENDING_SECONDS = 0.3
DEFAULT_EXPORT_SECONDS = 0.5
LATER_SHARE = 0.5
"""Evaluations of the later rounds count: trained models often play longer."""

UNTRAINED_FACTOR = 3.0
"""Where only an untrained model was ever judged, a trained one is taken to play so much longer."""


@dataclass(frozen=True)
class Habit:
    """What one past run spent, in seconds; `evaluation` and `final` for one episode each."""

    before_seconds: float
    between_seconds: float
    evaluation_seconds: float
    final_seconds: float
    ending_seconds: float
    export_seconds: float


@dataclass(frozen=True)
class Judging:
    """How models are judged: episodes after a round and at the end, and every how many rounds."""

    episodes: int
    final_episodes: int
    every_rounds: int


def habit_of(
    log: Sequence[TimedEvent], agreed_unix_seconds: float, ended_unix_seconds: float
) -> Habit | None:
    """Return the habit of a run of one session that went to its end, else None.

    `agreed_unix_seconds` is when its first agreement was approved, `ended_unix_seconds` when its
    last one ended.
    """
    finished = [(at, event) for at, event in log if isinstance(event, events.RunFinished)]
    started = [at for at, event in log if isinstance(event, events.RunStarted)]
    closed = [at for at, event in log if isinstance(event, events.RoundClosed)]
    if len(finished) != 1 or len(started) != 1 or not closed:
        return None
    candidate = _episode_seconds(log, "candidate")
    final = _episode_seconds(log, "final")
    if not candidate or finished[0][1].outcome not in ("completed", "target_reached"):
        return None
    after = [
        event.seconds
        for at, event in log
        if isinstance(event, events.Evaluated) and at > closed[-1]
    ]
    return Habit(
        before_seconds=max(0.0, agreed_unix_seconds - log[0][0]),
        between_seconds=median(_gaps(log)) if len(closed) > 1 else DEFAULT_BETWEEN_SECONDS,
        evaluation_seconds=median(candidate[int(len(candidate) * LATER_SHARE) :]),
        final_seconds=final[-1] if final else median(candidate),
        ending_seconds=max(0.0, ended_unix_seconds - closed[-1]),
        export_seconds=max(0.0, finished[0][0] - closed[-1] - sum(after)),
    )


def usual_overheads(habits: Sequence[Habit], judging: Judging) -> Overheads | None:
    """Return the medians over past runs of the same kind, None if there are none."""
    if not habits:
        return None
    evaluation = judging.episodes * median(one.evaluation_seconds for one in habits)
    final = judging.final_episodes * median(one.final_seconds for one in habits)
    ending = median(one.ending_seconds for one in habits)
    export = median(one.export_seconds for one in habits)
    return Overheads(
        before_seconds=median(one.before_seconds for one in habits),
        between_seconds=median(one.between_seconds for one in habits),
        evaluation_seconds=evaluation,
        ending_seconds=ending,
        after_seconds=max(0.0, export - ending) + evaluation + final,
    )


def guessed_overheads(untrained_episode_seconds: float, judging: Judging) -> Overheads:
    """Return the overheads of a machine without past runs, from one evaluation."""
    episode = UNTRAINED_FACTOR * untrained_episode_seconds
    evaluation = judging.episodes * episode
    return Overheads(
        before_seconds=DEFAULT_BEFORE_SECONDS,
        between_seconds=DEFAULT_BETWEEN_SECONDS,
        evaluation_seconds=evaluation,
        ending_seconds=DEFAULT_ENDING_SECONDS,
        after_seconds=DEFAULT_EXPORT_SECONDS + evaluation + judging.final_episodes * episode,
    )


def _episode_seconds(log: Iterable[TimedEvent], purpose: str) -> list[float]:
    return [
        event.seconds / event.episodes
        for _, event in log
        if isinstance(event, events.Evaluated) and event.purpose == purpose and event.episodes
    ]


def _gaps(log: Iterable[TimedEvent]) -> list[float]:
    """Return the time between rounds, less what was spent on evaluations."""
    gaps: list[float] = []
    since: float | None = None
    evaluated = 0.0
    for at, event in log:
        if isinstance(event, events.RoundClosed):
            since, evaluated = at, 0.0
        elif isinstance(event, events.Evaluated):
            evaluated += event.seconds
        elif isinstance(event, events.RoundStarted) and since is not None:
            gaps.append(max(0.0, at - since - evaluated))
    return gaps or [DEFAULT_BETWEEN_SECONDS]
