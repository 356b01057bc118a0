"""Whatever fleets, faults, bills and kills do: nothing beyond budget and due, nothing left behind.

Real are: the simulated providers and their bills, the daemon's books, yapapi's handling of bills,
and everything of ours that touches money (ledger, guard, bookkeeper, auditor, settlement, sweep,
debts). Made up are: the market (agreements come by themselves), the work, and the wire between us
and the daemon, on which a process may die before and after every call. Time is virtual.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ya_payment.exceptions import ApiException
from yapapi import events
from yapapi.engine import _Engine
from yapapi.invoice_manager import InvoiceManager

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.paying.debts import wind_up
from requestor.marketplace.golem.paying.sweep import Sweep
from requestor.marketplace.money.ledger import Ledger, read_ledger
from requestor.marketplace.money.spending import (
    BILL_SLACK_SECONDS,
    SpendingGuard,
    marked_allocation_glm,
)
from requestor.marketplace.ports import RUN_PROPERTY
from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.books import Books
from requestor.mock_golem.exe_unit import Usage
from requestor.mock_golem.fleet import Fleet, parse_fleet
from requestor.mock_golem.identifiers import new_document_id
from requestor.mock_golem.money import cost
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.records import Agreement, Allocation, DebitNote, Invoice
from requestor.mock_golem.surroundings import Surroundings

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime

RUN, NODE, PLATFORM = "run-1", "0xme", "erc20-hoodi-tglm"
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WIRE_SECONDS = 0.004
POLL_SECONDS = 0.5
STOP_MARGIN_SECONDS = 0.5
api_error: Any = ApiException


# --- what is drawn ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Strange:
    """A bill that no honest provider sends: `factor` times what it would ask, `after` seconds."""

    kind: str
    provider: int
    after: float
    factor: Decimal


@dataclass(frozen=True)
class Process:
    """One session's budget and length; it may be killed after so many seconds, or so many times
    that something went over the wire."""

    budget: Decimal
    seconds: float
    kill_seconds: float | None = None
    kill_at: int | None = None


@dataclass(frozen=True)
class Story:
    """A fleet and what happens to it."""

    fleet: str
    loads: tuple[float, ...]
    meters: tuple[float, ...]
    sessions: tuple[Process, ...]
    strange: tuple[Strange, ...] = ()


FAULTS = st.sampled_from(
    [
        "{kind: invoice_too_high, factor: 1.5}",
        "{kind: invoice_too_high, factor: 100000}",
        "{kind: invoice_wrong_platform}",
        "{kind: duplicate_invoice}",
        "{kind: no_invoice}",
        "{kind: debit_note_flood, per_second: 8}",
        "{kind: terminates_agreement, after_seconds: 7}",
        "{kind: reject_agreement, times: 1}",
    ]
)
PRICES = st.sampled_from(["0", "0.1", "1.8", "3.6", "36"])


# not floats: those that are drawn most are 0, 1 and the ends
def tenths(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda number: number / 10)


KINDS = (
    "note",
    "payable note",
    "note of nothing",
    "note to a thief",
    "invoice",
    "invoice on another platform",
    "invoice to a thief",
)


@st.composite
def providers(draw: st.DrawFn, name: str, *, is_honest: bool) -> str:
    faults = [] if is_honest else draw(st.lists(FAULTS, max_size=2, unique=True))
    interval = draw(st.sampled_from([0.7, 3, 11]))
    return (
        f"{{name: {name}, threads: {draw(st.integers(1, 4))}, price: {{"
        f"start_glm: {draw(st.sampled_from(['0', '0.01', '0.2']))}, "
        f"cpu_hour_glm: {draw(PRICES)}, hour_glm: {draw(PRICES)}}}, "
        f"terms: {{debit_note_interval_seconds: {interval}}}, faults: [{', '.join(faults)}]}}"
    )


@st.composite
def stories(draw: st.DrawFn, *, is_honest: bool = False) -> Story:
    count = draw(st.integers(1, 3))
    fleet = [draw(providers(f"p{index}", is_honest=is_honest)) for index in range(count)]
    budgets = st.decimals("0.0001", "3", places=4)
    kills: dict[str, Any] = {}
    if not is_honest:
        kills = {
            "kill_seconds": st.none() | tenths(0, 250),
            "kill_at": st.none() | st.integers(0, 90),
        }
    session = st.builds(Process, budgets, tenths(5, 400), **kills)
    return Story(
        fleet=f"providers: [{', '.join(fleet)}]",
        loads=tuple(draw(st.floats(0.0, 1.0)) for _ in range(count)),
        meters=tuple(
            1.0 if is_honest else draw(st.sampled_from([1.0, 1.0, 0.5, 4.0])) for _ in range(count)
        ),
        sessions=tuple(draw(st.lists(session, min_size=1, max_size=3))),
        strange=()
        if is_honest
        else tuple(
            draw(
                st.lists(
                    st.builds(
                        Strange,
                        st.sampled_from(KINDS),
                        st.integers(0, count - 1),
                        tenths(2, 300),
                        st.sampled_from(
                            [Decimal(n) for n in ("0", "0.5", "1", "1.001", "7", "1e12", "-1")]
                        ),
                    ),
                    max_size=6,
                )
            )
        ),
    )


# --- the other side --------------------------------------------------------------------------


class LoopClock:
    """The clock of the virtual loop, as the daemon sees it."""

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Meter:
    """An exe-unit that does nothing but use time: `load` of each thread is busy, and it says that
    everything took `factor` times as long."""

    reason = error_message = None
    has_vanished = False

    def __init__(self, load: float, factor: float, now: Callable[[], float]) -> None:
        self.state = "Ready"
        self._load, self._factor, self._now = load, factor, now
        self._started = now()
        self._gone = asyncio.Event()
        self.seconds = 0.0

    async def initialize(self) -> None:
        await asyncio.sleep(0.1)

    def usage(self) -> Usage:
        if self.state != "Terminated":
            self.seconds = self._now() - self._started
        seconds = self.seconds * self._factor
        return Usage(cpu_seconds=self._load * seconds, duration_seconds=seconds)

    async def terminate(self, reason: str | None = None, message: str | None = None) -> None:
        self.usage()
        self.state = "Terminated"
        self._gone.set()

    async def wait_gone(self) -> None:
        await self._gone.wait()


class World:
    """Books, providers, and the agreements that come about."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story = story
        self.clock = LoopClock()
        self.books = Books(self.clock, None)
        self.fleet: Fleet = parse_fleet(story.fleet)
        self.ledger_path = folder / "ledger.jsonl"
        self.notices: list[str] = []
        self.is_tight = False
        self.providers = [self._provider(index) for index in range(len(self.fleet.expanded()))]

    def _provider(self, index: int) -> Provider:
        model = self.fleet.expanded()[index]
        load, factor = self.story.loads[index] * model.threads, self.story.meters[index]
        around = Surroundings(
            fleet=self.fleet,
            clock=self.clock,
            books=self.books,
            market=cast(Any, SimpleNamespace(publish=lambda *_: None, withdraw=lambda *_: None)),
            requestor_id=NODE,
            launch=cast(Any, lambda *_: Meter(load, factor, self.now)),
            refused=lambda *_: None,
            activities_directory=self.ledger_path.parent,
            command_environment={},
        )
        return Provider(model, around)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def least_glm(self, seconds: float) -> Decimal:
        """What everybody costs in so many seconds with all threads busy."""
        prices = [(model.price, model.threads) for model in self.fleet.expanded()]
        hourly = sum(price.cpu_hour_glm * threads + price.hour_glm for price, threads in prices)
        starts = sum((price.start_glm for price, _ in prices), Decimal(0))
        return starts + Decimal(hourly) * Decimal(seconds) / 3600

    def agreement(self, index: int) -> Agreement:
        """Sign an agreement with a provider."""
        provider, now = self.providers[index], self.clock.now()
        expires = int((now + timedelta(hours=1)).timestamp() * 1000)
        made = Agreement(
            agreement_id=new_document_id(),
            proposal_id="R-1",
            provider_id=provider.node_id,
            provider_name=provider.name,
            demand={
                "requestorId": NODE,
                "properties": {
                    RUN_PROPERTY: RUN,
                    "golem.srv.comp.expiration": expires,
                    "golem.com.payment.chosen-platform": PLATFORM,
                },
            },
            offer={"providerId": provider.node_id, "properties": provider._offer},
            valid_to=now + timedelta(hours=1),
            timestamp=now,
            state="Pending",
        )
        self.books.commit(made)
        provider.confirmed(made.agreement_id)
        return made

    async def send_strange(self, strange: Strange) -> None:
        """Send a bill that nobody expects, for the provider's last agreement."""
        await asyncio.sleep(strange.after)
        provider = self.providers[strange.provider]
        agreements = [
            one for one in self.books.agreements.values() if one.provider_id == provider.node_id
        ]
        if not agreements or not self.books.activities_of(agreements[-1].agreement_id):
            return
        agreement = agreements[-1]
        activity = self.books.activities_of(agreement.agreement_id)[-1]
        provider.host.refresh(activity.activity_id)
        activity = self.books.activities[activity.activity_id]
        common: dict[str, Any] = {
            "issuer_id": provider.node_id,
            "recipient_id": NODE,
            "payment_platform": PLATFORM,
            "timestamp": self.books.stamp(),
            "agreement_id": agreement.agreement_id,
        }
        asked = cost(agreement.coefficients, activity.usage) * strange.factor
        if "thief" in strange.kind:
            common["payee_address"] = "0xthief"
        if strange.kind.startswith("invoice"):
            if "platform" in strange.kind:
                common["payment_platform"] = "erc20-holesky-tglm"
            invoice = Invoice(invoice_id=new_document_id(), activity_ids=(), amount=asked, **common)
            self.books.commit(invoice)
            return
        due = self.clock.now() if strange.kind.startswith("payable") else None
        self.books.commit(
            DebitNote(
                debit_note_id=new_document_id(),
                activity_id="nothing" if "nothing" in strange.kind else activity.activity_id,
                total_amount_due=asked,
                usage=(),
                payment_due_date=due,
                **common,
            )
        )


