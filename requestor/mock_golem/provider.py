"""A simulated provider: it offers, negotiates, approves, works, bills, and fails as configured."""

import asyncio
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from requestor.mock_golem.activity_host import ActivityHost, endpoint_not_found, not_approved
from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.billing import Biller
from requestor.mock_golem.faults import (
    DiesInCommand,
    FaultSchedule,
    NetworkStall,
    NeverAnswers,
    RejectAgreement,
    SlowApproval,
    TerminatesAgreement,
)
from requestor.mock_golem.fleet import ProviderModel
from requestor.mock_golem.identifiers import node_id
from requestor.mock_golem.negotiation import Proposal
from requestor.mock_golem.offers import (
    NO_CAPACITY,
    ProposalRefused,
    answer_counter,
    expiration,
    offer_constraints,
    offer_properties,
)
from requestor.mock_golem.records import Activity, Agreement
from requestor.mock_golem.signals import Signal
from requestor.mock_golem.surroundings import ProviderContext, Surroundings, TaskSet

REACTION_SECONDS = 0.02
INVOICE_SECONDS = 0.05


class Provider:
    """One provider of the fleet. It works under one agreement at a time, as ya-provider does.

    Args:
        model: what it is like.
        surroundings: where it stands.
        identity: its node id; None derives one from the fleet's seed and its name.
    """

    def __init__(
        self, model: ProviderModel, surroundings: Surroundings, identity: str | None = None
    ) -> None:
        fleet = surroundings.fleet
        self.name = model.name
        self.node_id = identity or node_id(fleet.seed, model.name)
        self._model = model
        self._around = surroundings
        self._faults = FaultSchedule(model.faults, fleet.seed, model.name)
        self._tasks = TaskSet()
        self._alive = True
        self._unreachable = False
        self._stalled_until: datetime | None = None
        self._agreement_id: str | None = None
        self._activities_changed = Signal()
        context = ProviderContext(self.node_id, model, self._faults, surroundings, self._tasks)
        self.host = ActivityHost(context, died=self._died, ended=self._activities_changed.notify)
        self._biller = Biller(context, self.host, self._break_off)
        self._offer = offer_properties(model, fleet.subnet, fleet.payment.platform, self.node_id)

    @property
    def is_alive(self) -> bool:
        """Whether it is at work, or dead of a fault."""
        return self._alive

    def resume(self) -> None:
        """Take up what the books say: agreements, and invoices owed; offer itself if free."""
        for agreement in self._around.books.agreements.values():
            if agreement.provider_id != self.node_id:
                continue
            if agreement.state == "Approved":
                self._agreement_id = agreement.agreement_id
                self._tasks.spawn(self._watch(agreement.agreement_id))
            elif agreement.state == "Pending":
                self._tasks.spawn(self._decide(agreement.agreement_id))
            elif agreement.invoice == "owed":
                self._tasks.spawn(self._wind_up(agreement.agreement_id))
        if self._is_free():
            self._publish()

    async def stop(self) -> None:
        """End every activity and every background task."""
        self._alive = False
        await self._tasks.cancel_all()
        await self.host.destroy_all()

    # ------------------------------------------------------------------ negotiation

    def countered(self, counter: Proposal) -> None:
        """Take notice of a counter-proposal; a Draft or a refusal follows shortly."""
        if self._alive and self._faults.fires(NeverAnswers) is None:
            asyncio.get_running_loop().call_later(REACTION_SECONDS, self._answer, counter)

    def confirmed(self, agreement_id: str) -> None:
        """Take notice of an agreement signed by the requestor; a decision follows shortly."""
        if self._alive:
            self._tasks.spawn(self._decide(agreement_id))

    def _publish(self) -> None:
        constraints = offer_constraints(self._around.fleet.subnet, self._around.clock.now())
        self._around.market.publish(self.node_id, self._offer, constraints)

    def _answer(self, counter: Proposal) -> None:
        if not self._alive:
            return
        now = self._around.clock.now()
        try:
            if not self._is_free():
                raise ProposalRefused(NO_CAPACITY)
            draft = answer_counter(self._offer, counter.properties, self._model, now)
        except ProposalRefused as refusal:
            self._around.refused(self.name, str(refusal))
            self._around.market.reject_counter(counter, str(refusal))
            return
        constraints = offer_constraints(self._around.fleet.subnet, now)
        self._around.market.add_draft(counter, draft, constraints)

    def _is_free(self) -> bool:
        return self._alive and self._agreement_id is None

    # ------------------------------------------------------------------ agreements

    async def _decide(self, agreement_id: str) -> None:
        await asyncio.sleep(REACTION_SECONDS)
        slow = self._faults.fires(SlowApproval)
        if slow is not None:
            await self._around.clock.sleep(slow.seconds)
        books = self._around.books
        agreement = books.agreement(agreement_id)
        if agreement.state != "Pending" or not self._alive:
            return
        now = books.stamp()
        if self._faults.fires(RejectAgreement) is not None:
            reason = {"message": "no thanks"}
        elif not self._is_free():
            reason = {"message": NO_CAPACITY}
        else:
            self._agreement_id = agreement_id
            books.commit(agreement.changed(state="Approved", approved_at=now))
            self._tasks.spawn(self._watch(agreement_id))
            return
        books.commit(agreement.changed(state="Rejected", ended_at=now, reason=reason))

    def end_agreement(
        self,
        agreement_id: str,
        terminator: Literal["Requestor", "Provider"],
        reason: Mapping[str, Any],
    ) -> None:
        """Terminate an agreement; its activities end and its invoice follows shortly.

        Raises:
            Refusal: 410, it is not in force; 500, the provider cannot be reached.
        """
        books = self._around.books
        agreement = books.agreement(agreement_id)
        if agreement.state != "Approved":
            raise Refusal(
                410, f"Can't update Agreement state from {agreement.state} to Terminated."
            )
        if self._unreachable:
            raise endpoint_not_found(f"/net/{self.node_id}/market/agreement/AgreementTerminated")
        worked = bool(books.activities_of(agreement_id))
        books.commit(
            agreement.changed(
                state="Terminated",
                ended_at=books.stamp(),
                terminator=terminator,
                reason=dict(reason),
                invoice=("owed" if self._alive else "withheld") if worked else "none",
            )
        )
        self._activities_changed.notify()
        self._tasks.spawn(self._wind_up(agreement_id))

    def _break_off(self, agreement_id: str, reason: dict[str, str]) -> None:
        if self._alive and self._around.books.agreement(agreement_id).state == "Approved":
            self.end_agreement(agreement_id, "Provider", reason)

    async def _wind_up(self, agreement_id: str) -> None:
        await self.host.destroy_all(agreement_id)
        await asyncio.sleep(INVOICE_SECONDS)
        agreement = self._around.books.agreement(agreement_id)
        if self._alive and agreement.invoice == "owed":
            self._biller.send_invoice(agreement)
        if self._agreement_id == agreement_id:
            self._agreement_id = None
        if self._is_free():
            self._publish()

    async def _watch(self, agreement_id: str) -> None:
        """End the agreement when it expires, idles too long, or as its faults have it."""
        clock = self._around.clock
        agreement = self._around.books.agreement(agreement_id)
        approved_at = agreement.approved_at or clock.now()
        deadlines = {"Agreement expired": expiration(agreement.demand["properties"])}
        fault = self._faults.fires(TerminatesAgreement)
        if fault is not None:
            deadlines["Provider ends the agreement"] = clock.now() + timedelta(
                seconds=fault.after_seconds
            )
        while self._alive and self._around.books.agreement(agreement_id).state == "Approved":
            deadlines["No activity for too long"] = self._idle_deadline(agreement_id, approved_at)
            instant, message = min(
                (instant, text) for text, instant in deadlines.items() if instant is not None
            )
            if instant <= clock.now():
                self.end_agreement(agreement_id, "Provider", {"message": message})
                return
            await self._sleep_or_change((instant - clock.now()).total_seconds())

    def _idle_deadline(self, agreement_id: str, approved_at: datetime) -> datetime | None:
        ends = [approved_at]
        for activity in self._around.books.activities_of(agreement_id):
            if activity.activity_id in self.host.live_ids:
                return None
            ends.append(activity.ended_at or approved_at)
        return max(ends) + timedelta(seconds=self._model.terms.idle_agreement_seconds)

    async def _sleep_or_change(self, seconds: float) -> None:
        change = self._activities_changed.next_change()
        sleep = asyncio.get_running_loop().create_task(self._around.clock.sleep(seconds))
        try:
            await asyncio.wait({sleep, change}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            change.cancel()

    # ------------------------------------------------------------------ activities

    async def create_activity(
        self, agreement_id: str, timeout_seconds: float, activity_id: str | None = None
    ) -> Activity:
        """Start an activity under an agreement in force, with a new id if none is given.

        Raises:
            Refusal: as in `ActivityHost.create`.
        """
        await self.answerable()
        agreement: Agreement = self._around.books.agreement(agreement_id)
        if agreement.state != "Approved":
            raise not_approved(agreement)
        if not self._alive:
            raise endpoint_not_found(f"/net/{self.node_id}/activity/CreateActivity")
        activity = await self.host.create(agreement, timeout_seconds, activity_id)
        self._activities_changed.notify()
        self._biller.start_notes(activity, agreement)
        return activity

    async def destroy_activity(self, activity_id: str) -> None:
        """End an activity; its processes are gone when this returns."""
        await self.answerable()
        await self.host.destroy(activity_id)

    async def connect(self, network_id: str, ip: str, port: int) -> socket.socket:
        """Connect to a TCP port of the activity that has this address in a virtual network.

        Raises:
            OSError: nothing listens there; as `TimeoutError`, nobody has the address.
            ExeUnitGone: the activity ends.
        """
        await self.answerable()
        unit = self.host.unit_at(network_id, ip)
        if unit is None:
            raise TimeoutError
        return await unit.connect(network_id, port)

    def batch_sent(self) -> None:
        """Take notice that a batch was sent; the network may stall from now on."""
        stall = self._faults.fires(NetworkStall)
        if stall is not None:
            self._stalled_until = self._around.clock.now() + timedelta(seconds=stall.seconds)

    async def answerable(self) -> None:
        """Return once the network lets answers of this provider through."""
        clock = self._around.clock
        while self._stalled_until is not None and clock.now() < self._stalled_until:
            await clock.sleep((self._stalled_until - clock.now()).total_seconds())

    # ------------------------------------------------------------------ death

    def _died(self, fault: DiesInCommand) -> None:
        self._alive = False
        self._unreachable = fault.unreachable
        self._tasks.spawn(self._stay_dead(fault))

    async def _stay_dead(self, fault: DiesInCommand) -> None:
        await self.host.vanish()
        if fault.returns_after_seconds is not None:
            await self._around.clock.sleep(fault.returns_after_seconds)
            self._return()

    def _return(self) -> None:
        self._alive = True
        self._unreachable = False
        if self._agreement_id is not None:
            # its agent knows nothing of the time before: it ends what it had, without a bill
            books = self._around.books
            agreement = books.agreement(self._agreement_id)
            if agreement.state == "Approved":
                ended = agreement.changed(
                    state="Terminated",
                    ended_at=books.stamp(),
                    terminator="Provider",
                    reason={"message": "The provider was restarted"},
                    invoice="withheld",
                )
                books.commit(ended)
            self._agreement_id = None
        self._publish()
