"""A running daemon, and a plain HTTP requestor that goes through market, activity and payment."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from requestor.mock_golem.clock import ManualClock
from requestor.mock_golem.daemon import DaemonAddress, DaemonSettings, MockDaemon
from requestor.mock_golem.fleet import parse_fleet

ONE_PROVIDER = "runtime: {isolation: process}\nproviders: [{name: willow}]"
START = datetime(2026, 11, 20, 3, 36, 56, tzinfo=UTC)
ROOT = Path(__file__).parents[3]
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"


@dataclass
class Requestor:
    """Speaks HTTP to one daemon; every answer is (status, decoded body)."""

    daemon: MockDaemon
    address: DaemonAddress
    session: aiohttp.ClientSession
    clock: Any
    seen: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Any = ..., headers: Any = None, **query: Any
    ) -> tuple[int, Any]:
        """Send one request."""
        data = None if body is ... else json.dumps(body)
        async with self.session.request(
            method, self.address.url + path, data=data, params=query, headers=headers
        ) as response:
            text = await response.text()
            if "json" in response.content_type and text:
                return response.status, json.loads(text)
            return response.status, text or None

    async def ok(self, method: str, path: str, body: Any = ..., **query: Any) -> Any:
        """Send one request that must succeed; return its body."""
        status, answer = await self.call(method, path, body, **query)
        assert status in (200, 201, 204), (method, path, status, answer)
        return answer

    def terms(self, **changes: Any) -> dict[str, Any]:
        """Return the body of a demand as yapapi sends it."""
        expiration = int(self.clock.now().timestamp() * 1000) + 900_000
        properties = {
            "golem.com.payment.platform.erc20-hoodi-tglm.address": self.address.identity,
            "golem.com.payment.protocol.version": "3",
            "golem.node.debug.subnet": "public",
            "golem.srv.comp.expiration": expiration,
            "golem.srv.caps.multi-activity": True,
            "golem.com.payment.chosen-platform": "erc20-hoodi-tglm",
            "golem.com.payment.debit-notes.accept-timeout?": 240,
        }
        constraints = (
            "(&(golem.node.debug.subnet=public)\n\t"
            "(golem.com.payment.platform.erc20-hoodi-tglm.address=*)\n\t"
            "(golem.com.payment.protocol.version>1)\n\t(golem.com.pricing.model=linear)\n\t"
            "(&(golem.inf.mem.gib>=0.5)\n\t(golem.inf.cpu.threads>=1)\n\t(golem.runtime.name=vm)))"
        )
        changes.setdefault("constraints", constraints)
        return {
            "constraints": changes.pop("constraints"),
            "properties": {
                **{key: value for key, value in properties.items()},
                **changes.pop("properties", {}),
            },
        }

    async def demand(self, **changes: Any) -> str:
        """Open a demand."""
        return str(await self.ok("POST", f"{MARKET}/demands", self.terms(**changes)))

    async def next_event(self, demand_id: str, wanted: Callable[[Any], bool]) -> dict[str, Any]:
        """Return the first event of a demand that is wanted, keeping the others."""
        kept = self.seen.setdefault(demand_id, [])
        for _ in range(20):
            for event in kept:
                if wanted(event):
                    kept.remove(event)
                    return event
            kept += await self.ok("GET", f"{MARKET}/demands/{demand_id}/events", timeout=2)
        raise AssertionError(f"no such event among {kept}")

    async def proposal(self, demand_id: str, state: str, provider: str | None = None) -> Any:
        """Return the next proposal in this state (of this provider)."""

        def wanted(event: Any) -> bool:
            return (
                event["eventType"] == "ProposalEvent"
                and event["proposal"]["state"] == state
                and provider in (None, event["proposal"]["properties"]["golem.node.id.name"])
            )

        return (await self.next_event(demand_id, wanted))["proposal"]

    async def counter(self, demand_id: str, proposal_id: str, **changes: Any) -> str:
        """Counter a proposal."""
        path = f"{MARKET}/demands/{demand_id}/proposals/{proposal_id}"
        return str(await self.ok("POST", path, self.terms(**changes)))

    async def draft(
        self, demand_id: str | None = None, provider: str | None = None, **changes: Any
    ) -> Any:
        """Negotiate up to the Draft of a provider that is not busy."""
        demand_id = demand_id or await self.demand(**changes)
        countered = set()

        def wanted(event: Any) -> bool:
            proposal = event.get("proposal", {"state": None})
            if proposal["state"] == "Draft":
                return proposal["prevProposalId"] in countered
            name = proposal.get("properties", {}).get("golem.node.id.name")
            return proposal["state"] == "Initial" and provider in (None, name)

        while True:
            proposal = (await self.next_event(demand_id, wanted))["proposal"]
            if proposal["state"] == "Draft":
                return proposal
            countered.add(await self.counter(demand_id, proposal["proposalId"], **changes))

    async def sign(self, proposal_id: str, **query: Any) -> str:
        """Make an agreement of a Draft and confirm it; return its id, whatever follows."""
        body = {"proposalId": proposal_id, "validTo": "2100-01-01T00:00:00Z"}
        agreement = str(await self.ok("POST", f"{MARKET}/agreements", body))
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/confirm", **query)
        return agreement

    async def agreement(self, **changes: Any) -> str:
        """Return an approved agreement."""
        agreement = await self.sign((await self.draft(**changes))["proposalId"])
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/wait", timeout=60)
        return agreement

    async def activity(self, agreement: str | None = None, deployed: bool = False) -> str:
        """Return a new activity."""
        agreement = agreement or await self.agreement()
        activity = str(await self.ok("POST", f"{ACTIVITY}/activity", agreement))
        if deployed:
            results = await self.execute(activity, [{"deploy": {}}, {"start": {"args": []}}])
            assert [result["result"] for result in results] == ["Ok", "Ok"], results
        return activity

    async def send(self, activity: str, commands: list[dict[str, Any]]) -> str:
        """Start a batch."""
        body = {"text": json.dumps(commands)}
        return str(await self.ok("POST", f"{ACTIVITY}/activity/{activity}/exec", body))

    async def execute(self, activity: str, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run a batch to its end."""
        batch = await self.send(activity, commands)
        while True:
            path = f"{ACTIVITY}/activity/{activity}/exec/{batch}"
            results: list[dict[str, Any]] = await self.ok("GET", path, timeout=5)
            if results and results[-1]["isBatchFinished"]:
                return results

    async def allocation(self, amount: str = "10") -> str:
        """Set an amount aside."""
        body = {"totalAmount": amount, "paymentPlatform": "erc20-hoodi-tglm"}
        return str((await self.ok("POST", f"{PAYMENT}/allocations", body))["allocationId"])

    async def terminate(self, agreement: str) -> None:
        """End an agreement."""
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/terminate", {"message": "done"})

    async def invoices(self, agreement: str, count: int = 1) -> list[dict[str, Any]]:
        """Return an agreement's invoices once there are so many."""
        found: list[dict[str, Any]] = []

        async def look() -> bool:
            every = await self.ok("GET", f"{PAYMENT}/invoices")
            found[:] = [one for one in every if one["agreementId"] == agreement]
            return len(found) >= count

        await self.until(look)
        return found

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.01)


