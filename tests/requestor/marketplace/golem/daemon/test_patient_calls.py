"""Which of yapapi's calls are made again when the daemon was away, and which must not be."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from ya_market.exceptions import ApiException

from requestor.marketplace.golem.daemon.api import DaemonError
from requestor.marketplace.golem.daemon.patient_calls import (
    MAX_CUTS,
    MAX_NO_SECONDS,
    Failure,
    PatientCalls,
    Remedy,
    diagnose,
    remedy_for,
)
from requestor.marketplace.golem.daemon.presence import (
    SETTLING_SECONDS,
    DaemonGone,
    DaemonPresence,
)

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime

MARKET, ACTIVITY, PAYMENT = (
    f"http://127.0.0.1:7465/{name}-api/v1" for name in ("market", "activity", "payment")
)
NO_ADDRESS = (
    "GSB error: Remote service at `/net/0x1/exeunit/a/Exec` error: GSB failure: Bad request: "
    "endpoint address not found"
)


def refused() -> aiohttp.ClientConnectorError:
    """Nobody listens."""
    key: Any = SimpleNamespace(host="127.0.0.1", port=7465, ssl=True, is_ssl=False)
    return aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "refused"))


def answered(status: int, message: str | None = None) -> Exception:
    """The daemon said no."""
    make: Any = ApiException
    error: Any = make(status=status, reason="")
    error.body = json.dumps({"message": message}).encode() if message else b""
    assert isinstance(error, Exception)
    return error


# --- decisions -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_unsettled", [True, False])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(), Failure.UNDELIVERED),
        (aiohttp.ServerDisconnectedError(), Failure.CUT),
        (aiohttp.ClientOSError(104, "reset"), Failure.CUT),
        (aiohttp.ClientPayloadError("half an answer"), Failure.CUT),
        (ConnectionResetError(), Failure.CUT),
        (TimeoutError(), Failure.REFUSED),
        (ValueError("not JSON"), Failure.REFUSED),
        (DaemonGone("for good"), Failure.REFUSED),
        (answered(400, "no"), Failure.REFUSED),
        (answered(408, "Timeout"), Failure.REFUSED),
        (answered(410, "over"), Failure.REFUSED),
        (answered(404, "Subscription [x] not found."), Failure.REFUSED),
    ],
    ids=str,
)
def test_what_a_failed_call_may_have_done(
    error: Exception, expected: Failure, is_unsettled: bool
) -> None:
    assert diagnose(error, is_unsettled=is_unsettled) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answered(500, NO_ADDRESS), Failure.UNDELIVERED),
        (answered(404), Failure.UNDELIVERED),
        (answered(401), Failure.UNDELIVERED),
        (answered(503), Failure.UNDELIVERED),
        (answered(500, "GSB error: Service receiver was cancelled"), Failure.CUT),
    ],
    ids=str,
)
def test_a_daemon_that_has_just_come_back_refuses_what_it_will_not_refuse_later(
    error: Exception, expected: Failure
) -> None:
    assert diagnose(error, is_unsettled=True) is expected
    assert diagnose(error, is_unsettled=False) is Failure.REFUSED


ONCE = [
    ("POST", f"{MARKET}/agreements"),
    ("POST", f"{MARKET}/demands/d/proposals/p"),
    ("POST", f"{ACTIVITY}/activity"),
    ("POST", f"{PAYMENT}/allocations"),
]
AGAIN = [
    ("GET", f"{MARKET}/demands/d/events"),
    ("GET", f"{ACTIVITY}/activity/a/exec/b"),
    ("GET", f"{PAYMENT}/invoiceEvents"),
    ("DELETE", f"{ACTIVITY}/activity/a"),
    ("DELETE", f"{PAYMENT}/allocations/a"),
    ("POST", f"{ACTIVITY}/activity/a/exec"),
    ("POST", f"{MARKET}/demands"),
    ("POST", f"{MARKET}/agreements/g/wait"),
    ("POST", f"{MARKET}/agreements/g/terminate"),
    ("POST", f"{PAYMENT}/invoices/i/accept"),
    ("POST", f"{PAYMENT}/debitNotes/n/accept"),
]


@pytest.mark.parametrize(("method", "url"), ONCE)
def test_what_could_be_done_twice_is_not_done_again(method: str, url: str) -> None:
    assert remedy_for(Failure.CUT, method, url) is Remedy.NONE


@pytest.mark.parametrize(("method", "url"), AGAIN)
def test_what_cannot_be_done_twice_is_done_again(method: str, url: str) -> None:
    assert remedy_for(Failure.CUT, method, url) is Remedy.REPEAT


@pytest.mark.parametrize(("method", "url"), [*ONCE, *AGAIN])
def test_what_reached_nobody_is_done_again_and_a_no_is_a_no(method: str, url: str) -> None:
    assert remedy_for(Failure.UNDELIVERED, method, url) is Remedy.REPEAT
    assert remedy_for(Failure.REFUSED, method, url) is Remedy.NONE


# --- calls -----------------------------------------------------------------------------------


class Presence:
    """The daemon is away for `away_seconds` whenever somebody asks."""

    def __init__(self, absence_seconds: float = 2.0) -> None:
        self.absence_seconds = absence_seconds
        self.away_seconds = 0.0
        self.waits = 0
        self.is_gone = False
        self._settled = float("-inf")

    @property
    def is_unsettled(self) -> bool:
        return asyncio.get_running_loop().time() < self._settled

    async def until_present(self) -> None:
        self.waits += 1
        await asyncio.sleep(self.absence_seconds)
        self.away_seconds += self.absence_seconds
        self._settled = asyncio.get_running_loop().time() + SETTLING_SECONDS


class Daemon:
    """Answers calls as its `script` says, then with "done"; notes them all."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[tuple[str, str]] = []

    async def send(self, method: str, url: str, **options: Any) -> Any:
        self.calls.append((method, url))
        answer = self.script.pop(0) if self.script else "done"
        if isinstance(answer, Exception):
            raise answer
        return answer


