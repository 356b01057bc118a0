"""The real yagna: identities that last, money that moves, a death that looks like one."""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from requestor.mock_golem.daemon import DaemonAddress
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.testnet.chain_ledger import ChainLedger
from requestor.mock_golem.testnet.testnet import Testnet, TestnetSettings
from requestor.mock_golem.testnet.yagna import YagnaError, find_yagna
from tests.requestor.mock_golem.images.registry_client import gvmi, sha3

pytestmark = [pytest.mark.testnet, pytest.mark.asyncio, pytest.mark.timeout(180)]

MARKET, PAYMENT = "/market-api/v1", "/payment-api/v1"
PLATFORM = "erc20-hoodi-tglm"
FLEET = """
requestor: {funds_glm: 100}
runtime: {isolation: process}
providers: [{name: willow, count: 2}]
"""
ROOT = Path(__file__).parents[4]


class Party:
    """Somebody with a key at the daemon."""

    def __init__(self, url: str, key: str, node_id: str, session: aiohttp.ClientSession) -> None:
        self.url, self.key, self.node_id, self._session = url, key, node_id, session

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with self._session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status in (200, 201, 204), (method, path, status, answer)
        return answer

    async def event(self, kind: str, subscription: str) -> Any:
        async with asyncio.timeout(60):
            while True:
                path = f"{MARKET}/{kind}/{subscription}/events?timeout=5"
                if events := await self.ok("GET", path):
                    return events[0]

    async def allocate(self, amount: str) -> tuple[int, Any]:
        body = {
            "address": self.node_id,
            "paymentPlatform": PLATFORM,
            "totalAmount": amount,
            "timeout": _in(hours=1),
            "makeDeposit": False,
        }
        return await self.call("POST", f"{PAYMENT}/allocations", body)


def _in(**time_from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(**time_from_now)).isoformat()


Open = Callable[..., Awaitable[tuple[Testnet, DaemonAddress]]]


@pytest_asyncio.fixture
async def open_testnet(tmp_path: Path) -> AsyncIterator[Open]:
    """Start testnets in one state folder; all are stopped at the end."""
    opened: list[Testnet] = []

    async def start(fleet: str = FLEET, **settings: Any) -> tuple[Testnet, DaemonAddress]:
        settings.setdefault("state_directory", tmp_path / "state")
        testnet = Testnet(TestnetSettings(fleet=parse_fleet(fleet), **settings))
        opened.append(testnet)
        return testnet, await testnet.start()

    yield start
    for testnet in opened:
        await testnet.stop()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


def requestor(address: DaemonAddress, session: aiohttp.ClientSession) -> Party:
    return Party(address.url, address.app_key, address.identity, session)


async def invoice(payer: Party, payee: Party, amount: str) -> str:
    """Have a payee of the test's own bill the payer; return the invoice's id."""
    name = f"oak-{amount}"
    common = {
        f"golem.com.payment.platform.{PLATFORM}.address": "",
        "golem.com.payment.protocol.version": "3",
    }
    own = {**common, f"golem.com.payment.platform.{PLATFORM}.address": payee.node_id}
    offered = {"properties": {**own, "golem.node.id.name": name}, "constraints": "()"}
    theirs = {**common, f"golem.com.payment.platform.{PLATFORM}.address": payer.node_id}
    theirs |= {"golem.com.payment.chosen-platform": PLATFORM}
    expiration = int(time.time() + 3600) * 1000
    wanted = {
        "properties": {**theirs, "golem.srv.comp.expiration": expiration},
        "constraints": f"(golem.node.id.name={name})",
    }
    offer = await payee.ok("POST", f"{MARKET}/offers", offered)
    demand = await payer.ok("POST", f"{MARKET}/demands", wanted)
    initial = (await payer.event("demands", demand))["proposal"]["proposalId"]
    await payer.ok("POST", f"{MARKET}/demands/{demand}/proposals/{initial}", wanted)
    counter = (await payee.event("offers", offer))["proposal"]["proposalId"]
    await payee.ok("POST", f"{MARKET}/offers/{offer}/proposals/{counter}", offered)
    draft = (await payer.event("demands", demand))["proposal"]["proposalId"]
    body = {"proposalId": draft, "validTo": _in(hours=1)}
    agreement = await payer.ok("POST", f"{MARKET}/agreements", body)
    await payer.ok("POST", f"{MARKET}/agreements/{agreement}/confirm")
    await payee.event("offers", offer)
    await payee.ok("POST", f"{MARKET}/agreements/{agreement}/approve?timeout=15")
    await payer.ok("POST", f"{MARKET}/agreements/{agreement}/wait?timeout=15")
    bill = {"agreementId": agreement, "activityIds": [], "amount": amount}
    made = await payee.ok(
        "POST", f"{PAYMENT}/invoices", {**bill, "paymentDueDate": _in(minutes=30)}
    )
    await payee.ok("POST", f"{PAYMENT}/invoices/{made['invoiceId']}/send")
    return str(made["invoiceId"])


