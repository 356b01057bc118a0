"""The daemon as a whole: who may speak to it, its log, its restarts, its end."""

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from requestor.mock_golem.daemon import DaemonSettings, MockDaemon
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.journal import JournalError

pytestmark = pytest.mark.asyncio
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1/activity", "/payment-api/v1"
BASE = "runtime: {isolation: process}\nproviders: [{name: willow}]\n"


async def polled(requestor: Any) -> asyncio.Task[Any]:
    """Poll for an event that does not come; return when the daemon is waiting for it."""
    changes = requestor.daemon.books.changed
    waiting = asyncio.Event()
    next_change = changes.next_change

    def watched() -> asyncio.Future[None]:
        waiting.set()
        future: asyncio.Future[None] = next_change()
        return future

    changes.next_change = watched
    path = f"{PAYMENT}/invoiceEvents"
    poll = asyncio.create_task(requestor.call("GET", path, timeout=60))
    async with asyncio.timeout(60):
        await waiting.wait()
    return poll


async def test_the_key_is_checked_everywhere_but_for_the_version(serve: Any) -> None:
    requestor = await serve()
    async with aiohttp.ClientSession() as stranger:

        async def ask(path: str, headers: dict[str, str]) -> tuple[int, str]:
            url = requestor.address.url + path
            async with stranger.get(url, headers=headers) as response:
                return response.status, await response.text()

        key = requestor.address.app_key
        for path in ("/me", f"{PAYMENT}/allocations", f"{MARKET}/demands", "/nowhere"):
            assert await ask(path, {}) == (401, "Missing application key")
            for wrong in (f"{key}x", key[:-1], key.upper() + "é"):
                headers = {"Authorization": f"Bearer {wrong}"}
                assert await ask(path, headers) == (401, "Invalid application key")
            assert (await ask(path, {"Authorization": key}))[0] == 401
        assert (await ask("/version/get", {}))[0] == 200
        right = {"authorization": f"Bearer {key}"}
        assert (await ask("/me", right))[0] == 200
        assert await ask("/nowhere", right) == (404, "")