def call(
    run: RunInVirtualTime, daemon: Daemon, method: str, url: str, absence_seconds: float = 2.0
) -> tuple[Any, float, Presence]:
    """Make a call; return the answer, the seconds it took and what the presence saw."""
    presence = Presence(absence_seconds)

    async def main() -> tuple[Any, float]:
        stand_in: Any = presence
        answer = await PatientCalls(daemon.send, stand_in).request(method, url)
        return answer, asyncio.get_running_loop().time()

    return *run(main()), presence


@pytest.mark.parametrize(("method", "url"), AGAIN)
def test_a_call_waits_for_the_daemon(
    run_in_virtual_time: RunInVirtualTime, method: str, url: str
) -> None:
    daemon = Daemon(aiohttp.ServerDisconnectedError(), refused(), refused())
    answer, seconds, _ = call(run_in_virtual_time, daemon, method, url)
    assert answer == "done"
    assert seconds == pytest.approx(6.0)
    assert daemon.calls == [(method, url)] * 4


@pytest.mark.parametrize(("method", "url"), ONCE)
def test_the_caller_hears_of_a_call_that_broke_off_once_it_is_known_why(
    run_in_virtual_time: RunInVirtualTime, method: str, url: str
) -> None:
    daemon = Daemon(refused(), aiohttp.ServerDisconnectedError())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        call(run_in_virtual_time, daemon, method, url)
    assert len(daemon.calls) == 2


def test_a_call_that_always_breaks_off_is_given_up(run_in_virtual_time: RunInVirtualTime) -> None:
    daemon = Daemon(*[aiohttp.ServerDisconnectedError()] * 100)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        call(run_in_virtual_time, daemon, "GET", f"{MARKET}/demands/d/events", 0.0)
    assert len(daemon.calls) == MAX_CUTS + 1


