"""yapapi's calls to the daemon, made again when the daemon was away.

yapapi ends a whole session when one of its polls finds nobody listening. Here a call that failed
for that reason waits until the daemon is back. A call that may have done its work before the
connection broke is only made again if a second time does no harm.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yapapi.config import ApiConfig
from yapapi.rest import Configuration

from requestor.marketplace.golem.daemon.api import (
    DaemonAddress,
    DaemonApi,
    DaemonError,
    message_of,
)
from requestor.marketplace.golem.daemon.presence import (
    SETTLING_SECONDS,
    DaemonGone,
    DaemonPresence,
)

logger = logging.getLogger(__name__)

SETTLING_PAUSE_SECONDS = 0.5
MAX_CUTS = 5
"""A call that breaks off so often, while the daemon answers others, is given up."""

CUT_PAUSE_SECONDS = 0.2

MAX_NO_SECONDS = SETTLING_SECONDS
"""Who is answered with a no for so long, absences not counted, is not just a little too early."""

_REPEATABLE_POSTS = ("demands", "terminate", "accept", "wait", "exec")
"""An exe-unit executes one script at a time, and refuses a second as long as it does."""

_NO_ADDRESS = "endpoint address not found"
_REMOTE_NO = "Remote Terminate"


class Remedy(Enum):
    """What to do about a call that failed."""

    NONE = "let the caller have the error"
    REPEAT = "make it again"
    LOOK = "find out whether it was done before it is made again"


class Failure(Enum):
    """What is known of a call that failed."""

    REFUSED = "the daemon was there and said no"
    UNDELIVERED = "it never reached anybody"
    CUT = "nobody knows what it did"


def diagnose(error: BaseException, *, is_unsettled: bool) -> Failure:
    """Say what a failed call may have done.

    `is_unsettled`: the daemon has just come back. Until it has found providers and services
    again, it refuses what it would not refuse later.
    """
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure.UNDELIVERED
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return Failure.CUT
    if isinstance(error, aiohttp.ClientOSError | ConnectionError):
        return Failure.CUT
    status = getattr(error, "status", None)
    if not is_unsettled or not isinstance(status, int):
        return Failure.REFUSED
    said = _text(getattr(error, "body", None))
    if _REMOTE_NO in said:  # the provider's own answer
        return Failure.REFUSED
    if status in (401, 503) or (status == 404 and not said) or _NO_ADDRESS in said:
        return Failure.UNDELIVERED
    return Failure.CUT if status >= 500 and status != 504 else Failure.REFUSED


def remedy_for(failure: Failure, method: str, url: str) -> Remedy:
    """Say what to do about a call after the daemon's return."""
    if failure is Failure.REFUSED:
        return Remedy.NONE
    last = urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]
    if failure is Failure.UNDELIVERED or method in ("GET", "DELETE") or last in _REPEATABLE_POSTS:
        return Remedy.REPEAT
    return Remedy.LOOK if last == "confirm" else Remedy.NONE


@dataclass
class PatientCalls:
    """Stands in front of the `request` of one of yapapi's REST clients."""

    send: Callable[..., Awaitable[Any]]
    presence: DaemonPresence

    async def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request; if the daemon is away, wait for it.

        Raises:
            DaemonGone: the daemon stayed away.
            Exception: whatever `send` raises for other reasons.
        """
        cuts = 0
        no_since: float | None = None
        failure: Failure | None = None
        while True:
            try:
                return await self.send(method, url, **options)
            except Exception as error:
                if failure is Failure.CUT and method == "DELETE" and _is_gone(error):
                    return _Done()
                failure = diagnose(error, is_unsettled=self._may_pass)
                if failure is Failure.REFUSED:
                    raise
                said = _text(getattr(error, "body", None)) or repr(error)
                logger.info("%s %s: %s: %s", method, urlsplit(url).path, failure.value, said)
                if isinstance(getattr(error, "status", None), int):
                    no_since = self._present_seconds if no_since is None else no_since
                    if self._present_seconds - no_since >= MAX_NO_SECONDS:
                        raise
                    await asyncio.sleep(SETTLING_PAUSE_SECONDS)
                else:
                    away_seconds = self.presence.away_seconds
                    # even if the caller gets the error: then it is known who is to blame
                    await self.presence.until_present()
                    was_away = self.presence.away_seconds > away_seconds
                    cuts = 0 if was_away else cuts + 1
                    no_since = None if was_away else no_since
                remedy = remedy_for(failure, method, url)
                if remedy is Remedy.NONE or cuts > MAX_CUTS:
                    raise
            if cuts > 1:
                await asyncio.sleep(CUT_PAUSE_SECONDS * cuts)
            if remedy is Remedy.LOOK and (answer := await self._agreement(url, options)):
                return answer

    @property
    def _may_pass(self) -> bool:
        """Whether a no may become a yes: not if nobody waits for the daemon any more."""
        return self.presence.is_unsettled and not self.presence.is_gone

    @property
    def _present_seconds(self) -> float:
        """The loop's time, which stands still while the daemon is away."""
        return asyncio.get_running_loop().time() - self.presence.away_seconds

    async def _agreement(self, url: str, options: dict[str, Any]) -> Any:
        """Return the daemon's answer about an agreement, None while it is a mere proposal."""
        answer = await self.request("GET", url.rsplit("/", 1)[0], headers=options.get("headers"))
        state = json.loads(answer.data)["state"]
        return None if state == "Proposal" else answer


class PatientConfiguration(Configuration):
    """Makes REST clients for yapapi whose calls wait for the daemon."""

    def __init__(self, api_config: ApiConfig, presence: DaemonPresence) -> None:
        """Reach the daemon of `api_config`, with the patience of `presence`."""
        super().__init__(api_config)
        self._presence = presence

    def market(self) -> Any:
        """Return a client of the market API."""
        return self._patient(super().market())

    def payment(self) -> Any:
        """Return a client of the payment API."""
        return self._patient(super().payment())

    def activity(self) -> Any:
        """Return a client of the activity API."""
        return self._patient(super().activity())

    def _patient(self, client: Any) -> Any:
        rest: Any = client.rest_client
        rest.request = PatientCalls(rest.request, self._presence).request
        return client


class PatientDaemonApi(DaemonApi):
    """Our own calls to the daemon, with the same patience."""

    def __init__(self, address: DaemonAddress, presence: DaemonPresence) -> None:
        """Prepare a connection to `address`."""
        super().__init__(address)
        self._presence = presence

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        attempts = 0
        while True:
            try:
                return await super()._call(method, url, body)
            except DaemonError as error:
                failure = diagnose(error.__cause__ or error, is_unsettled=False)
                attempts += 1
                if remedy_for(failure, method, url) is not Remedy.REPEAT or attempts > MAX_CUTS:
                    raise
                try:
                    await self._presence.until_present()
                except DaemonGone:
                    raise error from None


@dataclass(frozen=True)
class _Done:
    """What the first of two deletions would have been answered."""

    status: int = 200
    data: bytes = b""

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return default

    def getheaders(self) -> dict[str, str]:
        return {}


def _is_gone(error: BaseException) -> bool:
    return getattr(error, "status", None) in (404, 410)


def _text(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    return message_of(text) if text else ""