async def settled(parties: list[Party], invoice_id: str) -> None:
    """Wait until all of them see the invoice as settled."""
    async with asyncio.timeout(60):
        for party in parties:
            while True:
                seen = await party.ok("GET", f"{PAYMENT}/invoices/{invoice_id}")
                if seen["status"] == "SETTLED":
                    break
                await asyncio.sleep(0.1)


async def test_accepted_invoices_are_paid_on_the_chain(
    open_testnet: Open, session: aiohttp.ClientSession
) -> None:
    testnet, address = await open_testnet()
    payer = requestor(address, session)
    _, allocation = await payer.allocate("10")
    payees = [
        Party(address.url, one.app_key, one.node_id, session)
        for one in testnet.yagna.providers.values()
    ]
    bills = {"0.25": payees[0], "0.5": payees[1]}

    for amount, payee in bills.items():
        bill = await invoice(payer, payee, amount)
        acceptance = {"totalAmountAccepted": amount, "allocationId": allocation["allocationId"]}
        await payer.ok("POST", f"{PAYMENT}/invoices/{bill}/accept", acceptance)
        await settled([payer, payee], bill)

    chain: ChainLedger = testnet.chain
    assert [chain.tokens_of(payee.node_id) for payee in payees] == [25 * 10**16, 50 * 10**16]
    assert chain.tokens_of(payer.node_id) == 100 * 10**18 - 75 * 10**16
    kept = await payer.ok("GET", f"{PAYMENT}/allocations/{allocation['allocationId']}")
    assert float(kept["spentAmount"]) == 0.75


async def test_funds_are_really_checked(open_testnet: Open, session: aiohttp.ClientSession) -> None:
    _, address = await open_testnet()
    payer = requestor(address, session)

    status, answer = await payer.allocate("100.5")
    assert (status, answer["requestedFunds"], answer["availableFunds"]) == (400, "100.5", "100")
    assert (await payer.allocate("60"))[0] == 201
    status, answer = await payer.allocate("60")
    assert (status, answer["availableFunds"]) == (400, "40")
    (account,) = await payer.ok("GET", f"{PAYMENT}/requestorAccounts")
    assert (account["platform"], account["address"]) == (PLATFORM, address.identity)


async def test_a_second_start_finds_all_again(
    open_testnet: Open, session: aiohttp.ClientSession
) -> None:
    first, before = await open_testnet()
    providers = dict(first.yagna.providers)
    _, allocation = await requestor(before, session).allocate("10")
    await first.stop()

    more = FLEET.replace("count: 2}", "count: 2}, {name: alder}")
    second, after = await open_testnet(more)

    assert (after.identity, after.app_key) == (before.identity, before.app_key)
    assert set(second.yagna.providers) == {*providers, "alder"}
    assert {name: second.yagna.providers[name] for name in providers} == providers
    found = await requestor(after, session).ok("GET", f"{PAYMENT}/allocations")
    assert [one["allocationId"] for one in found] == [allocation["allocationId"]]
    # funds are given once, not at every start
    assert second.chain.tokens_of(after.identity) == 100 * 10**18


@pytest.mark.parametrize("with_wire_log", [False, True])
async def test_a_killed_daemon_refuses_and_comes_back(
    open_testnet: Open, session: aiohttp.ClientSession, tmp_path: Path, with_wire_log: bool
) -> None:
    log = tmp_path / "wire.jsonl" if with_wire_log else None
    testnet, address = await open_testnet(wire_log=log)
    payer = requestor(address, session)
    _, allocation = await payer.allocate("10")
    polling = asyncio.ensure_future(
        payer.call("GET", f"{PAYMENT}/invoiceEvents?timeout=30&afterTimestamp={_stamp()}")
    )
    await payer.ok("GET", "/me")

    await testnet.kill_yagna()

    with pytest.raises(aiohttp.ClientConnectionError):
        await polling
    with pytest.raises(aiohttp.ClientConnectorError):
        await payer.call("GET", "/me")

    await testnet.start_yagna()

    assert (await payer.ok("GET", "/me"))["identity"] == address.identity
    path = f"{PAYMENT}/allocations/{allocation['allocationId']}"
    assert (await payer.ok("GET", path))["totalAmount"] == "10"
    if log is not None:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert any(line.get("cut") for line in lines if "invoiceEvents" in line["path"])
        assert address.app_key not in log.read_text()


