"""One daemon of each kind for all scenarios, and what is said on it compared with yagna's part."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yapapi import Golem
from yapapi.config import ApiConfig
from yapapi.payload.package import Package
from yapapi.props.builder import DemandBuilder

from requestor.mock_golem.conformance import (
    Conversation,
    Exchange,
    as_entries,
    compare,
    load_listed,
    normalise,
    read_wire_log,
    unexplained,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDED = HERE / "recorded"
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"
PLATFORM = "erc20-hoodi-tglm"
PATIENCE_SECONDS = 60.0
SCENARIO_SECONDS = 100.0
COMMANDS = {"mock": "serve", "yagna": "testnet"}
DEPLOY: list[dict[str, Any]] = [{"deploy": {}}, {"start": {"args": []}}]


class Daemon:
    """A running daemon with the providers of fleet.yaml, and its wire log."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.wire_log = folder / "wire.jsonl"
        command = [sys.executable, "-m", "requestor.mock_golem", COMMANDS[kind], "--json"]
        command += ["--fleet", str(HERE / "fleet.yaml"), "--wire-log", str(self.wire_log)]
        command += ["--state", str(folder / "state"), "--stop-on-stdin-eof"]
        with (folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        ready = json.loads(line)
        self.url: str = ready["url"]
        self.app_key: str = ready["app_key"]
        self.identity: str = ready["identity"]
        self.gftp_directory: str = ready["gftp_directory"]

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def exchanges(self, since: datetime, until: datetime | None = None) -> list[Exchange]:
        """Return what its wire log holds."""
        return read_wire_log(self.wire_log, since, until)


class Image(Package):
    """An image that no registry need know, on the providers named."""

    def __init__(self, *providers: str) -> None:
        """Take the names; that of `Package` has no types."""
        self._providers = providers

    async def resolve_url(self) -> str:
        return "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi"

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        demand.ensure("(golem.runtime.name=vm)")
        names = "".join(f"(golem.node.id.name={name})" for name in self._providers)
        demand.ensure(f"(|{names})" if len(self._providers) > 1 else names)
        demand.properties["golem.srv.comp.task_package"] = await self.resolve_url()
        demand.properties["golem.srv.comp.vm.package_format"] = "gvmkit-squash"


@dataclass
class Stage:
    """A scenario that is being played on a daemon, in plain REST or with yapapi."""

    daemon: Daemon
    session: aiohttp.ClientSession
    since: datetime
    seen: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    # ------------------------------------------------------------------ plain calls

    async def call(
        self, method: str, path: str, body: Any = ..., headers: Any = None, **query: Any
    ) -> tuple[int, Any]:
        """Send a request; return the status and the body, decoded if it is JSON."""
        data = None if body is ... else json.dumps(body)
        if data is not None:
            headers = {"Content-Type": "application/json", **(headers or {})}
        async with self.session.request(
            method, self.daemon.url + path, params=query, headers=headers, data=data
        ) as response:
            text = await response.text()
            if "json" in response.content_type and text:
                return response.status, json.loads(text)
            return response.status, text or None

    async def ok(self, method: str, path: str, body: Any = ..., **query: Any) -> Any:
        """Send a request that must succeed; return its body."""
        status, answer = await self.call(method, path, body, **query)
        assert status in (200, 201, 204), (method, path, status, answer)
        return answer

    async def refused(self, status: int, method: str, path: str, *body: Any, **query: Any) -> str:
        """Send a request that must be refused with this status; return the words."""
        found, answer = await self.call(method, path, *body, **query)
        assert found == status, (method, path, found, answer)
        return str(answer.get("message", answer) if isinstance(answer, dict) else answer)

    def terms(self, *providers: str, lifetime_seconds: int = 900, **changes: Any) -> dict[str, Any]:
        """Return the body of a demand for these providers as yapapi sends it."""
        expiration = int((time.time() + lifetime_seconds) * 1000)
        names = "".join(f"(golem.node.id.name={name})" for name in providers)
        properties = {
            "golem.srv.comp.expiration": expiration,
            "golem.srv.caps.multi-activity": True,
            "golem.node.debug.subnet": "public",
            f"golem.com.payment.platform.{PLATFORM}.address": self.daemon.identity,
            "golem.com.payment.protocol.version": "3",
            "golem.com.payment.chosen-platform": PLATFORM,
            "golem.com.payment.debit-notes.accept-timeout?": 240,
            **changes.pop("properties", {}),
        }
        constraints = (
            "(&(golem.node.debug.subnet=public)\n\t"
            f"(golem.com.payment.platform.{PLATFORM}.address=*)\n\t"
            "(golem.com.payment.protocol.version>1)\n\t(golem.com.pricing.model=linear)\n\t"
            f"(&(golem.runtime.name=vm)\n\t(|{names})))"
        )
        return {"properties": properties, "constraints": constraints, **changes}

    async def demand(self, *providers: str) -> str:
        """Open a demand."""
        return str(await self.ok("POST", f"{MARKET}/demands", self.terms(*providers)))

    async def proposal(self, demand: str, state: str) -> dict[str, Any]:
        """Return the next proposal in this state to a demand, keeping other events."""
        kept = self.seen.setdefault(demand, [])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for event in kept:
                    if event.get("proposal", {}).get("state") == state:
                        kept.remove(event)
                        return dict(event["proposal"])
                path = f"{MARKET}/demands/{demand}/events"
                kept += await self.ok("GET", path, timeout="5", maxEvents="10")

    async def draft(self, demand: str, *providers: str) -> str:
        """Negotiate up to a provider's Draft; return its id."""
        initial = (await self.proposal(demand, "Initial"))["proposalId"]
        path = f"{MARKET}/demands/{demand}/proposals/{initial}"
        await self.ok("POST", path, self.terms(*providers))
        return str((await self.proposal(demand, "Draft"))["proposalId"])

    async def sign(self, proposal: str) -> str:
        """Make an agreement of a Draft; return its id, not confirmed yet."""
        body = {"proposalId": proposal, "validTo": self.later(3600)}
        return str(await self.ok("POST", f"{MARKET}/agreements", body))

    async def confirm(self, agreement: str) -> str:
        """Confirm an agreement and wait for its approval; return its id again."""
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/confirm")
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/wait", timeout="15")
        return agreement

    async def agreement(self, provider: str) -> str:
        """Return an approved agreement; the demand is closed again."""
        demand = await self.demand(provider)
        agreement = await self.confirm(await self.sign(await self.draft(demand, provider)))
        await self.ok("DELETE", f"{MARKET}/demands/{demand}")
        return agreement

    async def approved(self) -> list[str]:
        """Return the agreements of this scenario that are in force and that we asked for.

        A daemon that is its own providers' daemon too has each agreement a second time.
        """
        since = self.since.isoformat()
        path = f"{MARKET}/agreements"
        listed = await self.ok("GET", path, state="Approved", afterDate=since)
        return [str(one["id"]) for one in listed if one["role"] == "Requestor"]

    async def activity(self, agreement: str, *, deployed: bool = True) -> str:
        """Return a new activity."""
        activity = str(await self.ok("POST", f"{ACTIVITY}/activity", agreement))
        if deployed:
            await self.run(activity, DEPLOY)
        return activity

    async def send(self, activity: str, commands: list[dict[str, Any]]) -> str:
        """Start a batch; return its id."""
        body = {"text": json.dumps(commands)}
        return str(await self.ok("POST", f"{ACTIVITY}/activity/{activity}/exec", body))

    async def results(self, activity: str, batch: str) -> list[dict[str, Any]]:
        """Wait for the end of a batch; return its results."""
        path = f"{ACTIVITY}/activity/{activity}/exec/{batch}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                results = await self.ok("GET", path, timeout="5")
                if results and results[-1]["isBatchFinished"]:
                    return list(results)

    async def run(self, activity: str, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run a batch to its end."""
        return await self.results(activity, await self.send(activity, commands))

    async def allocation(self, amount: str = "1", lifetime_seconds: float = 3600.0) -> str:
        """Set an amount aside; return the allocation's id."""
        body = {
            "allocationId": "",
            "address": self.daemon.identity,
            "paymentPlatform": PLATFORM,
            "totalAmount": amount,
            "spentAmount": "",
            "remainingAmount": "",
            "timestamp": self.later(0),
            "timeout": self.later(lifetime_seconds),
            "makeDeposit": False,
        }
        return str((await self.ok("POST", f"{PAYMENT}/allocations", body))["allocationId"])

    async def invoice(self, agreement: str) -> dict[str, Any]:
        """Return an agreement's invoice once it has come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                events = await self.ok(
                    "GET",
                    f"{PAYMENT}/invoiceEvents",
                    afterTimestamp=self.since.isoformat(),
                    timeout="5",
                )
                for event in events:
                    path = f"{PAYMENT}/invoices/{event['invoiceId']}"
                    invoice = await self.ok("GET", path)
                    if invoice["agreementId"] == agreement:
                        return dict(invoice)

    async def until_settled(self, invoice: str) -> None:
        """Wait until an accepted invoice is paid."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            path = f"{PAYMENT}/invoices/{invoice}"
            while (await self.ok("GET", path))["status"] != "SETTLED":
                await asyncio.sleep(0.5)

    async def settle(self, agreement: str, allocation: str) -> None:
        """End an agreement, pay its invoice, release the allocation."""
        reason = {"message": "done", "golem.requestor.code": "Success"}
        await self.ok("POST", f"{MARKET}/agreements/{agreement}/terminate", reason)
        invoice = await self.invoice(agreement)
        body = {"totalAmountAccepted": invoice["amount"], "allocationId": allocation}
        await self.ok("POST", f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept", body)
        await self.ok("DELETE", f"{PAYMENT}/allocations/{allocation}")

    @staticmethod
    def later(seconds: float) -> str:
        """Return the instant so many seconds from now, as yapapi writes it."""
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    # ------------------------------------------------------------------ yapapi

    def engine(self, budget_glm: str = "1") -> Golem:
        """Return a yapapi engine on this daemon."""
        return Golem(
            budget=Decimal(budget_glm),
            payment_driver="erc20",
            payment_network="hoodi",
            subnet_tag="public",
            api_config=ApiConfig(app_key=self.daemon.app_key, api_url=self.daemon.url),
        )

    def image(self, *providers: str) -> Image:
        """Return a payload for these providers."""
        return Image(*providers)

    # ------------------------------------------------------------------ what was said

    async def until_said(self, method: str, ending: str, text: str = "", times: int = 1) -> None:
        """Wait until so many such calls were answered, their bodies with this text in them."""

        def is_wanted(one: Exchange) -> bool:
            fits = one.method == method and one.path.endswith(ending)
            return fits and one.status is not None and text in json.dumps(one.body)

        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(map(is_wanted, self.daemon.exchanges(self.since))) < times:
                await asyncio.sleep(0.05)

    async def nothing_open(self) -> None:
        """Check that no agreement, demand or allocation is left."""
        assert await self.approved() == []
        assert await self.ok("GET", f"{MARKET}/demands") == []
        assert await self.ok("GET", f"{PAYMENT}/allocations") == []

    async def clean_up(self) -> None:
        """End what an earlier, failed scenario has left open."""
        for demand in await self.ok("GET", f"{MARKET}/demands"):
            await self.call("DELETE", f"{MARKET}/demands/{demand['demandId']}")
        for agreement in await self.ok("GET", f"{MARKET}/agreements", state="Approved"):
            path = f"{MARKET}/agreements/{agreement['id']}/terminate"
            await self.call("POST", path, {"message": "left open"})
        for allocation in await self.ok("GET", f"{PAYMENT}/allocations"):
            await self.call("DELETE", f"{PAYMENT}/allocations/{allocation['allocationId']}")

    async def conversation(self) -> Conversation:
        """Return what was said since the beginning."""
        until = datetime.now(UTC)
        await self.ok("GET", "/version/get")
        while not self.daemon.exchanges(until):  # then all earlier answers are written down too
            await asyncio.sleep(0.02)
        return normalise(self.daemon.exchanges(self.since, until))


@dataclass(frozen=True)
class Play:
    """Plays scenarios on one daemon and judges what was said."""

    daemon: Daemon
    record: bool

    @asynccontextmanager
    async def __call__(self, scenario: str | None) -> AsyncIterator[Stage]:
        """Play a scenario; at its end what was said is compared with the record of yagna's.

        yagna must say the same again; the mock may differ where it is listed, and must there.
        Without a name nothing is compared.
        """
        key = {"Authorization": f"Bearer {self.daemon.app_key}"}
        async with aiohttp.ClientSession(headers=key) as session:
            await Stage(self.daemon, session, datetime.now(UTC)).clean_up()
            stage = Stage(self.daemon, session, datetime.now(UTC))
            async with asyncio.timeout(SCENARIO_SECONDS):
                yield stage
            said = await stage.conversation()
        if scenario is None:
            return
        path = RECORDED / f"{scenario}.json"
        written = json.dumps(said.as_json(), indent=1, ensure_ascii=False) + "\n"
        (self.daemon.folder / f"{scenario}.json").write_text(written)
        if self.record and self.daemon.kind == "yagna":
            path.write_text(written)
            return
        assert path.exists(), f"{scenario} was not recorded yet: scripts/contract --record"
        recorded = Conversation.from_json(json.loads(path.read_text(encoding="utf-8")))
        found = compare(said, recorded)
        if self.daemon.kind == "yagna":
            assert not found, f"yagna says other things than recorded:\n{as_entries('', found)}"
            return
        new, gone = unexplained(scenario, found, load_listed())
        assert not new, f"differences that are not listed:\n{as_entries(scenario, new)}"
        assert not gone, f"listed differences that are no more:\n{as_entries(scenario, gone)}"


PlayScenario = Callable[[str | None], AbstractAsyncContextManager[Stage]]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Daemon]]:
    """Start a daemon of each kind once for each file: nothing of ours outlives its tests."""
    started: dict[str, Daemon] = {}

    def start(kind: str) -> Daemon:
        if kind not in started:
            started[kind] = Daemon(kind, tmp_path_factory.mktemp(kind))
        return started[kind]

    yield start
    for daemon in started.values():
        daemon.stop()


@pytest.fixture(params=["mock", pytest.param("yagna", marks=pytest.mark.testnet)])
def daemon(
    request: pytest.FixtureRequest,
    daemons: Callable[[str], Daemon],
    monkeypatch: pytest.MonkeyPatch,
) -> Daemon:
    """The daemon of each kind; its `gftp` stands first on PATH."""
    found = daemons(request.param)
    monkeypatch.setenv("PATH", f"{found.gftp_directory}{os.pathsep}{os.environ['PATH']}")
    return found


@pytest_asyncio.fixture
async def play(daemon: Daemon) -> PlayScenario:
    """Plays scenarios on the daemon; CONTRACT_RECORD=1 writes down what yagna says."""
    return Play(daemon, bool(os.environ.get("CONTRACT_RECORD")))
