"""The daemon goes away in the middle of a session and comes back: who is still at work?

yapapi's engine is kept alive meanwhile (`patient_calls.py`), so that leases, orders in flight and
accounts stay what they are. Here the person is told, and providers that did not outlive the
absence are parted from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.presence import SETTLING_SECONDS, DaemonPresence

logger = logging.getLogger(__name__)

ROLL_CALL_PAUSE_SECONDS = 0.5
STATE_SECONDS = 5.0
LIVE_STATES = frozenset({"New", "Initialized", "Deployed", "Ready"})


@dataclass(frozen=True)
class Crew:
    """Those who worked for a session when its daemon went away.

    activities: (agreement id, activity id) of all that run.
    name_of: the provider's name of an agreement.
    part: ends the lease of an agreement, for a reason, without blame.
    """

    activities: Callable[[], Iterable[tuple[str, str]]]
    name_of: Callable[[str], str]
    part: Callable[[str, str], None]


class Reconnection:
    """Holds a session together over its daemon's absences; `presence` says whether it is there."""

    def __init__(
        self,
        api: DaemonApi,
        crew: Crew,
        patience_seconds: float,
        *,
        notice: Callable[[str], None],
        declare_gone: Callable[[str], None],
    ) -> None:
        """Tell `notice` of absences, and `declare_gone` of the one that outlasts patience."""
        self._api = api
        self._crew = crew
        self._notice = notice
        self._declare_gone = declare_gone
        self._roll_call: asyncio.Task[None] | None = None
        self.presence = DaemonPresence(api.version, patience_seconds, self)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        await self.presence.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop watching, and looking who is there."""
        self._end_roll_call()
        await self.presence.__aexit__()

    def daemon_away(self, reason: str) -> None:
        """Tell that everything waits; see `PresenceListener`."""
        self._end_roll_call()
        self._notice(
            f"the daemon is gone ({reason}); what is rented lives on, "
            f"waiting up to {self.presence.patience_seconds:g} s for it"
        )

    def daemon_back(self, absence_seconds: float) -> None:
        """Look who is still there; see `PresenceListener`."""
        self._end_roll_call()
        self._roll_call = asyncio.create_task(self._take_over(absence_seconds))

    def daemon_gone(self, reason: str) -> None:
        """See `PresenceListener`."""
        self._declare_gone(reason)

    def _end_roll_call(self) -> None:
        if self._roll_call is not None:
            self._roll_call.cancel()

    async def _take_over(self, absence_seconds: float) -> None:
        crew = dict(self._crew.activities())
        lost = await call_roll(self._api, crew, SETTLING_SECONDS)
        for agreement_id, state in lost.items():
            self._crew.part(agreement_id, f"did not outlive the daemon's absence: {state}")
        text = f"{len(crew) - len(lost)} of {len(crew)} providers taken over"
        if lost:
            names = sorted(f"{self._crew.name_of(name)} ({why})" for name, why in lost.items())
            text += f"; lost: {', '.join(names)}"
        if not crew:
            text = "nobody was at work"
        if absence_seconds or lost:
            self._notice(f"the daemon is back after {absence_seconds:.1f} s: {text}")
        else:
            logger.info("the daemon broke off a call and is there: %s", text)


async def call_roll(
    api: DaemonApi, activities: Mapping[str, str], patience_seconds: float
) -> dict[str, str]:
    """Return what became of those activities that are not alive, by agreement.

    Waits `patience_seconds` at most for a provider to be in reach again.
    """
    states = await asyncio.gather(
        *(_state(api, activity_id, patience_seconds) for activity_id in activities.values())
    )
    return {
        agreement_id: state.lower()
        for agreement_id, state in zip(activities, states, strict=True)
        if state not in LIVE_STATES
    }


async def _state(api: DaemonApi, activity_id: str, patience_seconds: float) -> str:
    """Return an activity's state; if nobody knows of life or death, why."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while True:
        try:
            async with asyncio.timeout(STATE_SECONDS):
                state = await api.activity_state(activity_id)
        except TimeoutError:
            state = "no answer"
        except DaemonError as error:
            state = error.message
        if state in LIVE_STATES or state == "Terminated" or loop.time() >= deadline:
            return state
        await asyncio.sleep(ROLL_CALL_PAUSE_SECONDS)