def _stamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


async def test_a_daemon_that_dies_by_itself_is_started_again(
    open_testnet: Open, session: aiohttp.ClientSession
) -> None:
    testnet, address = await open_testnet(restart_seconds=0.1)
    payer = requestor(address, session)
    killed = testnet.yagna.pid

    os.kill(killed, signal.SIGKILL)

    async with asyncio.timeout(60):
        while testnet.yagna.pid in (0, killed) or not testnet.yagna.is_running:
            await asyncio.sleep(0.05)
    assert (await payer.ok("GET", "/me"))["identity"] == address.identity


@pytest.mark.parametrize("failing", ["service", "payment"])
async def test_a_start_that_fails_is_tried_again(
    open_testnet: Open, session: aiohttp.ClientSession, tmp_path: Path, failing: str
) -> None:
    flag, program = tmp_path / "flag", tmp_path / "yagna"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = {failing} ] && rm "{flag}" 2>/dev/null; then exit 3; fi\n'
        f'exec "{find_yagna()}" "$@"\n'
    )
    program.chmod(0o755)
    testnet, address = await open_testnet(restart_seconds=0.1, binary=program)
    killed = testnet.yagna.pid
    flag.touch()

    os.kill(killed, signal.SIGKILL)

    payer, status = requestor(address, session), 0
    async with asyncio.timeout(60):
        while flag.exists() or status != 201:
            await asyncio.sleep(0.05)
            with contextlib.suppress(aiohttp.ClientConnectionError):
                status, _ = await payer.allocate("10")


async def test_nothing_can_leave_its_network(
    open_testnet: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["a-folder-for-temporary-files"] * 4)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    testnet, _ = await open_testnet()
    # longer ones are no sockets' paths
    assert len(os.fsencode(testnet.yagna.bus_address)) < 108
    if not testnet.yagna.is_confined:
        pytest.skip("this machine allows no network namespaces")
    devices = Path(f"/proc/{testnet.yagna.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


async def test_it_works_in_the_common_network_too(
    open_testnet: Open, session: aiohttp.ClientSession
) -> None:
    testnet, address = await open_testnet(may_confine=False)
    assert not testnet.yagna.is_confined
    payer = requestor(address, session)
    assert (await payer.allocate("10"))[0] == 201  # the chain was asked
    await testnet.kill_yagna()
    with pytest.raises(aiohttp.ClientConnectorError):
        await payer.call("GET", "/me")
    await testnet.start_yagna()
    assert (await payer.allocate("10"))[0] == 201


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("payment: {network: moon}", "pays by erc20 on hoodi, .*, not by erc20 on moon; fix:"),
        ("daemon_faults: [{kind: wrong_key}]", "wrong_key cannot be played .* fix:"),
    ],
)
async def test_a_fleet_that_does_not_suit_it(open_testnet: Open, more: str, message: str) -> None:
    with pytest.raises(YagnaError, match=message):
        await open_testnet(FLEET + more)


async def test_the_daemon_dies_with_the_program(open_testnet: Open, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    command = [sys.executable, "-m", "requestor.mock_golem", "testnet", "--json"]
    command += ["--fleet", str(fleet), "--state", str(tmp_path / "state")]
    program = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        ready = json.loads(await asyncio.to_thread(program.stdout.readline))
        daemon = os.pidfd_open(ready["yagna_pid"])
        try:
            program.kill()
            ended, _, _ = await asyncio.to_thread(select.select, [daemon], [], [], 20)
        finally:
            os.close(daemon)
        assert ended
        program.wait()
        left = Path((tmp_path / "state" / "yagna" / "bus").read_text())
        assert left.is_dir()
        testnet, address = await open_testnet()
        assert address.identity == ready["identity"]
        assert not left.exists()
        await testnet.stop()
    finally:
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()


async def test_it_brings_an_image_registry(
    open_testnet: Open, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    image = gvmi(5000)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "derl.gvmi").write_bytes(image)
    fleet = f"{FLEET}registry: {{store: {tmp_path / 'images'}}}\n"
    _, address = await open_testnet(fleet)
    question = f"{address.registry_url}/v1/image/info?hash={sha3(image)}"
    async with session.get(question) as answer:
        found = await answer.json()
    async with session.get(found["http"]) as answer:
        assert await answer.read() == image
