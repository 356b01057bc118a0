"""A simulated provider joined to a real daemon: its REST and its service bus.

The provider itself (offers, negotiation, exe-scripts, bills, faults) is the mock daemon's
(`Provider`). It has books of its own here: what it writes into them is carried to the daemon
(`carrying.py`), and what the daemon tells is put before it in the very calls that the mock's REST
makes. Its exe-units answer on the bus (`exe_bridge.py`).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.books import Books, end_lost_activities
from requestor.mock_golem.clock import Clock, SystemClock, rfc3339
from requestor.mock_golem.exe_unit import Fabric
from requestor.mock_golem.fleet import Fleet, ProviderModel
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.images.library import ImageLibrary
from requestor.mock_golem.journal import Journal
from requestor.mock_golem.negotiation import Proposal
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.records import Agreement, DebitNote, Invoice
from requestor.mock_golem.surroundings import (
    ExeUnitLauncher,
    RefusalListener,
    Surroundings,
    TaskSet,
    command_environment,
    exe_unit_launcher,
    log_refusal,
)
from requestor.mock_golem.testnet.carrying import RETRY_SECONDS, Courier, insist
from requestor.mock_golem.testnet.exe_bridge import ActivityLink, BusDoor
from requestor.mock_golem.testnet.identities import Identity
from requestor.mock_golem.testnet.provider_rest import DaemonAway, ProviderRest, RestRefusal
from requestor.mock_golem.testnet.shared_fabric import SharedFabric
from requestor.mock_golem.testnet.yagna_market import Listeners, YagnaMarket

CREATE_SECONDS = 5.0
FAREWELL_SECONDS = 2.0
ACTIVITY_ID = re.compile(r"[0-9a-f]{32}")
_SESSION = "mock-golem"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentSettings:
    """What the providers of one daemon share.

    `url` is the root of its REST, `bus_address` the unix socket of its service bus; `directory`
    keeps each provider's notes and, while they live, its activities; `launch` None runs real
    exe-units; `refused` is told a provider's name and why it refuses terms; `fabric` carries the
    packets of virtual networks, `library` has the images of activities.
    """

    url: str
    bus_address: Path
    fleet: Fleet
    directory: Path
    store: GftpStore
    clock: Clock = field(default_factory=SystemClock)
    launch: ExeUnitLauncher | None = None
    refused: RefusalListener | None = None
    fabric: Fabric = field(default_factory=SharedFabric)
    library: ImageLibrary | None = None


class ProviderAgent:
    """One simulated provider at a real daemon.

    Args:
        identity: who it is at the daemon.
        model: what it is like.
        settings: where the daemon is.

    Raises:
        JournalError: its notes cannot be used.
    """

    def __init__(self, identity: Identity, model: ProviderModel, settings: AgentSettings) -> None:
        self._settings = settings
        self._tasks = TaskSet()
        self._rest = ProviderRest(settings.url, identity.app_key, _SESSION)
        self._courier = Courier(self._rest, self._tasks, self._approval_failed)
        listeners = Listeners(self._countered, self._proposed)
        self._market = YagnaMarket(self._rest, self._tasks, settings.clock, listeners)
        self._journal = Journal(settings.directory / "notes" / model.name)
        self._books = Books(settings.clock, self._journal, self._courier.heard)
        self._creating: dict[str, asyncio.Task[None]] = {}
        self._links: dict[str, asyncio.Task[None]] = {}
        launch = settings.launch or exe_unit_launcher(
            settings.store, settings.clock, settings.fabric, settings.library
        )
        around = Surroundings(
            fleet=settings.fleet,
            clock=settings.clock,
            books=self._books,
            market=self._market,
            requestor_id="",  # there may be many; each agreement names its own
            launch=launch,
            refused=settings.refused or log_refusal,
            activities_directory=settings.directory / "activities",
            command_environment=command_environment(settings.fleet),
        )
        self.provider = Provider(model, around, identity.node_id)

    @property
    def books(self) -> Books:
        """What the provider knows of its agreements, activities and bills."""
        return self._books

    async def run(self) -> None:
        """Work until cancelled; a daemon that goes away is waited for.

        On return nothing of it runs any more: activities are ended, the offer is taken back.
        """
        try:
            async with self._rest:
                try:
                    await self._work()
                finally:
                    await self._wind_up()
        finally:
            self._journal.close()

    async def _work(self) -> None:
        self._books.restore()
        lost = [one.activity_id for one in self._books.activities.values() if not one.ended_at]
        end_lost_activities(self._books)
        self.provider.resume()
        self._tasks.spawn(self._reconcile(lost))
        start = rfc3339(self._settings.clock.now())
        rest = self._rest
        async with asyncio.TaskGroup() as group:
            group.create_task(self._market.run())
            for look, take, wanted in (
                (rest.agreement_events, self._agreement_event, self._has_agreement),
                (rest.activity_events, self._activity_event, self._has_agreement),
                (rest.debit_note_events, self._bill_event, self._awaits_notes),
                (rest.invoice_events, self._bill_event, self._awaits_invoices),
            ):
                group.create_task(self._follow(_Feed(look, take, wanted), start))

    async def _reconcile(self, lost_activities: Sequence[str]) -> None:
        """Bring the daemon up to what earlier notes say, and ourselves to what it says."""
        for activity_id in lost_activities:
            await self._report_ended(activity_id, "The provider was restarted")
        await insist(self._reconcile_agreements)
        await insist(self._reconcile_invoices)

    async def _reconcile_agreements(self) -> None:
        in_force = await self._rest.approved()
        for agreement_id in in_force:
            agreement = self._books.agreements.get(agreement_id)
            if agreement is None or agreement.state == "Terminated":
                reason = (agreement and agreement.reason) or {"message": "Provider was restarted"}
                self._courier.terminate(agreement_id, reason)
        for agreement in list(self._books.agreements.values()):
            if agreement.state == "Approved" and agreement.agreement_id not in in_force:
                self._courier.approve(agreement.agreement_id)

    async def _reconcile_invoices(self) -> None:
        known = {invoice.get("agreementId") for invoice in await self._rest.invoices()}
        for invoice in self._books.invoices.values():
            if invoice.agreement_id not in known:
                self._courier.heard(None, invoice)

    async def _wind_up(self) -> None:
        await self.provider.stop()
        if self._links:
            await asyncio.wait(self._links.values(), timeout=FAREWELL_SECONDS)
        await self._market.leave()
        await self._tasks.cancel_all()

    # ------------------------------------------------------------------ market

    def _countered(self, counter: Proposal) -> None:
        self.provider.countered(counter)

    def _proposed(self, agreement: Agreement) -> None:
        if agreement.agreement_id in self._books.agreements:
            return
        self._books.commit(agreement)
        self.provider.confirmed(agreement.agreement_id)

    def _approval_failed(self, agreement_id: str, reason: str) -> None:
        self._ended(agreement_id, {"message": reason})

    def _agreement_event(self, event: Mapping[str, Any]) -> None:
        if event.get("eventType") in ("AgreementTerminatedEvent", "AgreementCancelledEvent"):
            reason = event.get("reason")
            self._ended(
                str(event.get("agreementId")), reason if isinstance(reason, dict) else {}
            )

    def _ended(self, agreement_id: str, reason: Mapping[str, Any]) -> None:
        """Put it before the provider that an agreement is in force no more."""
        agreement = self._books.agreements.get(agreement_id)
        if agreement is None or agreement.state != "Approved":
            return
        try:
            self.provider.end_agreement(agreement_id, "Requestor", reason)
        except Refusal as refusal:  # its whole node is gone
            _log.info("%s: %s", self.provider.name, refusal.message)

    # ------------------------------------------------------------------ activities

    def _activity_event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("eventType")
        if isinstance(kind, dict) and len(kind) == 1:
            (kind,) = kind
        activity_id, agreement_id = event.get("activityId"), event.get("agreementId")
        if not isinstance(activity_id, str) or not ACTIVITY_ID.fullmatch(activity_id):
            _log.warning("an event of an activity without an id is left out")
        elif kind == "CreateActivity" and activity_id not in self._creating:
            task = self._tasks.spawn(self._create(activity_id, str(agreement_id)))
            self._creating[activity_id] = task
            task.add_done_callback(lambda _: self._creating.pop(activity_id, None))
        elif kind == "DestroyActivity":
            self._tasks.spawn(self._destroy(activity_id))

    async def _create(self, activity_id: str, agreement_id: str) -> None:
        if not self.provider.is_alive:
            return
        try:
            await self.provider.create_activity(agreement_id, CREATE_SECONDS, activity_id)
            unit = self.provider.host.unit(activity_id, "Exec")
        except Refusal as refusal:
            if refusal.status != 408:  # that is what silence becomes
                await self._report_ended(activity_id, refusal.message)
            return
        door = BusDoor(self._settings.bus_address, self._settings.clock)
        link = ActivityLink(activity_id, unit, self.provider, door)
        self._links[activity_id] = task = self._tasks.spawn(link.run())
        task.add_done_callback(lambda _: self._links.pop(activity_id, None))

    async def _destroy(self, activity_id: str) -> None:
        creating = self._creating.get(activity_id)
        if creating is not None:
            await asyncio.wait({creating})
        await self.provider.destroy_activity(activity_id)
        if activity_id not in self._links:
            await self._report_ended(activity_id, None)

    async def _report_ended(self, activity_id: str, reason: str | None) -> None:
        await insist(lambda: self._rest.end_activity(activity_id, reason))

    # ------------------------------------------------------------------ bills

    def _bill_event(self, event: Mapping[str, Any]) -> None:
        """Note in the books what has become of a bill."""
        remote_id = event.get("debitNoteId", event.get("invoiceId"))
        key = self._courier.own_bill(str(remote_id))
        if key is None:
            return
        bill = self._books.debit_notes.get(key) or self._books.invoices.get(key)
        status = str(event.get("eventType")).removesuffix("Event")
        if bill is None or bill.status != "RECEIVED":
            return
        if status.endswith(("Accepted", "Settled")):
            now = self._settings.clock.now()
            self._books.commit(bill.changed(status="ACCEPTED", accepted_at=now))
        elif status.endswith(("Rejected", "Cancelled")):
            self._books.commit(bill.changed(status="REJECTED"))

    # ------------------------------------------------------------------ feeds

    def _has_agreement(self) -> bool:
        return any(one.state == "Approved" for one in self._books.agreements.values())

    def _awaits_notes(self) -> bool:
        # a note that was not accepted while its agreement lasted never will be
        return self._has_agreement() and _awaited(self._books.debit_notes.values())

    def _awaits_invoices(self) -> bool:
        return _awaited(self._books.invoices.values())

    async def _follow(self, feed: "_Feed", after: str) -> None:
        """Pass on the events of a feed, from an instant on, whenever there may be any."""
        while True:
            while not feed.wanted():
                await self._books.changed.next_change()
            try:
                events = await feed.look(after)
            except DaemonAway as away:
                _log.debug("%s", away)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except RestRefusal as refusal:
                _log.warning("%s", refusal)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for event in events:
                feed.take(event)
                after = str(event.get("eventDate", after))


@dataclass(frozen=True)
class _Feed:
    """Events of the daemon: how they are asked for, who takes them, and when any may come."""

    look: Callable[[str], Awaitable[list[dict[str, Any]]]]
    take: Callable[[Mapping[str, Any]], None]
    wanted: Callable[[], bool]


def _awaited(bills: Iterable[DebitNote] | Iterable[Invoice]) -> bool:
    return any(bill.status == "RECEIVED" for bill in bills)
