"""Long agreements are paid for while they last: hours pass here on a clock that is moved by hand.

The same clock is the mock daemon's, yapapi's where it counts debit notes, and our bookkeeper's.
"""

from __future__ import annotations

import datetime as dates
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.renting import rental
from requestor.marketplace.money.ledger_entries import DebitNoteAccepted, read_entries
from requestor.marketplace.money.statement import make_statement
from requestor.marketplace.ports import LeaseLost
from requestor.mock_golem import records
from requestor.mock_golem.clock import ManualClock
from requestor.mock_golem.daemon import DaemonSettings, MockDaemon
from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit, Usage
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.identifiers import new_document_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.requestor.marketplace.golem.conftest import Market

pytestmark = pytest.mark.asyncio

HOUR = 3600.0
NOTE_SECONDS = 1800.0
PROVIDER = (
    "{name: oak, price: {start_glm: 0.01, cpu_hour_glm: 0, hour_glm: 0.01}, "
    f"terms: {{debit_note_interval_seconds: {NOTE_SECONDS:g}}}}}"
)


@dataclass
class Afternoon:
    """A market, and the clock by which all that counts is done."""

    market: Market
    daemon: MockDaemon
    clock: ManualClock

    async def pass_hours(self, hours: float) -> None:
        """Let time pass from note to note; each is answered, as it would be within seconds."""
        for _ in range(round(hours * HOUR / NOTE_SECONDS)):
            before = len(self.notes)
            await self.clock.advance(NOTE_SECONDS)
            await self.market.until(partial(self._is_answered, before))

    def _is_answered(self, before: int) -> bool:
        return len(self.notes) > before and self.notes[-1].status == "ACCEPTED"

    @property
    def notes(self) -> list[records.DebitNote]:
        """The debit notes so far, oldest first."""
        return list(self.daemon.books.debit_notes.values())

    @property
    def payable(self) -> list[bool]:
        """Which of the notes are to be paid at once."""
        return [note.payment_due_date is not None for note in self.notes]


@pytest_asyncio.fixture
async def afternoon(
    tmp_path: Path,
    worker_path: str,
    market_at: Callable[[Path, DaemonAddress], Market],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Afternoon]:
    clock = ManualClock(dates.datetime.now(dates.UTC))

    class Moved(dates.datetime):
        @classmethod
        def now(cls, tz: dates.tzinfo | None = None) -> Any:
            return clock.now() if tz else clock.now().replace(tzinfo=None)

    def seconds() -> float:
        return clock.now().timestamp()

    def launch(spec: ContainerSpec, faults: Callable[[str], CommandFaults]) -> ExeUnit:
        started = seconds()

        class Metered(ExeUnit):
            _last = Usage(0.0, 0.0)

            def usage(self) -> Usage:
                if self.state != "Terminated":
                    self._last = Usage(cpu_seconds=0.0, duration_seconds=seconds() - started)
                return self._last

        return Metered(spec, GftpStore(tmp_path / "state" / "gftp" / "store"), faults)

    monkeypatch.setattr("yapapi.engine.datetime", Moved)
    monkeypatch.setattr(
        rental, "Bookkeeper", partial(Bookkeeper, clock=seconds, unix_clock=seconds)
    )
    fleet = parse_fleet(
        f"runtime: {{isolation: process, path: '{worker_path}'}}\nproviders: [{PROVIDER}]\n"
    )
    settings = DaemonSettings(fleet, state_directory=tmp_path / "state", clock=clock, launch=launch)
    async with AsyncExitStack() as stack:
        daemon = MockDaemon(settings)
        at = await daemon.start()
        stack.push_async_callback(daemon.stop)
        monkeypatch.setenv("PATH", f"{at.gftp_directory}:{os.environ['PATH']}")
        address = DaemonAddress.from_environment(
            {"YAGNA_API_URL": at.url, "YAGNA_APPKEY": at.app_key}
        )
        yield Afternoon(market_at(tmp_path, address), daemon, clock)