class Wire(DaemonApi):
    """The daemon as one process of ours sees it, until that process is killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self.crossings = 0
        self.on_crossing: Callable[[int], None] = lambda _: None

    async def call(self, effect: Callable[[], Any]) -> Any:
        """Do something at the daemon; the process may die on the way there, and on the way back."""
        await self.wire()
        try:
            result = effect()
            if asyncio.iscoroutine(result):
                result = await result
        except Refusal as refusal:
            raise DaemonError("call", refusal.status, str(refusal.message)) from refusal
        await self.wire()
        return result

    async def wire(self) -> None:
        self.on_crossing(self.crossings)
        self.crossings += 1
        await asyncio.sleep(0.0 if self.is_dead else WIRE_SECONDS)
        if self.is_dead:
            raise asyncio.CancelledError  # a dead process does nothing more

    async def identity(self) -> str:
        return NODE

    async def demands(self) -> list[dict[str, Any]]:
        return []

    async def agreement_endings(self, since_unix_seconds: float) -> dict[str, float]:
        agreements = self.world.books.agreements.items()
        ended = await self.call(lambda: [one for one in agreements if one[1].ended_at is not None])
        found = {name: one.ended_at.timestamp() for name, one in ended}
        return cast(dict[str, float], found)

    async def approved_agreements(self) -> list[str]:
        agreements = self.world.books.agreements
        return cast(
            list[str],
            await self.call(
                lambda: [name for name, one in agreements.items() if one.state == "Approved"]
            ),
        )

    async def agreement(self, agreement_id: str) -> dict[str, Any]:
        books = self.world.books
        found = await self.call(lambda: books.agreement(agreement_id).as_json())
        return cast(dict[str, Any], found)

    async def terminate_agreement(self, agreement_id: str, message: str) -> None:
        def end() -> None:
            agreement = self.world.books.agreement(agreement_id)
            provider = next(
                one for one in self.world.providers if one.node_id == agreement.provider_id
            )
            provider.end_agreement(agreement_id, "Requestor", {"message": message})

        try:
            await self.call(end)
        except DaemonError as error:
            if error.status != 410:
                raise

    async def allocations(self) -> list[dict[str, Any]]:
        books, now = self.world.books, self.world.clock.now
        found = await self.call(
            lambda: [one.as_json() for one in books.allocations.values() if one.is_open(now())]
        )
        return cast(list[dict[str, Any]], found)

    async def create_allocation(self, amount: str, platform: str, address: str) -> str:
        def make() -> str:
            now = self.world.clock.now()
            made = Allocation(
                allocation_id=new_document_id(),
                address=address,
                payment_platform=platform,
                total_amount=Decimal(amount),
                timestamp=now,
                timeout=now + timedelta(days=3650),
            )
            self.world.books.commit(made)
            return made.allocation_id

        return cast(str, await self.call(make))

    async def release_allocation(self, allocation_id: str) -> None:
        books = self.world.books

        def release() -> None:
            one = books.allocations[allocation_id]
            if one.released_at is None:
                books.commit(one.changed(released_at=self.world.clock.now()))

        await self.call(release)

    async def invoices(self, since_unix_seconds: float) -> list[dict[str, Any]]:
        books, now = self.world.books, self.world.clock.now
        found = await self.call(lambda: [one.as_json(now()) for one in books.invoices.values()])
        return cast(list[dict[str, Any]], found)

    async def debit_notes(self, since_unix_seconds: float) -> AsyncIterator[dict[str, Any]]:
        books, now = self.world.books, self.world.clock.now
        notes = books.debit_notes
        for row in await self.call(lambda: [one.as_json(now()) for one in notes.values()]):
            yield row

    async def accept_invoice(self, invoice_id: str, amount: str, allocation_id: str) -> None:
        books = self.world.books
        await self.call(lambda: books.accept_invoice(invoice_id, Decimal(amount), allocation_id))


def as_yapapi_sees(bill: DebitNote | Invoice, wire: Wire) -> Any:
    """Return a bill of the books as yapapi's model of it."""
    row = bill.as_json(wire.world.clock.now())
    names = {"payeeAddr": "payee_addr", "payerAddr": "payer_addr", "invoiceId": "invoice_id"}
    names |= {"debitNoteId": "debit_note_id", "agreementId": "agreement_id", "amount": "amount"}
    names |= {"issuerId": "issuer_id", "paymentPlatform": "payment_platform"}
    names |= {"activityId": "activity_id", "totalAmountDue": "total_amount_due"}
    names |= {"paymentDueDate": "payment_due_date"}
    model = SimpleNamespace(payment_due_date=None)
    for name, own in names.items():
        if name in row:
            setattr(model, own, row[name])
    books = wire.world.books
    accept_in_books = books.accept_invoice if isinstance(bill, Invoice) else books.accept_debit_note

    async def accept(*, amount: Decimal | str, allocation: Any) -> None:
        # yapapi sends `str(amount)`, which must be digits
        text = str(amount)
        assert "E" not in text.upper(), text
        try:
            await wire.call(lambda: accept_in_books(bill.key, Decimal(text), allocation.id))
        except DaemonError as error:
            failure = api_error(status=error.status)
            failure.body = f'{{"message": "{error.message}"}}'
            raise failure from error

    model.accept = accept
    return model


