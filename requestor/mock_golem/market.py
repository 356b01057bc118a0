"""The market API: demands, proposals, agreements."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from requestor.mock_golem.answers import (
    DEFAULT_POLL_SECONDS,
    Refusal,
    TextRefusal,
    has_gone,
    json_answer,
    missing_field,
    no_content,
    poll_seconds,
    query_count,
    query_instant,
    read_object,
)
from requestor.mock_golem.clock import parse_instant, rfc3339
from requestor.mock_golem.faults import FaultSchedule, SubscriptionLost
from requestor.mock_golem.identifiers import new_agreement_id
from requestor.mock_golem.negotiation import DemandBoard, Proposal
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.records import Agreement
from requestor.mock_golem.surroundings import Surroundings

PREFIX = "/market-api/v1"
_MOST_EVENTS = 100
_DEFAULT_EVENTS = 20
_APPROVAL_SECONDS = 15.0


class MarketApi:
    """Routes of the market API.

    Args:
        surroundings: books and time.
        board: demands and proposals.
        providers: by node id.
        faults: the daemon's faults.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        board: DemandBoard,
        providers: Mapping[str, Provider],
        faults: FaultSchedule,
    ) -> None:
        self._around = surroundings
        self._board = board
        self._providers = providers
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        demand = f"{PREFIX}/demands/{{demand_id}}"
        agreement = f"{PREFIX}/agreements/{{agreement_id}}"
        return [
            web.post(f"{PREFIX}/demands", self._subscribe),
            web.get(f"{PREFIX}/demands", self._list_demands),
            web.delete(demand, self._unsubscribe),
            web.get(f"{demand}/events", self._events),
            web.get(f"{demand}/proposals/{{proposal_id}}", self._show_proposal),
            web.post(f"{demand}/proposals/{{proposal_id}}", self._counter),
            web.post(f"{demand}/proposals/{{proposal_id}}/reject", self._reject),
            web.post(f"{PREFIX}/agreements", self._create_agreement),
            web.get(f"{PREFIX}/agreements", self._list_agreements),
            web.get(agreement, self._show_agreement),
            web.post(f"{agreement}/confirm", self._confirm),
            web.post(f"{agreement}/wait", self._wait),
            web.post(f"{agreement}/cancel", self._cancel),
            web.post(f"{agreement}/terminate", self._terminate),
            web.get(f"{PREFIX}/agreementEvents", self._agreement_events),
        ]

    # ------------------------------------------------------------------ demands

    async def _subscribe(self, request: web.Request) -> web.Response:
        properties, constraints = await _terms(request)
        demand = self._board.subscribe(properties, constraints)
        return json_answer(demand.demand_id, 201)

    async def _list_demands(self, request: web.Request) -> web.Response:
        shown = [
            {
                "properties": demand.properties,
                "constraints": demand.constraints,
                "demandId": demand.demand_id,
                "requestorId": self._around.requestor_id,
                "timestamp": rfc3339(demand.timestamp),
            }
            for demand in self._board.demands.values()
        ]
        return json_answer(shown)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        self._board.unsubscribe(request.match_info["demand_id"])
        return no_content()

    async def _events(self, request: web.Request) -> web.Response:
        demand_id = request.match_info["demand_id"]
        board = self._board
        board.demand(demand_id)
        if self._faults.fires(SubscriptionLost) is not None:
            board.unsubscribe(demand_id)
        limit = query_count(request, "maxEvents") or _DEFAULT_EVENTS
        await board.changed.wait_for(
            lambda: bool(board.demand(demand_id).events), poll_seconds(request)
        )
        events = board.demand(demand_id).events
        if has_gone(request):
            return json_answer([])  # nobody reads this; keep the events for the next poll
        return json_answer([events.popleft() for _ in range(min(limit, len(events)))])

    # ------------------------------------------------------------------ proposals

    def _proposal(self, request: web.Request) -> Proposal:
        demand = self._board.demand(request.match_info["demand_id"])
        return self._board.proposal(request.match_info["proposal_id"], demand.demand_id)

    async def _show_proposal(self, request: web.Request) -> web.Response:
        return json_answer(self._proposal(request).as_json())

    async def _counter(self, request: web.Request) -> web.Response:
        properties, constraints = await _terms(request)
        counter = self._board.add_counter(
            self._proposal(request), self._around.requestor_id, properties, constraints
        )
        self._providers[counter.provider_id].countered(counter)
        return json_answer(counter.proposal_id)

    async def _reject(self, request: web.Request) -> web.Response:
        proposal = self._proposal(request)
        if proposal.issuer_id == self._around.requestor_id:
            raise Refusal(400, f"Can't react to own Proposal [{proposal.proposal_id}].")
        proposal.state = "Rejected"
        return no_content()

    # ------------------------------------------------------------------ agreements

    async def _create_agreement(self, request: web.Request) -> web.Response:
        try:
            body = await read_object(request)
        except TextRefusal as refusal:
            raise Refusal(refusal.status, refusal.message) from refusal
        for name in ("proposalId", "validTo"):
            if not isinstance(body.get(name), str):
                raise Refusal(400, missing_field(name, await request.text()))
        try:
            valid_to = parse_instant(body["validTo"])
        except ValueError as error:
            raise Refusal(400, f"Json deserialize error: {error}") from error
        proposal = self._board.proposal(body["proposalId"])
        agreement = self._draft_agreement(proposal, new_agreement_id(), body["validTo"])
        agreement = agreement.changed(valid_to=valid_to)
        proposal.has_agreement = True
        self._around.books.commit(agreement)
        return json_answer(agreement.agreement_id)

    def _draft_agreement(self, proposal: Proposal, agreement_id: str, valid_to: str) -> Agreement:
        counter = proposal.previous
        shown_id = proposal.proposal_id
        if proposal.issuer_id == self._around.requestor_id or counter is None:
            raise Refusal(
                400,
                f"Can't create Agreement for Proposal [{shown_id}]. No negotiation with Provider "
                "took place. (You should counter Proposal at least one time)",
            )
        if proposal.has_agreement:
            raise Refusal(409, f"Can't create second Agreement for Proposal [{shown_id}].")
        if proposal.state == "Rejected":
            raise Refusal(400, f"Can't create Agreement for rejected Proposal [{shown_id}].")
        if proposal.countered:
            raise Refusal(410, f"Proposal [{shown_id}] was answered otherwise.")
        now = self._around.clock.now()
        provider = self._providers[proposal.provider_id]
        return Agreement(
            agreement_id=agreement_id,
            proposal_id=shown_id,
            provider_id=proposal.provider_id,
            provider_name=provider.name,
            demand={
                "properties": counter.properties,
                "constraints": counter.constraints,
                "demandId": counter.demand_id,
                "requestorId": self._around.requestor_id,
                "timestamp": rfc3339(now),
            },
            offer={
                "properties": proposal.properties,
                "constraints": proposal.constraints,
                "offerId": self._board.offer_id(proposal.provider_id),
                "providerId": proposal.provider_id,
                "timestamp": rfc3339(now),
            },
            valid_to=parse_instant(valid_to),
            timestamp=now,
        )

    async def _list_agreements(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        session = request.query.get("appSessionId")
        after = query_instant(request, "afterDate")
        before = query_instant(request, "beforeDate")
        books = self._around.books
        shown = []
        for agreement_id in list(books.agreements):
            agreement = books.agreement(agreement_id)
            if (
                state in (None, agreement.state)
                and session in (None, agreement.app_session_id)
                and (after is None or agreement.timestamp > after)
                and (before is None or agreement.timestamp < before)
            ):
                shown.append(agreement.as_list_entry())
        return json_answer(shown)

    def _agreement(self, request: web.Request) -> Agreement:
        return self._around.books.agreement(request.match_info["agreement_id"])

    async def _show_agreement(self, request: web.Request) -> web.Response:
        return json_answer(self._agreement(request).as_json())

    async def _confirm(self, request: web.Request) -> web.Response:
        agreement = self._agreement(request)
        if agreement.state != "Proposal":
            raise _cannot_become(agreement, "Pending")
        session = request.query.get("appSessionId")
        self._around.books.commit(agreement.changed(state="Pending", app_session_id=session))
        self._providers[agreement.provider_id].confirmed(agreement.agreement_id)
        return no_content()

    async def _wait(self, request: web.Request) -> web.Response:
        agreement = self._agreement(request)
        shown_id = f"R-{agreement.agreement_id}"  # yagna's messages name the id as a proposal's
        if agreement.state == "Proposal":
            raise Refusal(
                400, f"Agreement [{shown_id}] should be confirmed, before waiting for approval."
            )
        await self._around.books.changed.wait_for(
            lambda: self._agreement(request).state != "Pending",
            poll_seconds(request, _APPROVAL_SECONDS),
        )
        agreement = self._agreement(request)
        if agreement.state == "Pending":
            raise Refusal(408, f"Timeout while waiting for Agreement [{shown_id}] approval.")
        if agreement.state != "Approved":
            raise Refusal(410, agreement.state)
        return no_content()

    async def _cancel(self, request: web.Request) -> web.Response:
        agreement = self._agreement(request)
        if agreement.state not in ("Proposal", "Pending"):
            raise _cannot_become(agreement, "Cancelled")
        now = self._around.books.stamp()
        self._around.books.commit(agreement.changed(state="Cancelled", ended_at=now))
        return no_content()

    async def _terminate(self, request: web.Request) -> web.Response:
        agreement = self._agreement(request)
        reason = await read_object(request) if request.body_exists else {}
        provider = self._providers.get(agreement.provider_id)
        if provider is None:
            raise Refusal(500, f"GSB error: node {agreement.provider_id} is not in the fleet")
        await provider.answerable()
        provider.end_agreement(agreement.agreement_id, "Requestor", reason)
        return web.Response(status=200)

    async def _agreement_events(self, request: web.Request) -> web.Response:
        after = query_instant(request, "afterTimestamp")
        session = request.query.get("appSessionId")
        limit = query_count(request, "maxEvents")
        if limit is not None and not 1 <= limit <= _MOST_EVENTS:
            raise Refusal(
                400, f"Invalid maxEvents '{limit}', should be between 1 and {_MOST_EVENTS}."
            )

        def look() -> list[dict[str, Any]]:
            found = [
                event
                for agreement in self._around.books.agreements.values()
                if session in (None, agreement.app_session_id)
                for event in _events_of(agreement)
                if after is None or parse_instant(event["eventDate"]) > after
            ]
            return sorted(found, key=lambda event: str(event["eventDate"]))

        events = await self._around.books.changed.wait_for(
            look, poll_seconds(request, DEFAULT_POLL_SECONDS)
        )
        return json_answer(events[:limit])


async def _terms(request: web.Request) -> tuple[dict[str, Any], str]:
    body = await read_object(request)
    for name, kind in (("properties", dict), ("constraints", str)):
        if not isinstance(body.get(name), kind):
            raise Refusal(400, missing_field(name, await request.text()))
    return body["properties"], body["constraints"]


def _cannot_become(agreement: Agreement, state: str) -> Refusal:
    return Refusal(410, f"Can't update Agreement state from {agreement.state} to {state}.")


def _events_of(agreement: Agreement) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    if agreement.approved_at is not None:
        events.append(_event(agreement, "AgreementApprovedEvent", rfc3339(agreement.approved_at)))
    if agreement.ended_at is not None and agreement.state in (
        "Terminated",
        "Rejected",
        "Cancelled",
    ):
        event = _event(agreement, f"Agreement{agreement.state}Event", rfc3339(agreement.ended_at))
        if agreement.terminator is not None:
            event |= {"terminator": agreement.terminator, "signature": ""}
        if agreement.reason is not None:
            event["reason"] = agreement.reason
        events.append(event)
    return events


def _event(agreement: Agreement, event_type: str, date: str) -> dict[str, Any]:
    return {
        "eventDate": date,
        "agreementId": agreement.agreement_id,
        "eventType": event_type,
    }
