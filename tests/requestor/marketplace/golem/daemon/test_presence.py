"""The daemon's absences: who waits, for how long, and what everybody is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.marketplace.golem.daemon.api import DaemonError
from requestor.marketplace.golem.daemon.presence import (
    AWAY_PROBE_SECONDS,
    SETTLING_SECONDS,
    SILENT_SECONDS,
    WATCH_SECONDS,
    DaemonGone,
    DaemonPresence,
    wait_present,
)

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime

REFUSED = DaemonError("GET /version/get", 0, "connection refused")


def now() -> float:
    """Seconds on the loop's clock."""
    return asyncio.get_running_loop().time()


@dataclass
class Daemon:
    """Answers, except in the intervals `away`; in those of `silent` it says nothing at all."""

    away: list[tuple[float, float]] = field(default_factory=list)
    silent: list[tuple[float, float]] = field(default_factory=list)
    heard: list[tuple[float, str]] = field(default_factory=list)
    asked: int = 0

    async def probe(self) -> None:
        self.asked += 1
        for _, end in [one for one in self.silent if one[0] <= now() < one[1]]:
            await asyncio.sleep(end - now())
        if any(start <= now() < end for start, end in self.away):
            raise REFUSED

    def daemon_away(self, reason: str) -> None:
        self.heard.append((round(now(), 6), f"away: {reason}"))

    def daemon_back(self, absence_seconds: float) -> None:
        self.heard.append((round(now(), 6), f"back: {absence_seconds:.1f}"))

    def daemon_gone(self, reason: str) -> None:
        self.heard.append((round(now(), 6), f"gone: {reason}"))


