"""Bills are read page by page: each of them, whatever their times and their number."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ya_payment.exceptions import ApiException
from yarl import URL

from requestor.marketplace.golem.daemon.answers import is_passing
from requestor.marketplace.golem.daemon.api import (
    PAGE_EVENTS,
    PAGE_ROWS,
    DaemonAddress,
    DaemonApi,
    DaemonError,
)

api_error: Any = ApiException
START = datetime(2026, 11, 20, tzinfo=UTC)
MAX_ROWS = 15_000
"""About as many bills as fit into the largest answer that is read."""


class Listing(DaemonApi):
    """A daemon that lists bills as yagna does: debit notes by time, invoices in no order.

    `offsets` are microseconds since `START`.
    """

    def __init__(self, offsets: list[int], *, digits: str = "") -> None:
        super().__init__(DaemonAddress.from_environment({}))
        self._bills = [
            (START + timedelta(microseconds=offset), f"bill-{number}")
            for number, offset in enumerate(offsets)
        ]
        self._digits = digits
        self.calls = 0
        self.largest = 0

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        self.calls += 1
        query = parse_qs(urlsplit(url).query)
        after = datetime.fromisoformat(query["afterTimestamp"][0])
        found = [bill for bill in self._bills if bill[0] > after]
        if url.partition("?")[0].endswith("/debitNotes"):
            found.sort()
        page = found[: int(query["maxItems"][0])]
        self.largest = max(self.largest, len(page))
        return [
            {
                "invoiceId": name,
                "debitNoteId": name,
                "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%f}{self._digits}Z",
            }
            for moment, name in page
        ]

    def read(self, since: datetime = START - timedelta(seconds=1)) -> list[str]:
        """The ids of all debit notes, as they come."""

        async def read() -> list[str]:
            notes = self.debit_notes(since.timestamp())
            return [str(note["debitNoteId"]) async for note in notes]

        return asyncio.run(read())


CROWDS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3 * PAGE_ROWS)), max_size=12)
DIGITS = st.sampled_from(["", "179"])
"""More digits than microseconds have: daemons send nanoseconds."""


@given(CROWDS, DIGITS)
def test_every_bill_comes_exactly_once(crowds: list[tuple[int, int]], digits: str) -> None:
    offsets = [offset for offset, count in crowds for _ in range(count)]
    listing = Listing(offsets, digits=digits)
    expected = Counter(f"bill-{k}" for k in range(len(offsets)))
    assert Counter(listing.read()) == expected
    invoices = asyncio.run(listing.invoices(0.0))
    assert Counter(row["invoiceId"] for row in invoices) == expected


def test_more_bills_than_an_answer_can_hold() -> None:
    listing = Listing([1000 * number for number in range(3 * MAX_ROWS)])
    assert len(listing.read()) == 3 * MAX_ROWS
    assert listing.largest == PAGE_ROWS
    assert listing.calls < 1.1 * 3 * MAX_ROWS / PAGE_ROWS


class Endings(DaemonApi):
    """A daemon that tells of agreements' events as yagna does: at most 100, oldest first."""

    def __init__(self, offsets: list[int]) -> None:
        super().__init__(DaemonAddress.from_environment({}))
        moments = sorted(START + timedelta(microseconds=offset) for offset in offsets)
        self.events = [(moment, f"agreement-{k}") for k, moment in enumerate(moments)]

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        query = parse_qs(urlsplit(url).query)
        count = int(query["maxEvents"][0])
        assert 1 <= count <= 100
        after = datetime.fromisoformat(query["afterTimestamp"][0])
        kinds = ("AgreementTerminatedEvent", "AgreementApprovedEvent")
        return [
            {
                "eventType": kinds[int(name.rpartition("-")[2]) % 2],
                "agreementId": name,
                "eventDate": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
            }
            for moment, name in self.events
            if moment > after
        ][:count]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, PAGE_EVENTS - 2)), max_size=9))
def test_every_agreement_s_end_is_told(crowds: list[tuple[int, int]]) -> None:
    """However many there were, as long as a page is not all of one instant."""
    spread = {10 * offset: count for offset, count in crowds}  # crowds do not meet in an instant
    daemon = Endings([offset for offset, count in spread.items() for _ in range(count)])
    told = asyncio.run(daemon.agreement_endings(START.timestamp() - 1))
    ended = {name: moment for k, (moment, name) in enumerate(daemon.events) if k % 2 == 0}
    assert told == {name: pytest.approx(moment.timestamp()) for name, moment in ended.items()}


def test_bills_of_before_the_run_are_not_read() -> None:
    listing = Listing([0] * 5000 + [2_000_000] * 3)
    assert len(listing.read(START + timedelta(seconds=1))) == 3
    assert listing.calls == 1


@pytest.mark.parametrize("stamp", [None, "yesterday", 5])
def test_a_full_page_without_times_is_an_error(stamp: object) -> None:
    class Timeless(Listing):
        async def _call(self, method: str, url: str, body: Any = None) -> Any:
            return [{"debitNoteId": str(k), "timestamp": stamp} for k in range(PAGE_ROWS)]

    with pytest.raises(DaemonError, match="timestamp is missing or malformed"):
        Timeless([]).read()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        aiohttp.ClientConnectionError("reset by peer"),
        TimeoutError(),
        api_error(500),
        api_error(503),
        DaemonError("POST accept", 502, "no"),
        DaemonError("POST accept", 0, "no"),
    ],
)
def test_what_may_work_later(error: BaseException) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No allocation"),
        api_error(400),
        DaemonError("POST accept", 400, "no"),
        DaemonError("POST accept", 410, "released"),
    ],
)
def test_what_will_never_work(error: BaseException) -> None:
    assert not is_passing(error)


class Noting(DaemonApi):
    """Writes down what is asked for, and answers nothing."""

    def __init__(self) -> None:
        super().__init__(DaemonAddress.from_environment({}))
        self.asked: list[str] = []

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        self.asked.append(str(URL(url).relative().raw_path_qs))


def test_an_id_of_a_strangers_choice_is_no_path() -> None:
    """An issuer chooses its bills' ids, a provider its activities'."""
    api, name = Noting(), "../../x/accept?#"

    async def ask() -> None:
        await api.accept_invoice(name, "1", "A")
        await api.destroy_activity(name)
        for call in (api.usage, api.activity_state, api.agreement):
            with pytest.raises(DaemonError):
                await call(name)

    asyncio.run(ask())
    quoted = "..%2F..%2Fx%2Faccept%3F%23"
    assert api.asked == [
        f"/payment-api/v1/invoices/{quoted}/accept",
        f"/activity-api/v1/activity/{quoted}",
        f"/activity-api/v1/activity/{quoted}/usage",
        f"/activity-api/v1/activity/{quoted}/state",
        f"/market-api/v1/agreements/{quoted}",
    ]


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_of_any_spelling_can_be_compared(zone: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 00:00:00 {zone}\r\n"
        writer.write(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    async def ask() -> datetime | None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with DaemonApi(DaemonAddress.from_environment({"YAGNA_API_URL": url})) as api:
                return await api.date()

    assert asyncio.run(ask()) == START