async def test_it_listens_on_loopback_only(serve: Any) -> None:
    requestor = await serve()
    port = int(requestor.address.url.rsplit(":", 1)[1])
    listening = {
        one.laddr.ip
        for one in psutil.Process().net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


async def test_me_and_accounts(serve: Any) -> None:
    requestor = await serve()
    identity = requestor.address.identity
    assert (await requestor.ok("GET", "/me"))["identity"] == identity
    (account,) = await requestor.ok("GET", f"{PAYMENT}/requestorAccounts")
    assert account["address"] == identity
    assert account["platform"] == "erc20-hoodi-tglm"


async def test_a_port_that_is_taken(serve: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address"):
            await serve(port=taken.getsockname()[1])


async def test_the_wire_log(serve: Any, tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    requestor = await serve(wire_log=log, app_key="very-secret-key")
    await requestor.demand()
    await requestor.call(
        "GET", f"{MARKET}/demands/x/events", timeout=1, authToken="very-secret-key"
    )
    await requestor.call("GET", "/me", headers={"Authorization": "Bearer another-secret"})
    poll = await polled(requestor)
    await requestor.daemon.stop()
    with pytest.raises(aiohttp.ClientError):
        await poll
    text = log.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(one["method"], one["path"], one["status"]) for one in lines] == [
        ("POST", f"{MARKET}/demands", 201),
        ("GET", f"{MARKET}/demands/x/events", 400),
        ("GET", "/me", 401),
        ("GET", f"{PAYMENT}/invoiceEvents", None),
    ]
    assert lines[0]["body"]["properties"]["golem.node.debug.subnet"] == "public"
    assert lines[0]["duration_seconds"] >= 0 and lines[0]["time"].endswith("Z")
    assert lines[1]["query"] == {"timeout": "1", "authToken": "(hidden)"}
    assert lines[2]["response"] == "Invalid application key"
    assert lines[3]["cut"] is True
    assert "secret" not in text


async def test_bodies_that_are_too_large_or_no_json(serve: Any) -> None:
    requestor = await serve()
    url = f"{requestor.address.url}{MARKET}/demands"
    for data, status in (
        (b"x" * (5 << 20), 413),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 10**6, 400),
    ):
        async with requestor.session.post(url, data=data) as response:
            assert response.status == status, data[:10]


async def test_no_body_makes_the_daemon_fail(serve: Any) -> None:
    requestor = await serve()
    agreement = await requestor.agreement()
    activity = await requestor.activity(agreement)
    await requestor.terminate(agreement)
    (invoice,) = await requestor.invoices(agreement)
    allocation = await requestor.allocation()
    demand = await requestor.demand()
    proposal = (await requestor.proposal(demand, "Initial"))["proposalId"]
    paths = [
        ("POST", f"{MARKET}/demands"),
        ("POST", f"{MARKET}/demands/{demand}/proposals/{proposal}"),
        ("POST", f"{MARKET}/agreements"),
        ("POST", f"{MARKET}/agreements/{agreement}/terminate"),
        ("POST", ACTIVITY),
        ("POST", f"{ACTIVITY}/{activity}/exec"),
        ("POST", f"{PAYMENT}/allocations"),
        ("PUT", f"{PAYMENT}/allocations/{allocation}"),
        ("POST", f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept"),
        ("POST", "/net-api/v1/net"),
    ]
    values: list[Any] = [None, True, -1, 1e308, "", "x", "9999-12-31T23:59:59-23:59", [], {}, [{}]]
    values.append("10.0.0.1")
    names = ["properties", "constraints", "proposalId", "validTo", "agreementId", "text", "ip"]
    names += ["totalAmount", "timeout", "paymentPlatform", "totalAmountAccepted", "allocationId"]
    for method, path in paths:
        for value in values:
            for body in (value, dict.fromkeys(names, value)):
                status, answer = await requestor.call(method, path, body)
                assert "mock-golem failed" not in str(answer), (method, path, body, answer)
                assert status != 404 or "demands" not in path


async def test_stopping_is_prompt_and_leaves_nothing(
    serve: Any, run_shell: Any, tmp_path: Path
) -> None:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    fleet = "runtime: {isolation: process}\nproviders: [{name: oak, count: 3}]"
    requestor = await serve(fleet)
    folder = requestor.address.gftp_directory.parents[1]
    polls = []
    for _ in range(3):
        activity = await requestor.activity(deployed=True)
        batch = await requestor.send(activity, [run_shell("sleep 1000 & sleep 1000")])
        path = f"{ACTIVITY}/{activity}/exec/{batch}"
        polls.append(asyncio.create_task(requestor.call("GET", path, timeout=30)))
    polls.append(await polled(requestor))
    tasks = asyncio.all_tasks()
    async with asyncio.timeout(15):  # half of what the polls would wait
        await requestor.daemon.stop()
    await asyncio.gather(*polls, return_exceptions=True)
    assert {one.pid for one in psutil.Process().children(recursive=True)} <= before
    assert not folder.exists()

    async def nothing_left() -> bool:
        return asyncio.all_tasks() - {asyncio.current_task()} <= tasks

    await requestor.until(nothing_left)
    with pytest.raises(aiohttp.ClientError):
        await requestor.call("GET", "/me")


async def test_a_graceful_stop_keeps_the_books(serve: Any, tmp_path: Path) -> None:
    first = await serve(BASE, state_directory=tmp_path)
    agreement = await first.agreement()
    activity = await first.activity(agreement)
    allocation = await first.allocation("2.50")
    await first.daemon.stop()
    second = await serve(BASE, state_directory=tmp_path)
    assert second.address.identity == first.address.identity
    assert (await second.ok("GET", f"{ACTIVITY}/{activity}/state"))["state"][0] == "Terminated"
    (shown,) = await second.ok("GET", f"{PAYMENT}/allocations")
    assert (shown["allocationId"], shown["totalAmount"]) == (allocation, "2.50")
    assert await second.ok("GET", f"{MARKET}/demands") == []
    (listed,) = await second.ok("GET", f"{MARKET}/agreements", state="Approved")
    assert listed["id"] == agreement
    # what a requestor does after its crash: end it, pay from the old allocation, release
    await second.terminate(agreement)
    (invoice,) = await second.invoices(agreement)
    body = {"totalAmountAccepted": invoice["amount"], "allocationId": allocation}
    await second.ok("POST", f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept", body)
    await second.ok("DELETE", f"{PAYMENT}/allocations/{allocation}")
    # and the provider works again
    await second.agreement()


async def test_an_invoice_owed_is_sent_after_the_restart(serve: Any, tmp_path: Path) -> None:
    first = await serve(BASE, state_directory=tmp_path)
    agreement = await first.agreement()
    await first.activity(agreement)
    await first.terminate(agreement)
    await first.daemon.stop()  # before the 50 ms are over
    second = await serve(BASE, state_directory=tmp_path)
    (invoice,) = await second.invoices(agreement)
    assert invoice["status"] == "RECEIVED"


async def test_an_agreement_signed_before_the_restart_is_decided_after_it(
    serve: Any, tmp_path: Path, manual_clock: Any
) -> None:
    slow = "runtime: {isolation: process}\nproviders: [{name: willow, faults: "
    slow += "[{kind: slow_approval, seconds: 60}]}]"
    first = await serve(slow, state_directory=tmp_path, clock=manual_clock)
    agreement = await first.sign((await first.draft())["proposalId"])
    await first.daemon.stop()
    second = await serve(BASE, state_directory=tmp_path, clock=manual_clock)
    await second.ok("POST", f"{MARKET}/agreements/{agreement}/wait")


async def test_a_state_directory_has_one_daemon(serve: Any, tmp_path: Path) -> None:
    await serve(BASE, state_directory=tmp_path)
    with pytest.raises(JournalError, match="another mock-golem uses this state directory"):
        await serve(BASE, state_directory=tmp_path)


async def test_a_daemon_that_could_not_start_can_be_stopped(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    daemon = MockDaemon(DaemonSettings(fleet=parse_fleet(BASE), state_directory=file))
    with pytest.raises(JournalError, match="cannot be used as state directory"):
        await daemon.start()
    await daemon.stop()


async def test_allocation_refused(serve: Any) -> None:
    requestor = await serve(BASE + "daemon_faults: [{kind: allocation_refused, times: 1}]")
    body = {"totalAmount": "1"}
    status, problem = await requestor.call("POST", f"{PAYMENT}/allocations", body)
    assert status == 400
    assert problem["detail"].startswith("Insufficient funds")
    await requestor.ok("POST", f"{PAYMENT}/allocations", body)


async def test_wrong_key(serve: Any) -> None:
    requestor = await serve(BASE + "daemon_faults: [{kind: wrong_key, after: 1, times: 2}]")
    statuses = [(await requestor.call("GET", "/me"))[0] for _ in range(4)]
    assert statuses == [200, 401, 401, 200]
    requestor = await serve(BASE + "daemon_faults: [{kind: wrong_key}]")
    assert await requestor.call("GET", "/me") == (401, "Invalid application key")
    assert (await requestor.call("GET", "/version/get"))[0] == 200


async def test_subscription_lost(serve: Any) -> None:
    requestor = await serve(BASE + "daemon_faults: [{kind: subscription_lost, after: 1, times: 1}]")
    demand = await requestor.demand()
    await requestor.proposal(demand, "Initial")
    status, answer = await requestor.call("GET", f"{MARKET}/demands/{demand}/events", timeout=5)
    assert status == 404 and answer["message"].startswith(f"Subscription [{demand}] not found")
    await requestor.agreement()


async def restarted(requestor: Any) -> None:
    """Wait until a daemon that was away answers again."""

    async def back() -> bool:
        try:
            return bool((await requestor.call("GET", "/version/get"))[0] == 200)
        except aiohttp.ClientError:
            return False

    await requestor.until(back)


async def test_daemon_restart_by_time(serve: Any, run_shell: Any, manual_clock: Any) -> None:
    fault = "{kind: daemon_restart, after_seconds: 60, down_seconds: 0.2}"
    requestor = await serve(BASE + f"daemon_faults: [{fault}]", clock=manual_clock)
    url = requestor.address.url
    demand = await requestor.demand()
    agreement = await requestor.sign((await requestor.draft(demand))["proposalId"])
    await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait")
    activity = await requestor.activity(agreement, deployed=True)
    allocation = await requestor.allocation()
    batch = await requestor.send(activity, [run_shell("sleep 0.4; echo survived")])
    poll = await polled(requestor)
    await manual_clock.advance(60)
    with pytest.raises(aiohttp.ClientError):  # its connection is cut, and nobody listens
        await poll
    with pytest.raises(aiohttp.ClientConnectionError):
        await requestor.call("GET", "/me")
    await manual_clock.advance(0.2)
    await restarted(requestor)
    assert requestor.address.url == url
    # demands are forgotten; agreements, allocations, activities and running batches are not
    assert (await requestor.call("GET", f"{MARKET}/demands/{demand}/events"))[0] == 404
    await requestor.ok("GET", f"{PAYMENT}/allocations/{allocation}")
    (result,) = await requestor.ok("GET", f"{ACTIVITY}/{activity}/exec/{batch}", timeout=60)
    assert result["stdout"] == "survived\n"
    await manual_clock.advance(120)  # once only
    await requestor.ok("GET", "/me")


async def test_daemon_restart_by_requests_loses_an_answer_but_no_change(serve: Any) -> None:
    fault = "{kind: daemon_restart, after_requests: 3, down_seconds: 0.1}"
    requestor = await serve(BASE + f"daemon_faults: [{fault}]")
    await requestor.ok("GET", "/me")
    await requestor.allocation("1")
    with pytest.raises(aiohttp.ClientError):
        await requestor.allocation("2")
    await restarted(requestor)
    amounts = [one["totalAmount"] for one in await requestor.ok("GET", f"{PAYMENT}/allocations")]
    assert amounts == ["1", "2"]


async def test_many_providers_and_nothing_to_do_cost_little(serve: Any) -> None:
    fleet = "runtime: {isolation: process}\nproviders: [{name: oak, count: 64}]"
    requestor = await serve(fleet)
    agreements = [await requestor.agreement() for _ in range(8)]
    assert len(set(agreements)) == 8
    process = psutil.Process()
    shares = []
    for _ in range(4):  # the least: whatever else this process does comes and goes
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        await requestor.call("GET", f"{PAYMENT}/invoiceEvents", timeout=0.3)
        used = sum(process.cpu_times()[:2]) - before
        shares.append(used / (time.monotonic() - began))
    assert min(shares) < 0.2
