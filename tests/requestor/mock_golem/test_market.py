"""Market: who is matched with whom, and what providers say in negotiations."""

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio
MARKET = "/market-api/v1"
FLEET = """
runtime: {isolation: process}
providers:
  - {name: small, memory_gib: 1}
  - {name: large, memory_gib: 8, threads: 4, capabilities: [vpn, "!exp:gpu"]}
"""


async def proposals(requestor: Any, **changes: Any) -> list[str]:
    """Return the names of all providers that answer a demand."""
    demand = await requestor.demand(**changes)
    names = []
    while events := await requestor.ok("GET", f"{MARKET}/demands/{demand}/events", timeout=0.15):
        names += [one["proposal"]["properties"]["golem.node.id.name"] for one in events]
    return sorted(names)


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ("(golem.inf.mem.gib>=0.5)", ["large", "small"]),
        ("(golem.inf.mem.gib>=2)", ["large"]),
        ("(&(golem.inf.cpu.threads<4)(golem.runtime.name=vm))", ["small"]),
        ("(golem.runtime.capabilities=!exp:gpu)", ["large"]),
        ("(golem.node.debug.subnet=other)", []),
        ("(golem.runtime.name=vm-nvidia)", []),
        ("(broken", []),
    ],
)
async def test_matching(serve: Any, constraints: str, expected: list[str]) -> None:
    assert await proposals(await serve(FLEET), constraints=constraints) == expected


async def test_offers_have_constraints_too(serve: Any) -> None:
    requestor = await serve(FLEET)
    other_subnet = {"golem.node.debug.subnet": "other"}
    assert await proposals(requestor, properties=other_subnet) == []
    expired = {"golem.srv.comp.expiration": 1_000}
    assert await proposals(requestor, properties=expired) == []


async def test_an_offer_is_what_sdks_expect(serve: Any) -> None:
    requestor = await serve(FLEET)
    demand = await requestor.demand()
    proposal = await requestor.proposal(demand, "Initial", "large")
    offer = proposal["properties"]
    coefficients = offer["golem.com.pricing.model.linear.coeffs"]
    assert [type(one) for one in coefficients] == [float, float, float]
    assert len(coefficients) == len(offer["golem.com.usage.vector"]) + 1
    assert offer["golem.inf.mem.gib"] == 8.0
    assert offer["golem.srv.caps.multi-activity"] is True
    assert proposal["issuerId"] == offer["golem.com.payment.platform.erc20-hoodi-tglm.address"]


async def test_what_happens_wakes_the_poll_that_waits_for_it(serve: Any) -> None:
    requestor = await serve(FLEET)
    events = f"{MARKET}/demands/{{}}/events"
    async with asyncio.timeout(30):  # half of what any of these would wait for nothing
        demand = await requestor.demand()
        (first, *_) = await requestor.ok("GET", events.format(demand), timeout=60)
        await requestor.counter(demand, first["proposal"]["proposalId"])
        states: list[str] = []
        while "Draft" not in states:
            found = await requestor.ok("GET", events.format(demand), timeout=60)
            states += [one["proposal"]["state"] for one in found]
            drafts = [one["proposal"] for one in found if one["proposal"]["state"] == "Draft"]
        agreement = await requestor.sign(drafts[0]["proposalId"])
        await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait", timeout=60)


async def test_negotiable_properties(serve: Any) -> None:
    requestor = await serve()
    asked = {
        "golem.com.payment.debit-notes.accept-timeout?": 30,
        "golem.com.scheme.payu.debit-note.interval-sec?": 600,
        "golem.com.scheme.payu.payment-timeout-sec?": 60,
    }
    draft = (await requestor.draft(properties=asked))["properties"]
    assert draft["golem.com.payment.debit-notes.accept-timeout?"] == 30  # lower is allowed
    assert draft["golem.com.scheme.payu.debit-note.interval-sec?"] == 600  # longer is allowed
    assert draft["golem.com.scheme.payu.payment-timeout-sec?"] == 120  # shorter is not


async def test_properties_not_asked_for_are_not_negotiated(serve: Any) -> None:
    draft = (await (await serve()).draft())["properties"]
    assert [name for name in draft if name.endswith("?")] == [
        "golem.com.payment.debit-notes.accept-timeout?"
    ]


