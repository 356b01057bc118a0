"""A provider's calls of a daemon: what is sent, and answers that are late, huge or nonsense."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiohttp import web

from requestor.mock_golem.testnet import provider_rest
from requestor.mock_golem.testnet.provider_rest import DaemonAway, ProviderRest, RestRefusal

pytestmark = pytest.mark.asyncio
Answer = Callable[[web.Request], web.Response]


class Daemon:
    """Answers every request alike, and notes the last one."""

    def __init__(self) -> None:
        self.answer: Answer = lambda request: web.json_response(None)
        self.requests: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as told."""
        self.requests.append(request)
        return self.answer(request)


@pytest_asyncio.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon that says what it is told to."""
    one = Daemon()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest_asyncio.fixture
async def rest(daemon: Daemon) -> AsyncIterator[ProviderRest]:
    """A provider's calls."""
    async with ProviderRest(daemon.url, "secret", "session") as calls:
        yield calls


def says(text: str, status: int = 200) -> Answer:
    """Answer this text."""
    return lambda request: web.Response(text=text, status=status)


async def test_calls_carry_key_and_session(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = says("[]")
    assert await rest.activity_events("2026-11-20T08:00:00.000000123Z") == []
    (request,) = daemon.requests
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.path == "/activity-api/v1/events"
    assert request.query["appSessionId"] == "session"
    # to the nanosecond: events are read after this instant
    assert request.query["afterTimestamp"] == "2026-11-20T08:00:00.000000123Z"


async def test_what_is_created_is_named(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = lambda request: web.json_response({"debitNoteId": "d1"}, status=201)
    assert await rest.issue("debitNotes", {"activityId": "a"}) == "d1"
    daemon.answer = lambda request: web.json_response("offer1", status=201)
    assert await rest.publish({"name": 1}, "()") == "offer1"


async def test_a_bill_without_an_id_is_no_bill(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = says('{"invoiceId": 7}')
    with pytest.raises(RestRefusal, match="without an id"):
        await rest.issue("invoices", {})


async def test_only_agreements_as_a_provider_count(daemon: Daemon, rest: ProviderRest) -> None:
    listed = [{"id": "a", "role": "Provider"}, {"id": "b", "role": "Requestor"}, "?", {}]
    daemon.answer = says(json.dumps(listed))
    assert await rest.approved() == ["a"]


async def test_nothing_within_the_time_is_no_event(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = says('{"message": "Timeout"}', 408)
    assert await rest.agreement_events("2026-11-20T08:00:00Z") == []


async def test_refusals_carry_the_status(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = says('{"message": "no"}' + " " * 1000, 410)
    with pytest.raises(RestRefusal, match="410") as refusal:
        await rest.approve("a")
    assert refusal.value.status == 410
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("text", ["nonsense", "[" * 100_000, "{"])
async def test_nonsense_is_refused(daemon: Daemon, rest: ProviderRest, text: str) -> None:
    daemon.answer = says(text)
    with pytest.raises(RestRefusal, match="no JSON"):
        await rest.invoices()


@pytest.mark.parametrize("text", ["null", "7", '{"a": 1}', '"text"'])
async def test_lists_must_be_lists(daemon: Daemon, rest: ProviderRest, text: str) -> None:
    daemon.answer = says(text)
    with pytest.raises(DaemonAway, match="expected a list"):
        await rest.invoices()


async def test_answers_are_bounded(
    daemon: Daemon, rest: ProviderRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_rest, "MAX_ANSWER_BYTES", 1000)
    daemon.answer = says("[" + " " * 2000 + "]")
    with pytest.raises(RestRefusal, match="more than"):
        await rest.invoices()


async def test_redirections_are_not_followed(daemon: Daemon, rest: ProviderRest) -> None:
    daemon.answer = lambda request: web.Response(status=302, headers={"Location": "/elsewhere"})
    with pytest.raises(RestRefusal, match="302"):
        await rest.invoices()
    assert len(daemon.requests) == 1


async def test_a_daemon_that_is_not_there_is_away() -> None:
    async with ProviderRest("http://127.0.0.1:9", "secret", "session") as calls:
        with pytest.raises(DaemonAway, match="invoices") as away:
            await calls.invoices()
    assert "secret" not in str(away.value)


async def test_a_daemon_that_hangs_up_is_away(daemon: Daemon, rest: ProviderRest) -> None:
    def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    daemon.answer = hang_up
    with pytest.raises(DaemonAway):
        await rest.invoices()