# --- our side --------------------------------------------------------------------------------


@dataclass
class Session:
    """One process: it rents everybody for some seconds, or until it is killed."""

    world: World
    budget: Decimal
    seconds: float
    wire: Wire = field(init=False)
    ledger: Ledger = field(init=False)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)
    kill_at: int | None = None

    def __post_init__(self) -> None:
        self.wire = Wire(self.world)
        self.wire.on_crossing = lambda number: self.kill() if number == self.kill_at else None
        self.ledger = Ledger(self.world.ledger_path, self.unix)

    def unix(self) -> float:
        return self.world.clock.now().timestamp()

    def kill(self) -> None:
        """Stop existing: from now on nothing reaches the daemon or the disk."""
        self.wire.is_dead = True
        self.ledger._file.close()
        self.ledger._file = Path(os.devnull).open("ab")  # noqa: SIM115
        for task in self.tasks:
            task.cancel()

    def sweep(self) -> Sweep:
        return Sweep(self.wire, self.ledger, RUN, self.world.notices.append, self.unix, self.budget)

    async def run(self) -> None:
        """Do everything that a process does."""
        await wind_up(self.sweep(), self.budget, 2.0)
        summary = self.ledger.summary
        left = self.budget - summary.total_glm
        if left > Decimal("1e-9"):
            await self._rent(left)
        await self.sweep().run(0.0)
        self.ledger.close()

    async def _rent(self, left: Decimal) -> None:
        summary = self.ledger.summary
        self.guard = SpendingGuard(
            self.budget,
            spent_before_glm=summary.total_glm,
            owed_before_glm=summary.owed_glm(self.unix()),
            spent_before_by_provider=summary.accepted_by_provider,
        )
        self.books = Bookkeeper(
            self.ledger,
            self.guard,
            self.world.notices.append,
            clock=self.world.now,
            unix_clock=self.unix,
        )
        if left - sum(self.guard.owed_before_glm.values()) < self.world.least_glm(3.0):
            self.world.is_tight = True
        amount = marked_allocation_glm(left, 7)
        self.ledger.write(
            "allocation_intended",
            amount_glm=f"{amount:f}",
            budget_glm=f"{self.budget:f}",
            node_id=NODE,
        )
        allocation_id = await self.wire.create_allocation(f"{amount:f}", PLATFORM, NODE)
        self.ledger.write(
            "allocation_created",
            allocation_id=allocation_id,
            amount_glm=f"{amount:f}",
            platform=PLATFORM,
        )
        self._open_engine(allocation_id)
        watcher = self._spawn(self._watch_bills())
        try:
            async with asyncio.timeout(self.seconds):
                workers = [self._spawn(self._work(i)) for i in range(len(self.world.providers))]
                await self._watch_money(workers)
        except TimeoutError:
            pass
        self.is_over.set()
        await asyncio.gather(*workers)
        async with asyncio.timeout(100):
            waited = 0.0
            while self.books.unpaid() and waited < 2.0:
                await asyncio.sleep(0.05)
                waited += 0.05
        watcher.cancel()
        await self.sweep().pay(self.books.put_off, 1.0)
        await self.wire.release_allocation(allocation_id)
        self.ledger.write(
            "allocation_released", allocation_id=allocation_id, amount_glm=f"{amount:f}"
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    def _open_engine(self, allocation_id: str) -> None:
        """The parts of yapapi's engine that handle bills."""
        self.is_over = asyncio.Event()
        self.invoices: Any = cast(Any, InvoiceManager)()
        judge = self.books.bills
        job = SimpleNamespace(id="job", emit=self._emit)
        allocation = SimpleNamespace(
            id=allocation_id, payment_address=NODE, payment_platform=PLATFORM
        )

        async def notes(note: Any) -> Decimal:
            return judge.judge_debit_note(note)

        async def invoices(invoice: Any) -> Decimal:
            return judge.judge_invoice(invoice)

        async def in_time(*_: Any) -> bool:
            return True

        async def note_of(note_id: str) -> Any:
            return as_yapapi_sees(self.world.books.debit_notes[note_id], self.wire)

        engine: Any = SimpleNamespace(
            _payment_api=SimpleNamespace(debit_note=note_of),
            _agreements_accepting_debit_notes={"job": set()},
            _get_job_by_id=lambda _: job,
            _get_agreement_by_id=lambda name: self.agreements[name],
            _enforce_debit_note_intervals=in_time,
            _budget_allocations=[allocation],
            _strategy=SimpleNamespace(debit_note_accepted_amount=notes),
        )
        engine._get_allocation = partial(_Engine._get_allocation, engine)
        self.engine, self.job, self.judge_invoice = engine, job, invoices
        self.agreements: dict[str, Any] = {}

    def _emit(self, kind: type[events.Event], **fields: Any) -> None:
        event = object.__new__(kind)
        for name, value in fields.items():
            object.__setattr__(event, name, value)
        self.books.on_event(event)

    async def _watch_bills(self) -> None:
        """Hand bills to yapapi as they come, and usage to the books."""
        ours = self.agreements
        while True:
            for note_id, note in list(self.world.books.debit_notes.items()):
                if note_id not in self.handled and note.agreement_id in ours:
                    self.handled.add(note_id)
                    await _Engine._process_debit_note(self.engine, note_id)
            for invoice_id, invoice in list(self.world.books.invoices.items()):
                if invoice_id not in self.handled and invoice.agreement_id in ours:
                    self.handled.add(invoice_id)
                    await self._pay(invoice)
            await asyncio.sleep(0.05)

    async def _pay(self, invoice: Invoice) -> None:
        self.invoices.add_invoice(as_yapapi_sees(invoice, self.wire))
        paid = await self.invoices.attempt_payment(
            invoice.agreement_id,
            self.engine._get_allocation,
            self.judge_invoice,
        )
        if paid:
            self.engine._agreements_accepting_debit_notes["job"].discard(invoice.agreement_id)

    async def _watch_money(self, workers: list[asyncio.Task[None]]) -> None:
        """Stop before the budget could be exceeded, as the dispatcher does."""
        while not all(worker.done() for worker in workers):
            for agreement_id, activity_id in self.books.live_activities():
                await self.wire.wire()
                activity = self._refreshed(activity_id)
                self.books.usage_reported(agreement_id, activity.usage)
            if self.guard.may_spend_seconds(self.world.now()) < STOP_MARGIN_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)

    def _refreshed(self, activity_id: str) -> Any:
        for provider in self.world.providers:
            provider.host.refresh(activity_id)
        return self.world.books.activities[activity_id]

    async def _work(self, index: int) -> None:
        """Rent one provider until the session is over or the provider ends it."""
        world, provider = self.world, self.world.providers[index]
        await self.wire.wire()
        signed = world.agreement(index)
        name = signed.agreement_id
        while world.books.agreements[name].state == "Pending":
            await asyncio.sleep(0.01)
        if world.books.agreements[name].state != "Approved":
            return
        await self.wire.wire()
        offer = SimpleNamespace(properties=signed.offer["properties"], provider_id=provider.node_id)
        demand = SimpleNamespace(properties=signed.demand["properties"])
        raw = SimpleNamespace(offer=offer, demand=demand)
        agreement: Any = SimpleNamespace(id=name, details=SimpleNamespace(raw_details=raw))
        self.agreements[name] = agreement
        self.invoices.add_agreement(cast(Any, self.job), agreement)
        self.invoices.set_payable(name)
        self._emit(events.AgreementConfirmed, agreement=agreement)
        self.engine._agreements_accepting_debit_notes["job"].add(name)
        try:
            activity = await self.wire.call(lambda: provider.create_activity(name, 5.0))
        except DaemonError:
            self._emit(events.ActivityCreateFailed, agreement=agreement)
        else:
            begun = SimpleNamespace(id=activity.activity_id)
            self._emit(events.ActivityCreated, agreement=agreement, activity=begun)
            while not self.is_over.is_set() and world.books.agreements[name].state == "Approved":
                await asyncio.sleep(0.05)
            await self.wire.call(lambda: provider.destroy_activity(activity.activity_id))
            self._emit(events.WorkerFinished, agreement=agreement)
        await self.wire.terminate_agreement(name, "done")
        self._emit(events.AgreementTerminated, agreement=agreement, reason={})