@pytest.mark.parametrize(
    ("minutes", "changes", "reason"),
    [
        (4, {}, "less than 300 s from now"),
        (31, {"golem.com.payment.debit-notes.accept-timeout?": None}, "must accept debit notes"),
        (601, {}, "must pay in between"),
        (15, {"golem.com.payment.chosen-platform": "erc20-mainnet-glm"}, "not supported"),
        (15, {"golem.com.payment.chosen-platform": None}, "Missing fields: /golem/com/payment/"),
    ],
)
async def test_terms_that_providers_refuse(
    serve: Any, minutes: int, changes: dict[str, Any], reason: str
) -> None:
    requestor = await serve()
    milliseconds = int(requestor.clock.now().timestamp() * 1000) + minutes * 60_000
    body = requestor.terms(properties={**changes, "golem.srv.comp.expiration": milliseconds})
    for name in [name for name, value in changes.items() if value is None]:
        del body["properties"][name]
    demand = await requestor.ok("POST", f"{MARKET}/demands", body)
    initial = await requestor.proposal(demand, "Initial")
    path = f"{MARKET}/demands/{demand}/proposals/{initial['proposalId']}"
    counter = await requestor.ok("POST", path, body)
    event = await requestor.next_event(
        demand, lambda event: event["eventType"] == "ProposalRejectedEvent"
    )
    assert event["proposalId"] == counter
    assert reason in event["reason"]["message"]


async def test_after_a_rejection_the_same_draft_brings_a_fresh_one(serve: Any) -> None:
    fleet = "runtime: {isolation: process}\nproviders: [{name: willow, faults: [{kind: "
    requestor = await serve(fleet + "reject_agreement, times: 1}]}]")
    demand = await requestor.demand()
    draft = await requestor.draft(demand)
    agreement = await requestor.sign(draft["proposalId"])
    status, answer = await requestor.call("POST", f"{MARKET}/agreements/{agreement}/wait")
    assert (status, answer) == (410, {"message": "Rejected"})
    counter = await requestor.counter(demand, draft["proposalId"])
    fresh = await requestor.proposal(demand, "Draft")
    assert fresh["prevProposalId"] == counter
    agreement = await requestor.sign(fresh["proposalId"])
    await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait")


async def test_a_provider_works_under_one_agreement_at_a_time(serve: Any) -> None:
    requestor = await serve()
    first, second = await requestor.demand(), await requestor.demand()
    early = await requestor.proposal(second, "Initial")
    agreement = await requestor.sign((await requestor.draft(first))["proposalId"])
    await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait")
    await requestor.counter(second, early["proposalId"])
    event = await requestor.next_event(second, lambda event: True)
    assert event["reason"]["message"].startswith("No capacity available")
    third = await requestor.demand()  # the offer stays where it is, and the answer is the same
    shown = await requestor.proposal(third, "Initial")
    await requestor.counter(third, shown["proposalId"])
    event = await requestor.next_event(third, lambda event: True)
    assert event["reason"]["message"].startswith("No capacity available")
    # when the agreement ends, its demand is offered the provider anew; those put off are answered
    await requestor.terminate(agreement)
    assert (await requestor.draft(first))["state"] == "Draft"
    for demand in (second, third):
        assert (await requestor.proposal(demand, "Draft"))["state"] == "Draft"


async def test_unsubscribing_ends_polls_at_once(serve: Any) -> None:
    requestor = await serve()
    demand = await requestor.demand(constraints="(no.such=*)")
    poll = asyncio.create_task(
        requestor.call("GET", f"{MARKET}/demands/{demand}/events", timeout=30)
    )
    await asyncio.sleep(0)
    await requestor.call("GET", "/version/get")  # sent after the poll
    assert not poll.done()
    await requestor.ok("DELETE", f"{MARKET}/demands/{demand}")
    async with asyncio.timeout(15):  # half of what the poll would wait
        status, answer = await poll
    assert status == 404
    assert answer["message"].endswith("not found. Could be unsubscribed.")


async def test_events_are_not_lost_on_a_client_that_hung_up(serve: Any) -> None:
    requestor = await serve()
    demand = await requestor.demand()
    path = f"{MARKET}/demands/{demand}/events"
    poll = asyncio.create_task(requestor.call("GET", path, timeout=30))
    await asyncio.sleep(0)
    poll.cancel()
    assert (await requestor.proposal(demand, "Initial"))["state"] == "Initial"


async def test_at_most_max_events(serve: Any) -> None:
    requestor = await serve("runtime: {isolation: process}\nproviders: [{name: a, count: 5}]")
    demand = await requestor.demand()
    await asyncio.sleep(0.1)
    path = f"{MARKET}/demands/{demand}/events"
    counts = [len(await requestor.ok("GET", path, timeout=1, maxEvents=2)) for _ in range(3)]
    assert counts == [2, 2, 1]


