"""Simulated providers at the real daemon: work, bills, every fault, and a daemon that dies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from requestor.mock_golem.daemon import DaemonAddress
from requestor.mock_golem.exe_unit import bubblewrap_problem
from requestor.mock_golem.exe_unit.sandbox import devices_problem
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.testnet.testnet import Testnet, TestnetSettings

pytestmark = [
    pytest.mark.testnet,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"
PLATFORM = "erc20-hoodi-tglm"
PATIENCE_SECONDS = 60.0
DEPLOY: list[dict[str, Any]] = [{"deploy": {}}, {"start": {"args": []}}]
NET = "/net-api/v1"
SERVER = """
import socket
with socket.create_server(('192.168.9.2', 7000)) as server:
    connection, (address, _) = server.accept()
    connection.sendall(b'hello from ' + address.encode())
"""
CLIENT = """
import socket, time
for _ in range(200):
    try:
        print(socket.create_connection(('192.168.9.2', 7000), 5).recv(99).decode())
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
"""
FLEET = """
providers:
  - {name: honest, price: {start_glm: 0.25}}
  - {name: other}
  - {name: rejects, faults: [{kind: reject_agreement, times: 1}]}
  - {name: silent, faults: [{kind: never_answers, times: 1}]}
  - {name: slow, faults: [{kind: slow_approval, seconds: 2}]}
  - {name: late, faults: [{kind: activity_create_fails, status: 408, times: 1}]}
  - {name: broken, faults: [{kind: activity_create_fails, status: 500, times: 1}]}
  - {name: stuck, faults: [{kind: deploy_hangs}]}
  - {name: fails, faults: [{kind: command_fails, exit_code: 3}]}
  - {name: hangs, faults: [{kind: command_hangs}]}
  - {name: dies, faults: [{kind: dies_in_command, after_seconds: 0.2}]}
  - name: returns
    faults: [{kind: dies_in_command, after_seconds: 0.2, returns_after_seconds: 2, times: 1}]
  - {name: stalls, faults: [{kind: network_stall, seconds: 3, times: 1}]}
  - {name: generous, faults: [{kind: no_invoice}]}
  - {name: greedy, price: {start_glm: 0.25}, faults: [{kind: invoice_too_high, factor: 10}]}
  - {name: foreign, faults: [{kind: invoice_wrong_platform}]}
  - {name: double, faults: [{kind: duplicate_invoice}]}
  - {name: chatty, faults: [{kind: debit_note_flood, per_second: 5}]}
  - {name: fickle, faults: [{kind: terminates_agreement, after_seconds: 3}]}
  - {name: strict, terms: {debit_note_interval_seconds: 1, debit_note_accept_seconds: 5}}
