"""A provider at a scripted daemon: what it is told, what it says, and what it bills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from requestor.mock_golem.clock import ManualClock, SystemClock
from requestor.mock_golem.fleet import Fleet, parse_fleet
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.testnet import agent as agent_module
from requestor.mock_golem.testnet import carrying, yagna_market
from requestor.mock_golem.testnet.agent import AgentSettings, ProviderAgent
from requestor.mock_golem.testnet.identities import Identity

if TYPE_CHECKING:
    from tests.requestor.mock_golem.testnet.conftest import BusStandIn, RestStandIn

pytestmark = pytest.mark.asyncio
PLATFORM = "erc20-hoodi-tglm"
PROVIDER, REQUESTOR = "0x" + "a" * 40, "0x" + "b" * 40
AGREEMENT, ACTIVITY = "c" * 64, "d" * 32
DEPLOY = [{"deploy": {}}, {"start": {"args": []}}]
SERVICE = f"/public/exeunit/{ACTIVITY}"


class Site:
    """One provider at work, and the daemon it is at."""

    def __init__(self, agent: ProviderAgent, rest: RestStandIn, bus: BusStandIn) -> None:
        self.agent = agent
        self.rest = rest
        self.bus = bus

    def demand(self, **properties: Any) -> dict[str, Any]:
        """Return the properties of a demand that the provider takes."""
        return {
            "golem.srv.comp.expiration": int(datetime.now(UTC).timestamp() * 1000) + 900_000,
            "golem.com.payment.chosen-platform": PLATFORM,
            "golem.com.payment.debit-notes.accept-timeout?": 240,
            **properties,
        }

    async def offer(self) -> dict[str, Any]:
        """Return the offer that was published."""
        published: dict[str, Any] = await self.rest.wait_call("POST", "/offers")
        return published

    async def propose(self, **changes: Any) -> None:
        """Put an agreement before the provider."""
        offer = await self.offer()
        event = agreement_event(offer["properties"], self.demand())
        event["agreement"].update(changes)
        self.rest.tell("offers", event)

    async def agree(self) -> None:
        """Bring an agreement about."""
        await self.propose()
        await self.rest.wait_call("POST", f"/agreements/{AGREEMENT}/approve")

    async def activity(self) -> None:
        """Bring an activity about."""
        await self.agree()
        self.rest.tell("events", activity_event("CreateActivity"))
        await self.bus.changes.until(lambda: SERVICE in self.bus.services)
        await self.bus.changes.until(lambda: self.states() == ["Initialized"])

    def states(self) -> list[str]:
        """Return the states that were reported on the bus."""
        return [call["state"]["state"][0] for call in self.bus.calls("SetActivityState")]

    def end(self) -> None:
        """Tell that the requestor has ended the agreement."""
        self.rest.tell(
            "agreementEvents",
            {
                "eventType": "AgreementTerminatedEvent",
                "eventDate": "2026-11-20T08:00:00.000000001Z",
                "agreementId": AGREEMENT,
                "terminator": "Requestor",
                "reason": {"message": "done"},
            },
        )

    def state(self) -> str:
        """Return the agreement's state as the provider knows it."""
        return self.agent.books.agreement(AGREEMENT).state

    async def books_say(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds of the provider's books."""
        async with asyncio.timeout(30):
            while not condition():
                await self.agent.books.changed.next_change()


def agreement_event(offer: dict[str, Any], demand: dict[str, Any]) -> dict[str, Any]:
    """Return the event of an agreement that waits for approval, as a daemon tells it."""
    return {
        "eventType": "AgreementEvent",
        "eventDate": "2026-11-20T07:31:17.950Z",
        "agreement": {
            "agreementId": AGREEMENT,
            "demand": {
                "properties": demand,
                "constraints": "()",
                "demandId": "1-2",
                "requestorId": REQUESTOR,
                "timestamp": "2026-11-20T07:31:17Z",
            },
            "offer": {
                "properties": offer,
                "constraints": "()",
                "offerId": "3-4",
                "providerId": PROVIDER,
                "timestamp": "2026-11-20T07:31:17Z",
            },
            "validTo": "2100-01-01T00:00:00Z",
            "state": "Pending",
            "timestamp": "2026-11-20T07:31:17Z",
        },
    }


def activity_event(kind: str, activity_id: str = ACTIVITY) -> dict[str, Any]:
    """Return an event of an activity, as a daemon tells it."""
    return {
        "eventType": {kind: {}},
        "eventDate": "2026-11-20T07:31:18.100000Z",
        "activityId": activity_id,
        "agreementId": AGREEMENT,
    }


def proposal_event(demand: dict[str, Any], proposal_id: str = "P-1") -> dict[str, Any]:
    """Return the event of a requestor's counter-proposal, as a daemon tells it."""
    return {
        "eventType": "ProposalEvent",
        "eventDate": "2026-11-20T07:31:17Z",
        "proposal": {
            "properties": demand,
            "constraints": "()",
            "proposalId": proposal_id,
            "issuerId": REQUESTOR,
            "state": "Draft",
            "timestamp": "2026-11-20T07:31:17Z",
            "prevProposalId": "P-0",
        },
    }


Opened = Callable[..., Any]


@pytest_asyncio.fixture
async def site(rest: RestStandIn, bus: BusStandIn, tmp_path: Path) -> AsyncIterator[Opened]:
    """Open the site of a provider of a fleet."""
    identity = Identity("willow", PROVIDER, "key")

    @asynccontextmanager
    async def opened(terms: str = "", clock: Any = None) -> AsyncIterator[Site]:
        fleet = one_provider(terms)
        store = GftpStore(tmp_path / "store")
        store.directory.mkdir(exist_ok=True)
        settings = AgentSettings(
            url=rest.url,
            bus_address=bus.address,
            fleet=fleet,
            directory=tmp_path / "providers",
            store=store,
            clock=clock or SystemClock(),
        )
        agent = ProviderAgent(identity, fleet.expanded()[0], settings)
        work = asyncio.create_task(agent.run())
        try:
            yield Site(agent, rest, bus)
            assert not work.done(), work.exception()
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    yield opened


def one_provider(terms: str) -> Fleet:
    """Return a fleet of one provider with these further settings."""
    return parse_fleet(
        "runtime: {isolation: process}\n"
        f"providers: [{{name: willow, price: {{start_glm: 0.5}}{terms}}}]"
    )


# ---------------------------------------------------------------------- the market


async def test_the_offer_is_the_providers_own(site: Opened) -> None:
    async with site() as here:
        offer = await here.offer()
        assert offer["properties"]["golem.node.id.name"] == "willow"
        assert offer["properties"]["golem.com.pricing.model.linear.coeffs"][-1] == 0.5
        assert offer["properties"][f"golem.com.payment.platform.{PLATFORM}.address"] == PROVIDER
        assert "(golem.node.debug.subnet=public)" in offer["constraints"]
        await here.rest.wait_call("GET", "/offers/offer1/events")
    assert here.rest.called("DELETE", "/offers/offer1")  # it is taken back at the end


async def test_a_counter_proposal_is_answered_with_a_draft(site: Opened) -> None:
    async with site() as here:
        await here.offer()
        here.rest.tell("offers", proposal_event(here.demand()))
        draft = await here.rest.wait_call("POST", "/offers/offer1/proposals/P-1")
        assert draft["properties"]["golem.com.payment.debit-notes.accept-timeout?"] == 240
        assert "golem.com.scheme.payu.payment-timeout-sec?" not in draft["properties"]


async def test_nested_properties_are_understood(site: Opened) -> None:
    async with site() as here:
        await here.offer()
        flat = here.demand()
        nested = {"golem": {"com": {"payment": {"chosen-platform": PLATFORM}}}}
        del flat["golem.com.payment.chosen-platform"]
        here.rest.tell("offers", proposal_event({**flat, **nested}))
        assert await here.rest.wait_call("POST", "/offers/offer1/proposals/P-1")


async def test_terms_that_the_provider_does_not_want_are_refused(site: Opened) -> None:
    async with site() as here:
        await here.offer()
        demand = here.demand(**{"golem.com.payment.chosen-platform": "erc20-mainnet-glm"})
        here.rest.tell("offers", proposal_event(demand))
        reason = await here.rest.wait_call("POST", "/offers/offer1/proposals/P-1/reject")
        assert reason == {"message": "Payment platform erc20-mainnet-glm is not supported"}


async def test_events_that_make_no_sense_are_left_out(
    site: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        await here.offer()
        for nonsense in (
            {"eventType": "ProposalEvent", "proposal": None},
            {"eventType": "ProposalEvent", "proposal": {"proposalId": 3}},
            {"eventType": "AgreementEvent", "agreement": {"demand": []}},
            {"eventType": "AgreementEvent"},
            {"eventType": 7},
            {},
        ):
            here.rest.tell("offers", nonsense)
        for field, value in (("validTo", "soon"), ("agreementId", None), ("offer", {})):
            await here.propose(**{field: value})
        here.rest.tell("offers", proposal_event(here.demand()))
        await here.rest.wait_call("POST", "/offers/offer1/proposals/P-1")
        assert here.agent.books.agreements == {}
        assert caplog.text.count("an event is left out") == 7


async def test_a_forgotten_offer_is_published_anew(site: Opened) -> None:
    async with site() as here:
        here.rest.statuses["/offers/offer1/events"] = [404]
        assert await here.rest.wait_call("POST", "/offers", count=2) == await here.offer()


async def test_an_offer_that_is_refused_is_tried_again(
    site: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yagna_market, "RETRY_SECONDS", 0.01)
    async with site() as here:
        here.rest.statuses["/offers"] = [500, 400]
        await here.rest.wait_call("POST", "/offers", count=3)


# ---------------------------------------------------------------------- agreements


async def test_an_agreement_is_approved_once(site: Opened) -> None:
    async with site() as here:
        await here.agree()
        await here.propose()  # told again
        here.rest.tell("offers", proposal_event(here.demand()))
        reason = await here.rest.wait_call("POST", "/proposals/P-1/reject")
        assert reason["message"].startswith("No capacity available")
        assert len(here.rest.called("POST", "/approve")) == 1
        place = [path for _, path, _ in here.rest.calls].index(
            f"/market-api/v1/agreements/{AGREEMENT}/approve"
        )
        assert here.rest.queries[place]["appSessionId"]
        assert here.state() == "Approved"


async def test_faults_reject_agreements(site: Opened) -> None:
    async with site(", faults: [{kind: reject_agreement}]") as here:
        await here.propose()
        path = f"/agreements/{AGREEMENT}/reject"
        assert await here.rest.wait_call("POST", path) == {"message": "no thanks"}
        assert here.rest.called("POST", "/approve") == []


async def test_an_approval_that_comes_too_late_frees_the_provider(site: Opened) -> None:
    async with site() as here:
        here.rest.statuses["/approve"] = [410]
        here.rest.answers[f"/agreements/{AGREEMENT}"] = {"state": "Cancelled"}
        await here.agree()
        await here.books_say(lambda: here.state() == "Terminated")
        here.rest.tell("offers", proposal_event(here.demand()))
        await here.rest.wait_call("POST", "/offers/offer1/proposals/P-1")
        assert here.rest.called("POST", "/invoices") == []


async def test_who_was_refused_for_want_of_capacity_is_answered_later(site: Opened) -> None:
    async with site() as here:
        await here.agree()
        here.rest.tell("offers", proposal_event(here.demand(), "P-2"))
        here.rest.tell("offers", proposal_event({}, "P-3"))  # refused for what it is, for ever
        await here.rest.wait_call("POST", "/proposals/P-2/reject")
        here.end()
        await here.rest.wait_call("POST", "/proposals/P-2")
        assert len(here.rest.called("POST", "/offers")) == 1
        assert here.rest.called("POST", "/proposals/P-3") == []


async def test_an_approval_whose_answer_was_lost_counts(site: Opened) -> None:
    async with site() as here:
        here.rest.statuses["/approve"] = [410]
        here.rest.answers[f"/agreements/{AGREEMENT}"] = {"state": "Approved"}
        await here.agree()
        here.rest.tell("events", activity_event("CreateActivity"))
        await here.bus.changes.until(lambda: SERVICE in here.bus.services)
        assert here.state() == "Approved"


async def test_a_provider_that_ends_its_agreement_tells_the_daemon(site: Opened) -> None:
    clock = ManualClock(datetime.now(UTC))
    async with site(", terms: {idle_agreement_seconds: 90}", clock) as here:
        await here.agree()
        await clock.advance(89)
        assert here.state() == "Approved"
        await clock.advance(2)
        told = await here.rest.wait_call("POST", f"/agreements/{AGREEMENT}/terminate")
        assert told == {"message": "No activity for too long"}


# ---------------------------------------------------------------------- activities


async def test_an_activity_works_and_its_agreement_is_billed(site: Opened) -> None:
    async with site() as here:
        await here.activity()
        await here.bus.call(f"{SERVICE}/Exec", {"batchId": "b1", "exeScript": DEPLOY}, "r1")
        await here.bus.call(
            f"{SERVICE}/GetExecBatchResults",
            {"batchId": "b1", "timeout": 20.0, "commandIndex": 1},
            "r2",
        )
        assert here.states()[-1] == "Ready"
        here.rest.tell("events", activity_event("DestroyActivity"))
        await here.bus.changes.until(lambda: here.states()[-1] == "Terminated")
        here.end()
        invoice = await here.rest.wait_call("POST", "/invoices")
        assert invoice["agreementId"] == AGREEMENT
        assert invoice["activityIds"] == [ACTIVITY]
        usage = here.bus.calls("SetActivityUsage")[-1]["usage"]["currentUsage"]
        # start price, 0.1 GLM for a CPU hour, 0.02 for an hour, microseconds and 1e-18 GLM
        due = (
            Decimal("0.5")
            + Decimal(repr(0.1 / 3600)) * round(Decimal(repr(usage[0])), 6)
            + Decimal(repr(0.02 / 3600)) * round(Decimal(repr(usage[1])), 6)
        )
        assert Decimal(invoice["amount"]) == round(due, 18)
        await here.rest.wait_call("POST", "/invoices/bill1/send")


async def test_the_end_of_an_agreement_ends_its_activities(site: Opened) -> None:
    async with site() as here:
        await here.activity()
        here.end()
        await here.bus.changes.until(lambda: here.states()[-1] == "Terminated")
        await here.rest.wait_call("POST", "/invoices/bill1/send")


async def test_an_activity_that_nobody_knows_is_reported_as_ended(site: Opened) -> None:
    async with site() as here:
        await here.agree()
        here.rest.tell("events", activity_event("DestroyActivity", "e" * 32))
        told = await here.rest.wait_call("PUT", f"/activity/{'e' * 32}/state")
        assert told["state"] == ["Terminated", None]


async def test_a_failing_creation_is_told_or_not_as_the_fault_has_it(
    site: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "CREATE_SECONDS", 0.01)
    faults = (
        ", faults: [{kind: activity_create_fails, status: 408, times: 1},"
        " {kind: activity_create_fails, status: 500, after: 1, times: 1}]"
    )
    async with site(faults) as here:
        await here.agree()
        silent, failed = "1" * 32, "2" * 32
        here.rest.tell("events", activity_event("CreateActivity", silent))
        here.rest.tell("events", activity_event("CreateActivity", failed))
        told = await here.rest.wait_call("PUT", f"/activity/{failed}/state")
        assert told["state"] == ["Terminated", None] and "endpoint address" in told["reason"]
        here.rest.tell("events", activity_event("CreateActivity"))
        await here.bus.changes.until(lambda: SERVICE in here.bus.services)
        assert here.rest.called("PUT", f"/activity/{silent}/state") == []


async def test_activity_ids_that_are_no_ids_never_become_folders(
    site: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        await here.agree()
        for wrong in ("../../escape", "", "D" * 32, None):
            event = {**activity_event("CreateActivity"), "activityId": wrong}
            here.rest.tell("events", event)
        here.rest.tell("events", activity_event("CreateActivity"))
        await here.bus.changes.until(lambda: SERVICE in here.bus.services)
        assert caplog.text.count("without an id") == 4
        assert [one.name for one in (tmp_path / "providers" / "activities").iterdir()] == [ACTIVITY]


async def test_a_dead_provider_answers_nothing_and_its_activity_goes_silent(site: Opened) -> None:
    async with site(", faults: [{kind: dies_in_command}]") as here:
        await here.activity()
        run = {"run": {"entry_point": "/bin/sh", "args": ["-c", "sleep 60"]}}
        await here.bus.call(f"{SERVICE}/Exec", {"batchId": "b1", "exeScript": [*DEPLOY, run]})
        await here.bus.changes.until(lambda: SERVICE not in here.bus.services)
        assert "Terminated" not in here.states()
        here.rest.tell("offers", proposal_event(here.demand()))
        here.rest.tell("events", activity_event("CreateActivity", "e" * 32))
        # only that the daemon, which saw it fall silent, wants it gone is heard
        here.rest.tell("events", activity_event("DestroyActivity"))
        await here.rest.wait_call("PUT", f"/activity/{ACTIVITY}/state")
        here.end()
        await here.books_say(lambda: here.state() == "Terminated")
        assert here.rest.called("POST", "/proposals/P-1") == []
        assert here.agent.books.agreement(AGREEMENT).invoice == "withheld"


# ---------------------------------------------------------------------- bills


async def test_debit_notes_are_issued_sent_and_their_acceptance_is_heard(site: Opened) -> None:
    clock = ManualClock(datetime.now(UTC))
    async with site(", terms: {debit_note_interval_seconds: 60}", clock) as here:
        await here.activity()
        await clock.advance(59)
        assert here.rest.called("POST", "/debitNotes") == []
        await clock.advance(2)
        await here.rest.wait_call("POST", "/debitNotes/bill1/send")
        (note,) = here.rest.called("POST", "/debitNotes")
        assert note["activityId"] == ACTIVITY
        assert Decimal(note["totalAmountDue"]) >= Decimal("0.5")
        assert len(note["usageCounterVector"]) == 2
        here.rest.tell(
            "debitNoteEvents",
            {
                "eventType": "DebitNoteAcceptedEvent",
                "eventDate": "2026-11-20T08:00:00Z",
                "debitNoteId": "bill1",
            },
        )
        (kept,) = here.agent.books.debit_notes.values()
        await here.books_say(lambda: here.agent.books.debit_notes[kept.key].status == "ACCEPTED")


async def test_debit_notes_that_are_not_accepted_end_the_agreement(site: Opened) -> None:
    clock = ManualClock(datetime.now(UTC))
    terms = ", terms: {debit_note_interval_seconds: 60, debit_note_accept_seconds: 240}"
    async with site(terms, clock) as here:
        offer = await here.offer()
        negotiated = {
            **offer["properties"],
            "golem.com.payment.debit-notes.accept-timeout?": 240,
        }
        here.rest.tell("offers", agreement_event(negotiated, here.demand()))
        await here.rest.wait_call("POST", "/approve")
        here.rest.tell("events", activity_event("CreateActivity"))
        await here.bus.changes.until(lambda: here.states() == ["Initialized"])
        await clock.advance(299)
        assert here.state() == "Approved"
        await clock.advance(2)
        reason = await here.rest.wait_call("POST", "/terminate")
        assert reason["golem.provider.code"] == "DebitNotesDeadline"


async def test_an_invoice_is_issued_once_however_often_sending_fails(
    site: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "RETRY_SECONDS", 0.01)
    async with site() as here:
        await here.activity()
        here.rest.statuses["/send"] = [500, 408, 200]
        here.end()
        await here.rest.wait_call("POST", "/invoices/bill1/send", count=3)
        assert len(here.rest.called("POST", "/invoices")) == 1
        here.rest.tell(
            "invoiceEvents",
            {
                "eventType": "InvoiceAcceptedEvent",
                "eventDate": "2026-11-20T08:00:00Z",
                "invoiceId": "bill1",
            },
        )
        (invoice,) = here.agent.books.invoices.values()
        await here.books_say(lambda: here.agent.books.invoices[invoice.key].status == "ACCEPTED")


async def test_two_invoices_go_out_when_the_fault_says_so(site: Opened) -> None:
    async with site(", faults: [{kind: duplicate_invoice}]") as here:
        await here.activity()
        here.end()
        await here.rest.wait_call("POST", "/invoices/bill2/send")
        first, second = here.rest.called("POST", "/invoices")
        assert first["amount"] == second["amount"]


# ---------------------------------------------------------------------- a daemon that goes away


async def test_what_is_decided_while_the_daemon_is_away_is_carried_later(
    site: Opened, rest: RestStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (agent_module, carrying, yagna_market):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    async with site() as here:
        await here.activity()
        await rest.stop()
        here.agent.provider.end_agreement(AGREEMENT, "Provider", {"message": "enough"})
        await here.bus.changes.until(lambda: here.states()[-1] == "Terminated")
        await rest.start()
        await rest.wait_call("POST", "/invoices/bill1/send")
        paths = [path.rpartition("/")[2] for verb, path, _ in rest.calls if verb == "POST"]
        assert paths.index("terminate") < paths.index("invoices")
        await rest.wait_call("POST", "/offers", count=2)


async def test_a_second_start_takes_up_what_the_first_left(
    site: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site() as here:
        await here.activity()
    here.rest.calls.clear()
    here.rest.queries.clear()
    orphan = "f" * 64
    here.rest.answers["/agreements"] = [
        {"id": AGREEMENT, "role": "Provider"},
        {"id": orphan, "role": "Provider"},
        {"id": "9" * 64, "role": "Requestor"},
    ]
    async with site() as again:
        # nobody remembers this one: its provider was restarted without its notes
        await again.rest.wait_call("POST", f"/agreements/{orphan}/terminate")
        assert again.state() == "Approved"
        assert again.agent.books.activities[ACTIVITY].ended_at is not None
        again.end()
        invoice = await again.rest.wait_call("POST", "/invoices")
        assert invoice["activityIds"] == [ACTIVITY]
        ended = [path for verb, path, _ in again.rest.calls if path.endswith("/terminate")]
        assert ended == [f"/market-api/v1/agreements/{orphan}/terminate"]


async def test_nothing_of_an_activity_is_left_behind(site: Opened, tmp_path: Path) -> None:
    async with site() as here:
        await here.activity()
        await here.bus.call(f"{SERVICE}/Exec", {"batchId": "b1", "exeScript": DEPLOY})
    assert here.states()[-1] == "Terminated"
    assert list((tmp_path / "providers" / "activities").iterdir()) == []
