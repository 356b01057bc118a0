"""Plain REST calls as yapapi makes them, on both daemons: right, wrong, repeated and late."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import PlayScenario, Stage

pytestmark = pytest.mark.asyncio
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"
ALLOCATIONS = f"{PAYMENT}/allocations"
PLATFORM = "erc20-hoodi-tglm"
PROGRAMS = Path(__file__).with_name("programs")


def shell(text: str) -> dict[str, Any]:
    """Return a run command as yapapi writes it."""
    capture: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": "/bin/sh", "args": ["-c", text], "capture": capture}}


# ---------------------------------------------------------------------- keys, the daemon itself


async def test_a_wrong_key(play: PlayScenario) -> None:
    async with play("wrong_key") as stage:
        for path in ("/me", ALLOCATIONS, f"{MARKET}/demands", f"{ACTIVITY}/activity"):
            wrong = {"Authorization": "Bearer nonsense"}
            assert await stage.call("GET", path, headers=wrong) == (401, "Invalid application key")
        none = {"Authorization": ""}
        assert await stage.call("GET", "/me", headers=none) == (401, "Missing application key")
        assert (await stage.call("GET", "/version/get", headers=none))[0] == 200
        assert (await stage.ok("GET", "/me"))["identity"] == stage.daemon.identity


async def test_unknown_places(play: PlayScenario) -> None:
    async with play("unknown_places") as stage:
        for path in ("/nowhere", f"{MARKET}/nowhere", f"{PAYMENT}/nowhere"):
            assert await stage.call("GET", path) == (404, None)
        for method, path in (
            ("PUT", "/me"),
            ("PUT", f"{MARKET}/demands"),
            ("PATCH", ALLOCATIONS),
            ("PUT", f"{ACTIVITY}/activity"),
            ("DELETE", "/net-api/v1/net"),
        ):
            assert (await stage.call(method, path))[0] in (404, 405)
        (account,) = [
            one
            for one in await stage.ok("GET", f"{PAYMENT}/requestorAccounts")
            if one["platform"] == PLATFORM
        ]
        assert account["address"] == stage.daemon.identity


# ---------------------------------------------------------------------- allocations


async def test_allocations(play: PlayScenario) -> None:
    async with play("allocations") as stage:

        def body(**changes: Any) -> dict[str, Any]:
            usual = {
                "paymentPlatform": PLATFORM,
                "totalAmount": "1.0",
                "makeDeposit": False,
                "timeout": stage.later(600),
            }
            return {name: one for name, one in {**usual, **changes}.items() if one is not None}

        refused = [
            (400, body(totalAmount="x")),
            (400, body(totalAmount=None)),
            (400, body(timeout=stage.later(-5))),
            (400, body(paymentPlatform="nonsense")),
            (500, body(paymentPlatform="erc20-mainnet-glm")),
            (400, body(totalAmount="9999999")),
        ]
        for status, wrong in refused:
            await stage.refused(status, "POST", ALLOCATIONS, wrong)
        for right in (
            body(totalAmount=1),
            body(totalAmount="-1"),
            body(paymentPlatform={"network": "hoodi"}),
            body(makeDeposit=None),
            body(timeout=None),
        ):
            made = await stage.ok("POST", ALLOCATIONS, right)
            await stage.ok("DELETE", f"{ALLOCATIONS}/{made['allocationId']}")
        allocation = await stage.allocation("0.00001")
        one = f"{ALLOCATIONS}/{allocation}"
        assert (await stage.ok("GET", one))["remainingAmount"] == "0.00001"
        raised = await stage.ok("PUT", one, {"totalAmount": "0.00002"})
        assert (raised["totalAmount"], raised["spentAmount"]) == ("0.00002", "0")
        listed = await stage.ok("GET", ALLOCATIONS)
        assert [found["allocationId"] for found in listed] == [allocation]
        decorations = await stage.ok(
            "GET", f"{PAYMENT}/demandDecorations", allocationIds=allocation
        )
        assert {entry["value"] for entry in decorations["properties"]} == {
            stage.daemon.identity,
            "3",
        }
        await stage.ok("DELETE", one)
        await stage.refused(410, "DELETE", one)
        await stage.refused(404, "GET", one)
        await stage.refused(404, "GET", f"{ALLOCATIONS}/{uuid.uuid4()}")
        await stage.refused(404, "DELETE", f"{ALLOCATIONS}/{uuid.uuid4()}")
        gone = {"allocationIds": str(uuid.uuid4())}
        await stage.refused(404, "GET", f"{PAYMENT}/demandDecorations", **gone)


async def test_an_allocation_that_expires(play: PlayScenario) -> None:
    """It vanishes at its time; what hangs on it cannot be accepted from it any more."""
    async with play("allocation_expiry") as stage:
        short = await stage.allocation("1", lifetime_seconds=2.0)
        agreement = await stage.agreement("willow")
        activity = await stage.activity(agreement)
        await stage.run(activity, [shell("sleep 2.2")])
        await stage.refused(404, "GET", f"{ALLOCATIONS}/{short}")
        await stage.refused(410, "DELETE", f"{ALLOCATIONS}/{short}")
        assert await stage.ok("GET", ALLOCATIONS) == []
        await stage.ok("DELETE", f"{ACTIVITY}/activity/{activity}")
        path = f"{MARKET}/agreements/{agreement}/terminate"
        await stage.ok("POST", path, {"message": "done"})
        invoice = await stage.invoice(agreement)
        accept = f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept"
        amount = {"totalAmountAccepted": invoice["amount"]}
        await stage.refused(400, "POST", accept, {**amount, "allocationId": short})
        released = await stage.allocation()
        await stage.ok("DELETE", f"{ALLOCATIONS}/{released}")
        await stage.refused(400, "POST", accept, {**amount, "allocationId": released})
        fresh = await stage.allocation()
        await stage.ok("POST", accept, {**amount, "allocationId": fresh})
        await stage.ok("DELETE", f"{ALLOCATIONS}/{fresh}")
        await stage.nothing_open()


# ---------------------------------------------------------------------- market


async def test_demands_and_proposals(play: PlayScenario) -> None:
    async with play("demands_and_proposals") as stage:
        never = {**stage.terms("willow"), "constraints": "(golem.runtime.name=))"}
        broken = await stage.ok("POST", f"{MARKET}/demands", never)
        assert await stage.ok("GET", f"{MARKET}/demands/{broken}/events", timeout="1") == []
        await stage.ok("DELETE", f"{MARKET}/demands/{broken}")
        await stage.call("POST", f"{MARKET}/demands", {"properties": {}})

        demand = await stage.demand("willow")
        one = f"{MARKET}/demands/{demand}"
        initial = (await stage.proposal(demand, "Initial"))["proposalId"]
        sign = {"proposalId": initial, "validTo": stage.later(3600)}
        words = await stage.refused(400, "POST", f"{MARKET}/agreements", sign)
        assert "No negotiation with Provider took place" in words
        counter = await stage.ok("POST", f"{one}/proposals/{initial}", stage.terms("willow"))
        await stage.refused(410, "POST", f"{one}/proposals/{initial}", stage.terms("willow"))
        own = await stage.refused(400, "POST", f"{one}/proposals/{counter}", stage.terms("willow"))
        assert own == f"Can't react to own Proposal [{counter}]."
        await stage.refused(400, "POST", f"{one}/proposals/{counter}/reject", {"message": "x"})
        draft = await stage.proposal(demand, "Draft")
        shown = await stage.ok("GET", f"{one}/proposals/{draft['proposalId']}")
        assert (shown["state"], shown["prevProposalId"]) == ("Draft", counter)
        reject = f"{one}/proposals/{draft['proposalId']}/reject"
        await stage.ok("POST", reject, {"message": "too dear"})
        await stage.call("POST", reject, {"message": "again"})
        late = {"proposalId": draft["proposalId"], "validTo": stage.later(3600)}
        await stage.call("POST", f"{MARKET}/agreements", late)
        unknown = f"R-{'0' * 64}"
        await stage.call("GET", f"{one}/proposals/{unknown}")
        await stage.call("POST", f"{one}/proposals/{unknown}", stage.terms("willow"))

        poll = asyncio.ensure_future(stage.call("GET", f"{one}/events", timeout="5"))
        listed = await stage.ok("GET", f"{MARKET}/demands")
        assert [found["demandId"] for found in listed] == [demand]
        await stage.ok("DELETE", one)
        assert (await poll)[0] == 404  # at once
        await stage.refused(404, "DELETE", one)
        await stage.refused(404, "GET", f"{one}/events")
        await stage.refused(400, "GET", f"{MARKET}/demands/nonsense/events")


async def test_a_provider_that_is_busy(play: PlayScenario) -> None:
    """Its offer is still shown, and its answer to a counter is a refusal."""
    async with play("provider_busy") as stage:
        allocation = await stage.allocation()
        agreement = await stage.agreement("willow")
        demand = await stage.demand("willow")
        one = f"{MARKET}/demands/{demand}"
        initial = (await stage.proposal(demand, "Initial"))["proposalId"]
        counter = await stage.ok("POST", f"{one}/proposals/{initial}", stage.terms("willow"))
        (refusal,) = await stage.ok("GET", f"{one}/events", timeout="5", maxEvents="10")
        assert (refusal["eventType"], refusal["proposalId"]) == ("ProposalRejectedEvent", counter)
        assert refusal["reason"]["message"].startswith("No capacity available")
        await stage.activity(agreement)
        await stage.settle(agreement, allocation)
        assert (await stage.proposal(demand, "Draft"))["prevProposalId"] == counter  # it is free
        await stage.ok("DELETE", one)
        await stage.nothing_open()


async def test_two_requestors_at_once(play: PlayScenario) -> None:
    """On one key all see everything; each pays its own, and whoever asks is answered."""
    async with play("two_requestors") as stage:
        mine, others = await stage.allocation(), await stage.allocation("2")
        first, second = await stage.demand("willow"), await stage.demand("maple")
        listed = await stage.ok("GET", f"{MARKET}/demands")
        assert {one["demandId"] for one in listed} == {first, second}
        agreements = [
            await stage.confirm(await stage.sign(await stage.draft(demand, provider)))
            for demand, provider in ((first, "willow"), (second, "maple"))
        ]
        assert set(await stage.approved()) == set(agreements)
        activities = [await stage.activity(agreement) for agreement in agreements]
        batches = [await stage.send(one, [shell("sleep 0.5; echo done")]) for one in activities]
        for activity, batch in zip(activities, batches, strict=True):
            (result,) = await stage.results(activity, batch)
            assert result["stdout"] == "done\n"
        for demand in (first, second):
            await stage.ok("DELETE", f"{MARKET}/demands/{demand}")
        for activity in activities:
            await stage.ok("DELETE", f"{ACTIVITY}/activity/{activity}")
        for agreement, allocation in zip(agreements, (mine, others), strict=True):
            await stage.settle(agreement, allocation)
        await stage.nothing_open()


async def test_terms_that_a_provider_refuses(play: PlayScenario) -> None:
    """Less than five minutes: the counter is refused in an event, and no Draft comes."""
    async with play("terms_refused") as stage:
        demand = await stage.demand("willow")
        initial = (await stage.proposal(demand, "Initial"))["proposalId"]
        path = f"{MARKET}/demands/{demand}"
        short = stage.terms("willow", lifetime_seconds=60)
        counter = await stage.ok("POST", f"{path}/proposals/{initial}", short)
        events = await stage.ok("GET", f"{path}/events", timeout="5")
        assert [event["eventType"] for event in events] == ["ProposalRejectedEvent"]
        assert events[0]["proposalId"] == counter
        await stage.ok("DELETE", path)


async def test_a_provider_that_does_not_answer(play: PlayScenario) -> None:
    async with play("provider_does_not_answer") as stage:
        demand = await stage.demand("aspen")
        draft = await stage.draft(demand, "aspen")
        words = await stage.refused(400, "POST", f"{MARKET}/agreements", {"proposalId": draft})
        assert "missing field `validTo`" in words
        agreement = await stage.sign(draft)
        again = {"proposalId": draft, "validTo": stage.later(3600)}
        await stage.refused(409, "POST", f"{MARKET}/agreements", again)
        one = f"{MARKET}/agreements/{agreement}"
        assert (await stage.ok("GET", one))["state"] == "Proposal"
        await stage.refused(400, "POST", f"{one}/wait", timeout="1")
        await stage.ok("POST", f"{one}/confirm")
        await stage.refused(410, "POST", f"{one}/confirm")
        await stage.refused(408, "POST", f"{one}/wait", timeout="1")
        assert (await stage.ok("GET", one))["state"] == "Pending"
        await stage.refused(400, "POST", f"{ACTIVITY}/activity", agreement)
        await stage.refused(410, "POST", f"{one}/terminate", {"message": "too slow"})
        await stage.refused(404, "GET", f"{MARKET}/agreements/{'0' * 64}")
        await stage.ok("DELETE", f"{MARKET}/demands/{demand}")


async def test_an_agreement_and_its_end(play: PlayScenario) -> None:
    """The requestor ends it while a command runs."""
    async with play("agreement_ended_by_requestor") as stage:
        allocation = await stage.allocation()
        agreement = await stage.agreement("willow")
        one = f"{MARKET}/agreements/{agreement}"
        assert (await stage.ok("GET", one))["state"] == "Approved"
        activity = await stage.activity(agreement)
        batch = await stage.send(activity, [shell("sleep 60")])
        path = f"{ACTIVITY}/activity/{activity}"
        assert await stage.ok("GET", f"{path}/exec/{batch}", timeout="1") == []
        assert await stage.approved() == [agreement]
        await stage.settle(agreement, allocation)
        await stage.refused(410, "POST", f"{one}/terminate", {"message": "again"})
        await stage.refused(410, "POST", f"{one}/confirm")
        await stage.refused(400, "POST", f"{ACTIVITY}/activity", agreement)
        assert (await stage.ok("GET", one))["state"] == "Terminated"
        assert (await stage.ok("GET", f"{path}/state"))["state"][0] == "Terminated"
        await stage.refused(500, "POST", f"{path}/exec", {"text": "[]"})
        events = await stage.ok(
            "GET", f"{MARKET}/agreementEvents", afterTimestamp=stage.since.isoformat(), timeout="1"
        )
        kinds = [event["eventType"] for event in events if event["agreementId"] == agreement]
        # twice each, if the daemon is the provider's too
        assert list(dict.fromkeys(kinds)) == ["AgreementApprovedEvent", "AgreementTerminatedEvent"]
        await stage.nothing_open()


# ---------------------------------------------------------------------- activities


async def test_activities(play: PlayScenario) -> None:
    async with play("activities") as stage:
        allocation = await stage.allocation()
        agreement = await stage.agreement("elder")
        activities = f"{ACTIVITY}/activity"
        wanted = {"agreementId": agreement}
        await stage.refused(408, "POST", activities, wanted, timeout="2")
        await stage.ok("GET", activities, agreementId=agreement)
        await stage.call("GET", activities)
        made = await stage.ok("POST", activities, wanted, timeout="30")
        activity = made["activityId"]
        one = f"{activities}/{activity}"
        assert (await stage.ok("GET", f"{one}/state"))["state"] == ["Initialized", None]
        assert len((await stage.ok("GET", f"{one}/usage"))["currentUsage"]) == 2
        for text in ("nonsense", '[{"fly": {}}]', "{}"):
            await stage.refused(400, "POST", f"{one}/exec", {"text": text})
        (early,) = await stage.run(activity, [shell("true")])
        assert "Invalid state" in early["message"]
        deployed = await stage.run(activity, [{"deploy": {}}, {"start": {"args": []}}])
        assert [result["result"] for result in deployed] == ["Ok", "Ok"]
        assert (await stage.ok("GET", f"{one}/state"))["state"] == ["Ready", None]
        script = [shell("echo out; echo err >&2; sleep 3; exit 7"), shell("true")]
        batch = await stage.send(activity, script)
        results = f"{one}/exec/{batch}"
        assert await stage.ok("GET", results, timeout="1") == []
        await stage.refused(408, "GET", results, timeout="1", commandIndex="0")
        await stage.refused(500, "GET", f"{one}/command")
        (failed,) = await stage.results(activity, batch)
        assert (failed["stdout"], failed["stderr"]) == ("out\n", "err\n")
        assert failed["message"] == "ExeScript command exited with code 7"
        (again,) = await stage.ok("GET", results, timeout="1", commandIndex="1")
        assert (again["index"], again["message"]) == (0, failed["message"])
        await stage.refused(404, "GET", f"{one}/exec/{'0' * 32}", timeout="1")
        (lost,) = await stage.run(
            activity, [{"transfer": {"from": "container:/nowhere/x", "to": "gftp://0x0/y"}}]
        )
        assert lost["result"] == "Error"
        empty = await stage.ok("POST", f"{one}/exec", {"text": "[]"})
        assert await stage.ok("GET", f"{one}/exec/{empty}", timeout="1") == []
        await stage.ok("DELETE", one)
        await stage.ok("DELETE", one)
        assert (await stage.ok("GET", f"{one}/state"))["state"] == ["Terminated", None]
        await stage.ok("GET", f"{one}/usage")
        await stage.refused(500, "POST", f"{one}/exec", {"text": "[]"})
        await stage.refused(500, "GET", results, timeout="1")
        for method, path in (("DELETE", ""), ("GET", "/state"), ("GET", "/usage")):
            await stage.refused(500, method, f"{activities}/{'0' * 32}{path}")
        await stage.settle(agreement, allocation)
        await stage.nothing_open()


async def test_a_provider_that_is_gone_for_good(play: PlayScenario) -> None:
    """The waiting call fails, later ones find nobody; ending its agreement may fail too."""
    async with play("provider_gone") as stage:
        agreement = await stage.agreement("yew")
        activity = await stage.activity(agreement)
        batch = await stage.send(activity, [shell("sleep 60")])
        one = f"{ACTIVITY}/activity/{activity}"
        assert (await stage.call("GET", f"{one}/exec/{batch}", timeout="2"))[0] in (408, 500)
        words = await stage.refused(500, "GET", f"{one}/exec/{batch}", timeout="1")
        assert words.startswith("GSB error")
        await stage.refused(500, "POST", f"{one}/exec", {"text": "[]"})
        async with asyncio.timeout(30):
            while (await stage.ok("GET", f"{one}/state"))["state"][0] != "Unresponsive":
                await asyncio.sleep(0.5)
        await stage.call("DELETE", one)
        await stage.call(
            "POST", f"{MARKET}/agreements/{agreement}/terminate", {"message": "it is gone"}
        )


# ---------------------------------------------------------------------- bills


async def test_bills(play: PlayScenario) -> None:
    """Debit notes and an invoice: accepted wrongly, rightly, twice; rejected."""
    async with play("bills") as stage:
        allocation, small = await stage.allocation(), await stage.allocation("0.00001")
        agreement = await stage.agreement("poplar")
        activity = await stage.activity(agreement)
        await stage.run(activity, [shell("sleep 2.5")])
        since = {"afterTimestamp": stage.since.isoformat()}
        events = await stage.ok(
            "GET", f"{PAYMENT}/debitNoteEvents", timeout="2", maxEvents="2", **since
        )
        assert [event["eventType"] for event in events] == ["DebitNoteReceivedEvent"] * 2
        note = await stage.ok("GET", f"{PAYMENT}/debitNotes/{events[1]['debitNoteId']}")
        assert note["activityId"] == activity
        one = f"{PAYMENT}/debitNotes/{note['debitNoteId']}"
        amount = {"totalAmountAccepted": note["totalAmountDue"]}
        right = {**amount, "allocationId": allocation}
        await stage.refused(400, "POST", f"{one}/accept", {**right, "totalAmountAccepted": "0.5"})
        await stage.refused(
            400, "POST", f"{one}/accept", {**amount, "allocationId": str(uuid.uuid4())}
        )
        await stage.refused(400, "POST", f"{one}/accept", {**amount, "allocationId": small})
        await stage.ok("POST", f"{one}/accept", right)
        await stage.ok("POST", f"{one}/accept", right)
        no = {"rejectionReason": "BAD_SERVICE", "totalAmountAccepted": "0"}
        await stage.refused(501, "POST", f"{one}/reject", no)
        await stage.refused(404, "GET", f"{PAYMENT}/debitNotes/{uuid.uuid4()}")

        await stage.ok("DELETE", f"{ACTIVITY}/activity/{activity}")
        events = await stage.ok("GET", f"{PAYMENT}/debitNoteEvents", timeout="2", **since)
        notes = await stage.ok("GET", f"{PAYMENT}/debitNotes", **since)
        assert {one["debitNoteId"] for one in notes} == {one["debitNoteId"] for one in events}
        path = f"{MARKET}/agreements/{agreement}/terminate"
        await stage.ok("POST", path, {"message": "done", "golem.requestor.code": "Success"})
        invoice = await stage.invoice(agreement)
        one = f"{PAYMENT}/invoices/{invoice['invoiceId']}"
        amount = {"totalAmountAccepted": invoice["amount"]}
        right = {**amount, "allocationId": allocation}
        await stage.refused(400, "POST", f"{one}/accept", {**right, "totalAmountAccepted": "0.5"})
        await stage.refused(400, "POST", f"{one}/accept", amount)
        missing = f"{PAYMENT}/invoices/{uuid.uuid4()}"
        await stage.refused(404, "POST", f"{missing}/accept", right)
        await stage.refused(404, "GET", missing)
        await stage.ok("POST", f"{one}/accept", right)
        await stage.ok("POST", f"{one}/accept", right)
        await stage.refused(400, "POST", f"{one}/reject", no)
        spent = await stage.ok("GET", f"{ALLOCATIONS}/{allocation}")
        assert Decimal(spent["spentAmount"]) == Decimal(invoice["amount"])
        assert len(await stage.ok("GET", f"{PAYMENT}/invoices", **since)) == 1
        for made in (allocation, small):
            await stage.ok("DELETE", f"{ALLOCATIONS}/{made}")
        await stage.until_settled(invoice["invoiceId"])
        payments = await stage.ok("GET", f"{one}/payments")
        assert payments
        await stage.nothing_open()


# ---------------------------------------------------------------------- networks


async def test_networks(play: PlayScenario) -> None:
    async with play("networks") as stage:
        nets = "/net-api/v2/vpn/net"
        made = await stage.ok("POST", nets, {"ip": "192.168.5.0/24"})
        one = f"{nets}/{made['id']}"
        await stage.ok("POST", f"{one}/addresses", {"ip": "192.168.5.1"})
        await stage.call("POST", f"{one}/addresses", {"ip": "192.168.5.1"})
        await stage.refused(400, "POST", f"{one}/addresses", {"ip": "10.0.0.1"})
        await stage.refused(400, "POST", f"{one}/addresses", {"ip": "nonsense"})
        first, second = f"0x{'1' * 40}", f"0x{'2' * 40}"
        await stage.ok("POST", f"{one}/nodes", {"id": first, "ip": "192.168.5.2"})
        await stage.ok("POST", f"{one}/nodes", {"id": first, "ip": "192.168.5.2"})
        await stage.ok("POST", f"{one}/nodes", {"id": second, "ip": "192.168.5.2"})
        assert await stage.ok("GET", f"{one}/nodes") == [{"id": first, "ip": "192.168.5.2"}]
        assert await stage.ok("GET", f"{one}/addresses") == [{"ip": "192.168.5.1/24"}]
        assert await stage.ok("GET", nets) == [made]
        assert await stage.ok("GET", f"/net-api/v1/net/{made['id']}") == made
        await stage.ok("DELETE", f"{one}/nodes/{first}")
        await stage.call("DELETE", f"{one}/nodes/{second}")
        await stage.call("POST", nets, {"ip": "nonsense"})
        await stage.call("POST", nets, {})
        await stage.ok("DELETE", one)
        await stage.refused(404, "DELETE", one)
        await stage.refused(404, "POST", f"{one}/nodes", {"id": first, "ip": "192.168.5.2"})


# ---------------------------------------------------------------------- a killed requestor


async def end_activities(stage: Stage, agreement: str) -> None:
    """Destroy the activities that are found under an agreement."""
    for activity in await stage.ok("GET", f"{ACTIVITY}/activity", agreementId=agreement):
        path = f"{ACTIVITY}/activity/{activity}"
        assert (await stage.ok("GET", f"{path}/state"))["state"][0] == "Ready"
        await stage.ok("DELETE", path)


async def test_a_requestor_killed_and_resumed(play: PlayScenario) -> None:
    """All that it left is found over REST, ended, paid and released."""
    async with play("requestor_killed") as stage:
        found = {"YAGNA_API_URL": stage.daemon.url, "YAGNA_APPKEY": stage.daemon.app_key}
        program = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(PROGRAMS / "long_job.py"), "willow"],
            env={**os.environ, **found},
        )
        try:
            await stage.until_said("POST", "/exec", "sleep 60")
        finally:
            program.kill()
            program.wait()
        (demand,) = await stage.ok("GET", f"{MARKET}/demands")
        await stage.ok("DELETE", f"{MARKET}/demands/{demand['demandId']}")
        (agreement,) = await stage.approved()
        await end_activities(stage, agreement)
        (allocation,) = await stage.ok("GET", ALLOCATIONS)
        await stage.settle(agreement, allocation["allocationId"])
        await stage.nothing_open()