async def test_a_subscription_lives_for_an_hour(serve: Any, manual_clock: Any) -> None:
    requestor = await serve(clock=manual_clock)
    demand = await requestor.demand()
    await manual_clock.advance(3599)
    assert len(await requestor.ok("GET", f"{MARKET}/demands")) == 1
    await requestor.ok("GET", f"{MARKET}/demands/{demand}/events", timeout=0)
    await manual_clock.advance(1)
    status, _ = await requestor.call("GET", f"{MARKET}/demands/{demand}/events", timeout=0)
    assert status == 404


async def test_lists_of_agreements(serve: Any) -> None:
    requestor = await serve(FLEET)
    first = await requestor.sign(
        (await requestor.draft(provider="small"))["proposalId"], appSessionId="one"
    )
    second = await requestor.sign(
        (await requestor.draft(provider="large"))["proposalId"], appSessionId="two"
    )
    for agreement in (first, second):
        await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait")
    path = f"{MARKET}/agreements"
    listed = await requestor.ok("GET", path, state="Approved")
    assert [one["id"] for one in listed] == [first, second]
    assert all(one["role"] == "Requestor" and one["approvedDate"] for one in listed)
    assert [one["id"] for one in await requestor.ok("GET", path, appSessionId="two")] == [second]
    await requestor.terminate(first)
    assert [one["id"] for one in await requestor.ok("GET", path, state="Terminated")] == [first]


async def test_what_is_not_signed_in_time_expires(serve: Any, manual_clock: Any) -> None:
    requestor = await serve(clock=manual_clock)
    draft = await requestor.draft()
    body = {"proposalId": draft["proposalId"], "validTo": "2026-11-20T03:40:00Z"}
    agreement = await requestor.ok("POST", f"{MARKET}/agreements", body)
    await manual_clock.advance(300)
    status, answer = await requestor.call("POST", f"{MARKET}/agreements/{agreement}/confirm")
    assert status == 410 and "from Expired to Pending" in answer["message"]


async def test_an_agreement_can_be_cancelled_before_its_approval(
    serve: Any, manual_clock: Any
) -> None:
    fleet = "runtime: {isolation: process}\nproviders: [{name: willow, faults: [{kind: "
    requestor = await serve(fleet + "slow_approval, seconds: 60}]}]", clock=manual_clock)
    agreement = await requestor.sign((await requestor.draft())["proposalId"])
    await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/cancel")
    status, answer = await requestor.call("POST", f"{MARKET}/agreements/{agreement}/wait")
    assert (status, answer) == (410, {"message": "Cancelled"})
    await manual_clock.advance(60)  # the provider's late decision changes nothing
    shown = await requestor.ok("GET", f"{MARKET}/agreements/{agreement}")
    assert shown["state"] == "Cancelled"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"{MARKET}/demands/nonsense/events", ..., 400),
        ("POST", f"{MARKET}/demands", {"properties": {}}, 400),
        ("POST", f"{MARKET}/demands", [], 400),
        ("POST", f"{MARKET}/agreements", {"proposalId": "x", "validTo": "soon"}, 400),
        ("POST", f"{MARKET}/agreements", {"proposalId": "x", "validTo": "2100-01-01"}, 404),
        ("GET", f"{MARKET}/agreementEvents?timeout=nan", ..., 400),
        ("GET", f"{MARKET}/agreementEvents?afterTimestamp=noon", ..., 400),
        ("GET", f"{MARKET}/agreementEvents?maxEvents=-1", ..., 400),
    ],
)
async def test_bad_requests(serve: Any, method: str, path: str, body: Any, status: int) -> None:
    requestor = await serve()
    assert (await requestor.call(method, path, body))[0] == status


async def test_a_provider_of_before_july_2023_takes_the_only_platform_there_is(serve: Any) -> None:
    requestor = await serve(
        "runtime: {isolation: process}\n"
        "providers: [{name: willow, terms: {required_properties: []}}]"
    )
    body = requestor.terms()
    del body["properties"]["golem.com.payment.chosen-platform"]
    demand = await requestor.ok("POST", f"{MARKET}/demands", body)
    initial = await requestor.proposal(demand, "Initial")
    path = f"{MARKET}/demands/{demand}/proposals/{initial['proposalId']}"
    await requestor.ok("POST", path, body)
    draft = await requestor.proposal(demand, "Draft")
    agreement = await requestor.sign(draft["proposalId"])
    await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait", timeout=60)
    await requestor.activity(agreement)
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    assert invoice["paymentPlatform"] == "erc20-hoodi-tglm"


async def test_no_more_than_a_hundred_events_of_agreements_at_once(serve: Any) -> None:
    """As yagna 0.17.6 answers."""
    requestor = await serve()
    for count in (0, 101, 500):
        status, body = await requestor.call("GET", f"{MARKET}/agreementEvents?maxEvents={count}")
        assert status == 400 and "should be between 1 and 100" in str(body)