"""


class Buyer:
    """A requestor in plain HTTP."""

    def __init__(
        self, testnet: Testnet, address: DaemonAddress, session: aiohttp.ClientSession
    ) -> None:
        self.testnet = testnet
        self.demand = ""  # the last one
        self._address = address
        self._session = session

    async def call(
        self, method: str, path: str, body: Any = ..., **query: Any
    ) -> tuple[int, Any]:
        """Send a request; return the status and the decoded body."""
        content = {} if body is ... else {"json": body}
        async with self._session.request(
            method, self._address.url + path, params=query, **content
        ) as answer:
            text = await answer.text()
            as_json = text and "json" in answer.content_type
            return answer.status, json.loads(text) if as_json else text

    async def ok(self, method: str, path: str, body: Any = ..., **query: Any) -> Any:
        """Send a request that must succeed; return its body."""
        status, answer = await self.call(method, path, body, **query)
        assert status in (200, 201, 204), (method, path, status, answer)
        return answer

    def terms(self, name: str, **properties: Any) -> dict[str, Any]:
        """Return a demand that only one provider fits."""
        return {
            "properties": {
                "golem.srv.comp.expiration": int((time.time() + 900) * 1000),
                "golem.srv.caps.multi-activity": True,
                "golem.node.debug.subnet": "public",
                f"golem.com.payment.platform.{PLATFORM}.address": self._address.identity,
                "golem.com.payment.protocol.version": "3",
                "golem.com.payment.chosen-platform": PLATFORM,
                **properties,
            },
            "constraints": f"(&(golem.node.debug.subnet=public)(golem.node.id.name={name}))",
        }

    async def events(self, demand: str, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Wait for what providers say to a demand."""
        path = f"{MARKET}/demands/{demand}/events"
        found: list[dict[str, Any]] = await self.ok("GET", path, timeout=seconds)
        return found

    async def answer(
        self, name: str, wanted: str = "proposal", **properties: Any
    ) -> dict[str, Any]:
        """Counter a provider's offers until it answers, with a `proposal` or a `reason`."""
        terms = self.terms(name, **properties)
        self.demand = demand = str(await self.ok("POST", f"{MARKET}/demands", terms))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for event in await self.events(demand):
                    shown = event.get("proposal", {})
                    if shown.get("state") == "Initial":
                        path = f"{MARKET}/demands/{demand}/proposals/{shown['proposalId']}"
                        await self.ok("POST", path, terms)
                    elif wanted in event:
                        return event

    async def sign(self, name: str, **properties: Any) -> tuple[str, int]:
        """Negotiate and confirm an agreement; return its id and how waiting for it ended."""
        draft = (await self.answer(name, **properties))["proposal"]["proposalId"]
        valid_to = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        body = {"proposalId": draft, "validTo": valid_to}
        agreement = str(await self.ok("POST", f"{MARKET}/agreements", body))
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/confirm")
        status, _ = await self.call("POST", f"{MARKET}/agreements/{agreement}/wait", timeout=15)
        return agreement, status

    async def activity(
        self, name: str, deployed: bool = True, terms: Any = None
    ) -> tuple[str, str]:
        """Return a new agreement and a new activity under it."""
        agreement, status = await self.sign(name, **(terms or {}))
        assert status == 204
        activity = str(await self.ok("POST", f"{ACTIVITY}/activity", agreement))
        if deployed:
            assert [one["result"] for one in await self.execute(activity, DEPLOY)] == ["Ok", "Ok"]
        return agreement, activity

    async def send(self, activity: str, commands: list[dict[str, Any]]) -> str:
        """Start a batch; return the path of its results."""
        body = {"text": json.dumps(commands)}
        batch = await self.ok("POST", f"{ACTIVITY}/activity/{activity}/exec", body)
        return f"{ACTIVITY}/activity/{activity}/exec/{batch}"

    async def results(self, path: str) -> list[dict[str, Any]]:
        """Return a batch's results once it has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                results: list[dict[str, Any]] = await self.ok("GET", path, timeout=5)
                if results and results[-1]["isBatchFinished"]:
                    return results

    async def execute(self, activity: str, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run a batch to its end."""
        return await self.results(await self.send(activity, commands))

    async def end(self, agreement: str) -> None:
        """Terminate an agreement."""
        body = {"message": "done"}
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/terminate", body)

    async def state(self, activity: str) -> str:
        """Return an activity's state."""
        shown = await self.ok("GET", f"{ACTIVITY}/activity/{activity}/state")
        return str(shown["state"][0])

    async def bills(self, kind: str, agreement: str) -> list[dict[str, Any]]:
        """Return an agreement's invoices or debit notes."""
        every = await self.ok("GET", f"{PAYMENT}/{kind}")
        return [bill for bill in every if bill["agreementId"] == agreement]

    async def invoices(self, agreement: str, count: int = 1) -> list[dict[str, Any]]:
        """Return an agreement's invoices once there are so many."""
        found: list[dict[str, Any]] = []

        async def enough() -> bool:
            found[:] = await self.bills("invoices", agreement)
            return len(found) >= count

        await until(enough)
        return found

    async def worked(self, name: str) -> str:
        """Have a provider work and end its agreement; return that."""
        agreement, activity = await self.activity(name)
        await self.execute(activity, [shell("true")])
        await self.end(agreement)
        return agreement


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds at the daemon, which tells nobody."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.1)