def test_a_daemon_that_is_there_is_asked_once_a_second(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def main() -> None:
        daemon = Daemon()
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.sleep(100.5 * WATCH_SECONDS)
            assert daemon.asked == 101
            assert not presence.is_unsettled
            assert presence.away_seconds == 0
        assert daemon.heard == []

    run_in_virtual_time(main())


def test_an_absence_is_told_and_measured(run_in_virtual_time: RunInVirtualTime) -> None:
    async def main() -> None:
        daemon = Daemon(away=[(3.5, 5.5)])
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.sleep(4.5)
            assert presence.is_unsettled
            assert presence.away_seconds == pytest.approx(0.5)
            await asyncio.sleep(1.5)
            assert daemon.heard[0] == (4.0, "away: nobody answers")
            seconds, text = daemon.heard[1]
            assert 5.5 <= seconds <= 5.5 + AWAY_PROBE_SECONDS
            assert text == f"back: {seconds - 4.0:.1f}"
            assert presence.is_unsettled
            await asyncio.sleep(SETTLING_SECONDS)
            assert not presence.is_unsettled
            assert presence.away_seconds == pytest.approx(seconds - 4.0)
            assert presence.returns == 1

    run_in_virtual_time(main())


def test_whoever_doubts_waits_for_a_question_asked_after_the_doubt(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def main() -> None:
        daemon = Daemon(away=[(2.25, 9.0)])
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.sleep(2.3)
            waiting = [asyncio.create_task(presence.until_present()) for _ in range(5)]
            await asyncio.sleep(0.1)
            assert daemon.heard == [(2.3, "away: nobody answers")]
            await asyncio.gather(*waiting)
            assert 9.0 <= now() <= 9.0 + AWAY_PROBE_SECONDS
            assert len(daemon.heard) == 2

    run_in_virtual_time(main())


def test_a_doubt_without_an_absence_unsettles_too(run_in_virtual_time: RunInVirtualTime) -> None:
    """The daemon may have restarted between the call that broke off and the question."""

    async def main() -> None:
        daemon = Daemon()
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.sleep(2.3)
            await presence.until_present()
            assert now() == pytest.approx(2.3)
            assert daemon.heard == [(2.3, "back: 0.0")]
            assert presence.is_unsettled

    run_in_virtual_time(main())


def test_patience_ends(run_in_virtual_time: RunInVirtualTime) -> None:
    async def main() -> None:
        daemon = Daemon(away=[(0.5, 1e9)])
        async with DaemonPresence(daemon.probe, 7.0, daemon) as presence:
            await asyncio.sleep(0.6)
            with pytest.raises(DaemonGone, match=r"away for 7 s \(nobody answers\)"):
                await presence.until_present()
            assert 7.6 <= now() <= 7.6 + AWAY_PROBE_SECONDS
            assert presence.is_gone
            with pytest.raises(DaemonGone):
                await presence.until_present()
            assert [text.split(":")[0] for _, text in daemon.heard] == ["away", "gone"]

    run_in_virtual_time(main())


def test_a_daemon_that_says_nothing_is_away(run_in_virtual_time: RunInVirtualTime) -> None:
    async def main() -> None:
        daemon = Daemon(silent=[(0.5, 26.0)])
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.sleep(1 + SILENT_SECONDS + 0.1)
            assert daemon.heard == [(1 + SILENT_SECONDS, "away: no answer for 10 s")]
            await presence.until_present()
            assert daemon.heard[1] == (26.0, "back: 25.0")

    run_in_virtual_time(main())


def test_the_end_of_the_session_is_the_end_of_waiting(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def main() -> None:
        daemon = Daemon(away=[(0.0, 1e9)])
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            waiting = [asyncio.create_task(presence.until_present()) for _ in range(2)]
            await asyncio.sleep(0.5)
            waiting.append(asyncio.create_task(presence.until_present()))
            await asyncio.sleep(0.5)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, DaemonGone)
        with pytest.raises(DaemonGone, match="the session with it is over"):
            await presence.until_present()

    run_in_virtual_time(main())


def test_a_listener_that_fails_leaves_nobody_waiting(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    class Deaf(Daemon):
        def daemon_away(self, reason: str) -> None:
            raise OSError("disk full")

    async def main() -> None:
        daemon = Deaf(away=[(0.0, 9.0)])
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            with pytest.raises(DaemonGone):
                await presence.until_present()
            assert "disk full" in daemon.heard[-1][1]

    run_in_virtual_time(main())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each run has its loop
@given(
    st.lists(st.tuples(st.floats(0.1, 30.0), st.floats(0.05, 20.0)), max_size=6),
    st.lists(st.floats(0.0, 150.0), max_size=8),
)
def test_nobody_waits_longer_than_the_daemon_is_away(
    run_in_virtual_time: RunInVirtualTime,
    gaps: list[tuple[float, float]],
    doubts: list[float],
) -> None:
    """However absences and doubts fall, waiting ends at the next answer."""
    away, at = [], 0.0
    for pause, length in gaps:
        away.append((at + pause, at + pause + length))
        at += pause + length

    async def doubt(presence: DaemonPresence, at_seconds: float) -> None:
        await asyncio.sleep(at_seconds)
        await presence.until_present()
        latest = at_seconds
        for start, end in away:  # one that begins before the next question counts too
            if start <= latest + AWAY_PROBE_SECONDS + 0.01:
                latest = max(latest, end)
        assert now() <= latest + AWAY_PROBE_SECONDS + 0.01

    async def main() -> None:
        daemon = Daemon(away=away)
        async with DaemonPresence(daemon.probe, 60.0, daemon) as presence:
            await asyncio.gather(*(doubt(presence, one) for one in doubts))
            await asyncio.sleep(max(0.0, at + 3 - now()))
            total = sum(end - start for start, end in away)
            assert presence.away_seconds <= total + (AWAY_PROBE_SECONDS * len(away)) + 1e-6
            told = [text.split(":")[0] for _, text in daemon.heard if text != "back: 0.0"]
            assert told == ["away", "back"] * (len(told) // 2)

    run_in_virtual_time(main())


def test_absences_do_not_count_while_waiting_for_work(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def main() -> None:
        away = [0.0]

        async def leave() -> None:
            await asyncio.sleep(4)
            for _ in range(20):
                await asyncio.sleep(0.5)
                away[0] += 0.5

        leaving = asyncio.create_task(leave())
        assert await wait_present(asyncio.sleep(12, "done"), 5.0, lambda: away[0]) == "done"
        with pytest.raises(TimeoutError):
            await wait_present(asyncio.Event().wait(), 5.0, lambda: away[0])
        assert now() == pytest.approx(12 + 5 + 2, abs=0.6)
        await leaving

    run_in_virtual_time(main())