async def test_a_day_long_agreement_is_paid_every_five_hours(afternoon: Afternoon) -> None:
    market = afternoon.market
    async with market.rent(expiration_seconds=24 * HOUR) as pool:
        lease = await pool.next_lease()
        await afternoon.pass_hours(11)
        assert afternoon.payable == [*[False] * 9, True, *[False] * 9, True, False, False]
        assert pool.seconds_left > 0
        # after 22 notes, 11 hours of them, it still works
        await lease.execute(market.job())
    assert not market.notices
    assert market.paid() == {"oak"}
    market.check_books()
    entries = read_entries(market.folder / "ledger.jsonl")
    accepted = [entry for entry in entries if isinstance(entry, DebitNoteAccepted)]
    assert [entry.is_payable for entry in accepted] == afternoon.payable
    statement = make_statement(read_entries(market.folder / "ledger.jsonl"))
    (agreement,) = statement.agreements.values()
    # 0.01 at the start and 0.01 an hour: at the second payment 10 hours were over
    assert float(agreement.interim_glm) == pytest.approx(0.01 + 0.1, abs=1e-4)
    assert float(agreement.accepted_glm) == pytest.approx(0.01 + 0.11, abs=1e-4)


async def test_the_interval_is_what_the_config_says(afternoon: Afternoon) -> None:
    market = afternoon.market
    terms = {"expiration_seconds": 6 * HOUR, "payment_interval_seconds": HOUR}
    async with market.rent(**terms) as pool:
        await pool.next_lease()
        await afternoon.pass_hours(4)
    assert afternoon.payable == [False, True] * 4
    assert market.paid() == {"oak"}
    market.check_books()


async def test_below_five_hours_nothing_is_paid_in_between(afternoon: Afternoon) -> None:
    market = afternoon.market
    terms = {"expiration_seconds": 4.8 * HOUR, "payment_interval_seconds": HOUR}
    async with market.rent(**terms) as pool:
        await pool.next_lease()
        await afternoon.pass_hours(4)
        assert afternoon.payable == [False] * 8
    market.check_books()


async def test_an_interim_payment_above_what_is_due_is_not_made(afternoon: Afternoon) -> None:
    """Its provider waits for it as long as was agreed, then ends the agreement. It keeps what was
    accepted; its own daemon does not let it send an invoice below what it has asked once."""
    market = afternoon.market
    async with market.rent(expiration_seconds=24 * HOUR, invoice_timeout_seconds=0.3) as pool:
        await pool.next_lease()
        await afternoon.pass_hours(5)
        ask_at_once(afternoon, factor=2)
        await market.until(lambda: bool(market.ledger.refused))
        await afternoon.clock.advance(241)
        assert market.states() == {"oak": ["Terminated"]}
    assert market.notices[0].startswith("oak: debit note over 0.12")
    assert "at most 0.060" in market.notices[0]
    assert market.ledger.total_glm == afternoon.notes[-2].total_amount_due
    market.check_books()


async def test_who_asks_at_once_without_agreement_loses_the_lease_and_no_more(
    afternoon: Afternoon,
) -> None:
    """yapapi ends the agreement, and cancels whatever is done under it."""
    market = afternoon.market
    async with market.rent(expiration_seconds=2 * HOUR) as pool:
        lease = await pool.next_lease()
        await afternoon.pass_hours(1)
        ask_at_once(afternoon, factor=1)
        await market.until(lambda: market.states()["oak"][0] == "Terminated")
        with pytest.raises(LeaseLost, match="mid-agreement payments inactive"):
            await lease.execute(market.job())
        again = await pool.next_lease()
        assert again.info.agreement_id != lease.info.agreement_id
    assert market.paid() == {"oak"}
    market.check_books()


def ask_at_once(afternoon: Afternoon, factor: int) -> None:
    """Send a copy of the last note over `factor` times its amount, to be paid at once."""
    last = afternoon.notes[-1]
    books = afternoon.daemon.books
    books.commit(
        last.changed(
            debit_note_id=new_document_id(),
            timestamp=books.stamp(),
            status="RECEIVED",
            accepted_at=None,
            allocation_id=None,
            total_amount_due=last.total_amount_due * factor,
            payment_due_date=afternoon.clock.now() + dates.timedelta(hours=5),
            accepted_amount=type(last.total_amount_due)(0),
            charged_amount=type(last.total_amount_due)(0),
        )
    )