def test_a_provider_that_is_not_yet_in_reach_is_called_again(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    daemon = Daemon(refused(), *[answered(500, NO_ADDRESS)] * 6)
    answer, seconds, _ = call(run_in_virtual_time, daemon, "POST", f"{ACTIVITY}/activity/a/exec")
    assert answer == "done"
    assert seconds == pytest.approx(2.0 + 6 * 0.5)


def test_a_provider_that_stays_out_of_reach_is_out_of_reach(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    daemon = Daemon(refused(), *[answered(500, NO_ADDRESS)] * 1000)
    with pytest.raises(ApiException):
        call(run_in_virtual_time, daemon, "GET", f"{ACTIVITY}/activity/a/exec/b")
    assert len(daemon.calls) == pytest.approx(SETTLING_SECONDS / 0.5, abs=3)


def test_nothing_is_asked_again_of_a_daemon_that_nobody_waits_for_any_more(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def away() -> None:
        raise DaemonError("GET /version/get", 503, "no upstream")

    async def main() -> None:
        listener: Any = SimpleNamespace(daemon_away=lambda _: None, daemon_gone=lambda _: None)
        async with DaemonPresence(away, 60.0, listener) as presence:
            await asyncio.sleep(0.1)  # the first question is asked
            daemon = Daemon(*[answered(503)] * 1000)
            calls = PatientCalls(daemon.send, presence)
            with pytest.raises(ApiException):
                await calls.request("DELETE", f"{PAYMENT}/allocations/a")
            # it waited as long as anybody did
            assert asyncio.get_running_loop().time() == pytest.approx(60.0, abs=1.0)
            assert presence.is_gone
            before = len(daemon.calls)
            with pytest.raises(ApiException):
                await calls.request("DELETE", f"{PAYMENT}/allocations/a")
            assert len(daemon.calls) == before + 1

    run_in_virtual_time(main())


def test_a_no_that_does_not_pass_is_one_even_if_others_doubt_the_daemon_for_ever(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    class Doubted(Presence):
        is_unsettled = True

    async def main() -> None:
        stand_in: Any = Doubted()
        daemon = Daemon(*[answered(503)] * 1000)
        with pytest.raises(ApiException):
            await PatientCalls(daemon.send, stand_in).request("GET", f"{PAYMENT}/allocations")
        assert asyncio.get_running_loop().time() == pytest.approx(MAX_NO_SECONDS)
        assert len(daemon.calls) == MAX_NO_SECONDS / 0.5 + 1

    run_in_virtual_time(main())


def test_other_errors_reach_the_caller_at_once(run_in_virtual_time: RunInVirtualTime) -> None:
    for error in (answered(500, NO_ADDRESS), answered(401), TimeoutError(), ValueError("what")):
        daemon = Daemon(error)
        with pytest.raises(type(error)):
            call(run_in_virtual_time, daemon, "GET", f"{ACTIVITY}/activity/a/state")
        assert len(daemon.calls) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_at_the_second_deletion_was_deleted_by_the_first(
    run_in_virtual_time: RunInVirtualTime, status: int
) -> None:
    url = f"{PAYMENT}/allocations/a"
    gone = answered(status, "Allocation gone")
    daemon = Daemon(aiohttp.ServerDisconnectedError(), gone)
    answer, _, _ = call(run_in_virtual_time, daemon, "DELETE", url)
    assert (answer.status, answer.data, answer.getheader("content-type")) == (200, b"", None)
    with pytest.raises(ApiException):
        call(run_in_virtual_time, Daemon(gone), "DELETE", url)


@pytest.mark.parametrize(
    ("state", "confirms"), [("Proposal", 2), ("Pending", 1), ("Approved", 1), ("Rejected", 1)]
)
def test_an_agreement_is_not_confirmed_twice(
    run_in_virtual_time: RunInVirtualTime, state: str, confirms: int
) -> None:
    """The second time the daemon says no, and yapapi would leave behind an agreement in force."""
    url = f"{MARKET}/agreements/g/confirm"
    found = SimpleNamespace(data=json.dumps({"state": state}).encode())
    daemon = Daemon(aiohttp.ServerDisconnectedError(), refused(), found)
    call(run_in_virtual_time, daemon, "POST", url)
    assert daemon.calls.count(("POST", url)) == confirms
    assert daemon.calls.count(("GET", f"{MARKET}/agreements/g")) == 2