def shell(text: str) -> dict[str, Any]:
    """Return a run command."""
    capture: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": "/bin/sh", "args": ["-c", text], "capture": capture}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def buyer() -> AsyncIterator[Buyer]:
    """A requestor at a real daemon with one provider for each fault."""
    testnet = Testnet(TestnetSettings(fleet=parse_fleet(FLEET)))
    address = await testnet.start()
    try:
        headers = {"Authorization": f"Bearer {address.app_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Buyer(testnet, address, session)
    finally:
        await testnet.stop()


async def test_an_honest_job(buyer: Buyer) -> None:
    agreement, activity = await buyer.activity("honest")
    assert await buyer.state(activity) == "Ready"
    (result,) = await buyer.execute(activity, [shell("echo out; echo err >&2")])
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    await buyer.ok("DELETE", f"{ACTIVITY}/activity/{activity}")
    assert await buyer.state(activity) == "Terminated"
    usage = await buyer.ok("GET", f"{ACTIVITY}/activity/{activity}/usage")
    await buyer.end(agreement)
    (invoice,) = await buyer.invoices(agreement)
    cpu_seconds, seconds = map(Decimal, map(repr, usage["currentUsage"]))
    due = Decimal("0.25") + cpu_seconds * Decimal(repr(0.1 / 3600))
    due += seconds * Decimal(repr(0.02 / 3600))
    # usage is billed in whole microseconds, each of which costs less than 1e-10 GLM
    assert abs(Decimal(invoice["amount"]) - due) < Decimal("1e-10")
    assert invoice["activityIds"] == [activity]
    assert invoice["status"] == "RECEIVED"


async def test_a_provider_that_is_taken_refuses_the_next(buyer: Buyer) -> None:
    agreement, status = await buyer.sign("other")
    assert status == 204
    refusal = await buyer.answer("other", "reason")
    assert refusal["reason"]["message"].startswith("No capacity available")
    refused = buyer.demand
    await buyer.end(agreement)
    # who was put off hears of it, without a word
    (event, *_) = await buyer.events(refused, PATIENCE_SECONDS)
    assert event["proposal"]["state"] == "Draft"
    again, status = await buyer.sign("other")
    assert status == 204
    await buyer.end(again)


async def test_negotiation_faults(buyer: Buyer) -> None:
    assert (await buyer.sign("rejects"))[1] == 410
    agreement, status = await buyer.sign("rejects")
    assert status == 204
    await buyer.end(agreement)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await buyer.answer("silent")
    assert (await buyer.answer("silent"))["proposal"]["state"] == "Draft"
    started = time.monotonic()
    agreement, status = await buyer.sign("slow")
    assert status == 204 and time.monotonic() - started >= 2.0
    await buyer.end(agreement)


async def test_activities_that_cannot_be_created(buyer: Buyer) -> None:
    for name, status in (("late", 408), ("broken", 500)):
        agreement, _ = await buyer.sign(name)
        answer = await buyer.call("POST", f"{ACTIVITY}/activity", agreement, timeout=5)
        assert answer[0] == status, answer
        await buyer.ok("POST", f"{ACTIVITY}/activity", agreement)
        await buyer.end(agreement)


async def test_commands_that_fail_or_never_end(buyer: Buyer) -> None:
    agreement, activity = await buyer.activity("fails")
    (result,) = await buyer.execute(activity, [shell("true"), shell("true")])
    assert result["message"] == "ExeScript command exited with code 3"
    await buyer.end(agreement)
    agreement, activity = await buyer.activity("hangs")
    path = await buyer.send(activity, [shell("true")])
    assert await buyer.ok("GET", path, timeout=1) == []
    assert (await buyer.call("GET", path, timeout=1, commandIndex=0))[0] == 408
    await buyer.end(agreement)
    agreement, activity = await buyer.activity("stuck", deployed=False)
    path = await buyer.send(activity, DEPLOY)
    assert await buyer.ok("GET", path, timeout=1) == []
    await buyer.end(agreement)


async def test_a_provider_that_dies_and_comes_back(buyer: Buyer) -> None:
    for name in ("dies", "returns"):
        agreement, activity = await buyer.activity(name)
        path = await buyer.send(activity, [shell("sleep 60")])
        # the router of the bus tells nobody whose call is lost: it lasts as long as it may
        assert (await buyer.call("GET", path, timeout=2))[0] == 408
        status, answer = await buyer.call("GET", path, timeout=2)
        assert status == 500 and "GSB error" in answer["message"]
        seen = [await buyer.state(activity)]

        async def gone(activity: str = activity, seen: list[str] = seen) -> bool:
            seen.append(await buyer.state(activity))
            return seen[-1] == "Terminated"

        await until(gone)
        assert list(dict.fromkeys(seen)) in (
            ["Ready", "Unresponsive", "Terminated"],
            ["Unresponsive", "Terminated"],
        )
        if name == "dies":
            await buyer.end(agreement)
        else:
            shown = await buyer.ok("GET", f"{MARKET}/agreements/{agreement}")
            assert shown["state"] == "Terminated"
            again, status = await buyer.sign(name)
            assert status == 204
            await buyer.end(again)
        assert await buyer.bills("invoices", agreement) == []


async def test_a_network_that_stalls(buyer: Buyer) -> None:
    agreement, activity = await buyer.activity("stalls", deployed=False)
    started = time.monotonic()
    path = await buyer.send(activity, DEPLOY)
    assert time.monotonic() - started < 3.0
    await buyer.ok("GET", path, timeout=5)
    assert time.monotonic() - started >= 3.0
    await buyer.end(agreement)


async def test_dishonest_bills(buyer: Buyer) -> None:
    generous, greedy, foreign, double = [
        await buyer.worked(name) for name in ("generous", "greedy", "foreign", "double")
    ]
    (invoice,) = await buyer.invoices(greedy)
    assert Decimal("2.5") < Decimal(invoice["amount"]) < Decimal("2.51")
    (invoice,) = await buyer.invoices(foreign)
    assert invoice["paymentPlatform"] == PLATFORM  # the daemon takes it from the agreement
    first, second = await buyer.invoices(double, count=2)
    assert first["amount"] == second["amount"] and first["invoiceId"] != second["invoiceId"]
    assert await buyer.bills("invoices", generous) == []


async def test_a_flood_of_debit_notes(buyer: Buyer) -> None:
    agreement, _ = await buyer.activity("chatty")

    async def many() -> bool:
        return len(await buyer.bills("debitNotes", agreement)) >= 10

    started = time.monotonic()
    await until(many)
    assert time.monotonic() - started < 30
    notes = await buyer.bills("debitNotes", agreement)
    amounts = [Decimal(note["totalAmountDue"]) for note in notes]
    assert sorted(amounts) == sorted(set(amounts))  # every one asks for more
    await buyer.end(agreement)


async def test_a_provider_that_ends_its_agreement(buyer: Buyer) -> None:
    agreement, activity = await buyer.activity("fickle")

    async def ended() -> bool:
        shown = await buyer.ok("GET", f"{MARKET}/agreements/{agreement}")
        return bool(shown["state"] == "Terminated")

    await until(ended)
    await buyer.invoices(agreement)
    assert await buyer.state(activity) == "Terminated"


async def test_debit_notes_must_be_accepted_in_time(buyer: Buyer) -> None:
    negotiated = {
        "golem.com.payment.debit-notes.accept-timeout?": 5,
        "golem.com.scheme.payu.debit-note.interval-sec?": 1,
    }
    agreement, activity = await buyer.activity("strict", terms=negotiated)
    allocated = {"totalAmount": "1", "paymentPlatform": PLATFORM, "makeDeposit": False}
    allocation = await buyer.ok("POST", f"{PAYMENT}/allocations", allocated)
    accepted: set[str] = set()

    async def accepted_for_long() -> bool:
        for note in await buyer.bills("debitNotes", agreement):
            if note["debitNoteId"] not in accepted:
                accepted.add(note["debitNoteId"])
                body = {
                    "totalAmountAccepted": note["totalAmountDue"],
                    "allocationId": allocation["allocationId"],
                }
                path = f"{PAYMENT}/debitNotes/{note['debitNoteId']}/accept"
                await buyer.ok("POST", path, body)
        return len(accepted) >= 8

    await until(accepted_for_long)
    assert await buyer.state(activity) == "Ready"  # more than 5 seconds, and it works on

    async def ended() -> bool:
        shown = await buyer.ok("GET", f"{MARKET}/agreements/{agreement}")
        return bool(shown["state"] == "Terminated")

    await until(ended)  # from now on none is accepted
    await buyer.ok("DELETE", f"{PAYMENT}/allocations/{allocation['allocationId']}")


async def test_activities_in_a_network_reach_each_other(buyer: Buyer) -> None:
    if problem := bubblewrap_problem() or devices_problem("bubblewrap"):
        pytest.skip(problem)
    span = {"ip": "192.168.9.0", "mask": "255.255.255.0"}
    network = (await buyer.ok("POST", f"{NET}/net", span))["id"]
    pairs: list[tuple[str, str]] = []
    for number, name in ((2, "honest"), (3, "other")):
        agreement, activity = await buyer.activity(name, deployed=False)
        shown = await buyer.ok("GET", f"{MARKET}/agreements/{agreement}")
        address = f"192.168.9.{number}"
        node = {"id": shown["offer"]["providerId"], "ip": address}
        await buyer.ok("POST", f"{NET}/net/{network}/nodes", node)
        membership = {"id": network, **span, "nodeIp": address, "nodes": {}}
        deploy = {"deploy": {"net": [membership]}}
        results = await buyer.execute(activity, [deploy, {"start": {"args": []}}])
        assert [one["result"] for one in results] == ["Ok", "Ok"], results
        pairs.append((agreement, activity))
    (server, serving), (client, asking) = pairs
    python = "/usr/bin/env python3 -c"
    path = await buyer.send(serving, [shell(f'{python} "{SERVER}"')])
    (said,) = await buyer.execute(asking, [shell(f'{python} "{CLIENT}"')])
    assert said["stdout"] == "hello from 192.168.9.3\n", said
    await buyer.results(path)
    await buyer.end(server)
    await buyer.end(client)
    await buyer.ok("DELETE", f"{NET}/net/{network}")


async def test_work_goes_on_while_the_daemon_is_dead(buyer: Buyer) -> None:
    # last of all: it takes the daemon away from the others
    agreement, activity = await buyer.activity("honest")
    command = "echo begun; sleep 3; echo done"
    path = await buyer.send(activity, [shell(command)])
    await buyer.testnet.kill_yagna()
    await buyer.testnet.start_yagna()

    async def answers() -> bool:
        return (await buyer.call("GET", path, timeout=1))[0] == 200

    await until(answers)
    (result,) = await buyer.results(path)
    assert result["stdout"] == "begun\ndone\n"
    assert await buyer.state(activity) == "Ready"
    (result,) = await buyer.execute(activity, [shell("echo still here")])
    assert result["stdout"] == "still here\n"
    await buyer.end(agreement)
    (invoice,) = await buyer.invoices(agreement)
    assert invoice["activityIds"] == [activity]
    # and each offer is there once
    demand = str(await buyer.ok("POST", f"{MARKET}/demands", buyer.terms("*")))
    names: list[str] = []
    while events := await buyer.events(demand, seconds=3):
        names += [one["proposal"]["properties"]["golem.node.id.name"] for one in events]
    assert sorted(names) == sorted(model.name for model in parse_fleet(FLEET).expanded())