async def tell(story: Story, folder: Path) -> World:
    """Let a story happen: all its sessions, and a last clean-up that is not killed."""
    world = World(story, folder)
    strange = [asyncio.create_task(world.send_strange(one)) for one in story.strange]
    for process in story.sessions:
        session = Session(world, process.budget, process.seconds)
        session.kill_at = process.kill_at
        main = session._spawn(session.run())
        await asyncio.wait({main}, timeout=process.kill_seconds)
        if not main.done():
            session.kill()
        await asyncio.wait(session.tasks)
        if not session.wire.is_dead:
            main.result()
    await asyncio.gather(*strange)
    last = Session(world, story.sessions[-1].budget, 0.0)
    await wind_up(last.sweep(), last.budget, 3.0)
    last.ledger.close()
    for provider in world.providers:
        await provider.stop()
    return world


# --- what must hold --------------------------------------------------------------------------


def longest_seconds(agreement: Agreement) -> Fraction:
    """How long an agreement lasted from when it was asked for."""
    assert agreement.ended_at is not None
    return Fraction((agreement.ended_at - agreement.timestamp).total_seconds())


def check(world: World) -> None:
    """Nothing beyond the budget, nothing beyond what is due, nothing left, and the same books."""
    books, ledger = world.books, read_ledger(world.ledger_path)
    budget = max(process.budget for process in world.story.sessions)
    assert books.spent_glm() <= budget
    assert ledger.total_glm == books.spent_glm()
    for name, agreement in books.agreements.items():
        charged = books.charged_for(name)
        assert ledger.accepted_glm.get(name, Decimal(0)) == charged
        if agreement.state == "Rejected":
            assert not charged
            continue
        model = next(m for m in world.fleet.expanded() if m.name == agreement.provider_name)
        rate = Fraction(model.price.cpu_hour_glm) * model.threads + Fraction(model.price.hour_glm)
        seconds = longest_seconds(agreement) + Fraction(BILL_SLACK_SECONDS)
        due = Fraction(model.price.start_glm) + rate / 3600 * seconds
        # 1e-9 is granted for rounding, and 1e-9 for prices by the second as floats
        assert Fraction(charged) <= due + Fraction(2, 10**9), (agreement, charged, float(due))
    now = world.clock.now()
    assert not [one for one in books.allocations.values() if one.is_open(now)]
    assert not [one for one in books.agreements.values() if one.state in ("Approved", "Pending")]
    assert not [one for one in books.activities.values() if one.ended_at is None]
    assert not ledger.is_open
    bills = [*books.debit_notes.values(), *books.invoices.values()]
    for bill in bills:
        is_strange = bill.payee_address == "0xthief" or bill.payment_platform != PLATFORM
        if is_strange or (isinstance(bill, DebitNote) and bill.activity_id == "nothing"):
            assert bill.status == "RECEIVED"
    paid = [one.agreement_id for one in books.invoices.values() if one.status == "ACCEPTED"]
    assert len(paid) == len(set(paid))


@given(story=stories())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_spent_beyond_budget_and_due_and_nothing_is_left(
    run_in_virtual_time: RunInVirtualTime, story: Story
) -> None:
    with TemporaryDirectory() as folder:

        async def main() -> None:
            check(await tell(story, Path(folder)))

        run_in_virtual_time(main())


@given(story=stories(is_honest=True))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_honest_are_paid_to_the_last_digit_because_work_stops_in_time(
    run_in_virtual_time: RunInVirtualTime, story: Story
) -> None:
    with TemporaryDirectory() as folder:

        async def main() -> None:
            world = await tell(story, Path(folder))
            check(world)
            bills = world.books.invoices.values()
            unpaid = [bill for bill in bills if bill.status != "ACCEPTED"]
            # with less than what all cost in their first seconds nobody could stop in time
            assert world.is_tight or not unpaid, world.notices

        run_in_virtual_time(main())