class Program:
    """A running `mock-golem serve`, spoken to in plain HTTP."""

    def __init__(self, *arguments: str, as_json: bool = True) -> None:
        if as_json:
            arguments = ("--json", *arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "requestor.mock_golem", "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.ready: dict[str, Any] = json.loads(line) if as_json else self._exported()

    def _exported(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().split() for _ in range(5)]
        values = dict(words[1].split("=", 1) for words in lines)
        platform = f"erc20-{values['YAGNA_PAYMENT_NETWORK']}-tglm"
        return {
            "url": values["YAGNA_API_URL"],
            "app_key": values["YAGNA_APPKEY"],
            "payment_platform": platform,
        }

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.ready['app_key']}"}
        request = urllib.request.Request(self.ready["url"] + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def wait_for(self, look: Callable[[], Any]) -> Any:
        """Return the first true result of `look`."""
        deadline = time.monotonic() + 60
        while not (found := look()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def proposal(self, demand: str, state: str) -> Any:
        """Return a proposal in this state."""

        def look() -> Any:
            events = self.call("GET", f"{MARKET}/demands/{demand}/events?timeout=2")
            found = [one["proposal"] for one in events if one["proposal"]["state"] == state]
            return found and found[0]

        return self.wait_for(look)

    def agreement(self) -> str:
        """Return an approved agreement."""
        terms = {
            "properties": {
                "golem.srv.comp.expiration": int(time.time() + 900) * 1000,
                "golem.node.debug.subnet": "public",
                "golem.com.payment.chosen-platform": self.ready["payment_platform"],
            },
            "constraints": "(golem.runtime.name=vm)",
        }
        demand = self.call("POST", f"{MARKET}/demands", terms)
        initial = self.proposal(demand, "Initial")
        self.call("POST", f"{MARKET}/demands/{demand}/proposals/{initial['proposalId']}", terms)
        draft = self.proposal(demand, "Draft")
        body = {"proposalId": draft["proposalId"], "validTo": "2100-01-01T00:00:00Z"}
        agreement: str = self.call("POST", f"{MARKET}/agreements", body)
        self.call("POST", f"{MARKET}/agreements/{agreement}/confirm")
        self.call("POST", f"{MARKET}/agreements/{agreement}/wait?timeout=60")
        return agreement

    def busy_activity(self, agreement: str) -> tuple[str, list[int]]:
        """Start an activity with two sleeping processes; return their ids."""
        activity: str = self.call("POST", f"{ACTIVITY}/activity", agreement)
        script = "sleep 1000 & echo $!; exec sleep 1000"
        run = {
            "entry_point": "/bin/sh",
            "args": ["-c", script],
            "capture": {"stdout": {"stream": {}}},
        }
        text = json.dumps([{"deploy": {}}, {"start": {"args": []}}, {"run": run}])
        self.call("POST", f"{ACTIVITY}/activity/{activity}/exec", {"text": text})
        program = psutil.Process(self.process.pid)

        def sleeping() -> list[int]:
            found = [one for one in program.children(recursive=True) if one.name() == "sleep"]
            return [one.pid for one in found] if len(found) == 2 else []

        pids: list[int] = self.wait_for(sleeping)
        return activity, pids

    def expect_end(self, seconds: float = 60.0) -> int:
        """Wait for the program's end; return its exit code."""
        return self.process.wait(timeout=seconds)


def shell(script: str) -> dict[str, Any]:
    """Return a run command."""
    return {
        "run": {
            "entry_point": "/bin/sh",
            "args": ["-c", script],
            "capture": {"stdout": {"stream": {}}, "stderr": {"stream": {}}},
        }
    }


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands at `START` until it is moved."""
    return ManualClock(START)


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Requestor]]]:
    """Start daemons from fleet texts; all are stopped at the end."""
    opened: list[tuple[MockDaemon, aiohttp.ClientSession]] = []

    async def start(fleet: str = ONE_PROVIDER, **settings: Any) -> Requestor:
        daemon_settings = DaemonSettings(fleet=parse_fleet(fleet), **settings)
        daemon = MockDaemon(daemon_settings)
        address = await daemon.start()
        session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {address.app_key}"})
        opened.append((daemon, session))
        return Requestor(daemon, address, session, daemon_settings.clock)

    yield start
    for daemon, session in opened:
        await session.close()
        await daemon.stop()


@pytest.fixture
def run_shell() -> Callable[[str], dict[str, Any]]:
    """Make run commands of shell scripts."""
    return shell


@pytest.fixture
def recorded_answers() -> dict[str, list[dict[str, Any]]]:
    """What real yagna 0.17.6 answered, by scenario; ids and amounts are `<placeholders>`."""
    scenarios: dict[str, list[dict[str, Any]]] = {}
    path = Path(__file__).with_name("recorded_answers.jsonl")
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "scenario" in entry:
            calls = scenarios.setdefault(entry["scenario"], [])
        else:
            calls.append(entry)
    return scenarios


@pytest.fixture
def programs() -> Iterator[Callable[..., Program]]:
    """Start `mock-golem serve` with these arguments; all are stopped at the end."""
    started: list[Program] = []

    def start(*arguments: str, as_json: bool = True) -> Program:
        started.append(Program(*arguments, as_json=as_json))
        return started[-1]

    yield start
    for program in started:
        program.process.terminate()
        program.process.wait(timeout=60)
        for pipe in (program.process.stdin, program.process.stdout, program.process.stderr):
            assert pipe is not None
            pipe.close()
