"""Every provider fault, seen from outside."""

import asyncio
import hashlib
import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from requestor.mock_golem.exe_unit import ContainerSpec, ExeUnit
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.surroundings import CommandFaultsOf

pytestmark = pytest.mark.asyncio
MARKET, ACTIVITY = "/market-api/v1", "/activity-api/v1/activity"
PAYMENT = "/payment-api/v1"


def fleet(*faults: str) -> str:
    listed = "".join(f"      - {{kind: {fault}}}\n" for fault in faults)
    return (
        "runtime: {isolation: process}\nproviders:\n"
        "  - name: willow\n    price: {start_glm: 0.001}\n"
        f"    faults:\n{listed}"
    )


async def test_reject_agreement(serve: Any) -> None:
    requestor = await serve(fleet("reject_agreement, times: 1"))
    agreement = await requestor.sign((await requestor.draft())["proposalId"])
    status, answer = await requestor.call("POST", f"{MARKET}/agreements/{agreement}/wait")
    assert (status, answer) == (410, {"message": "Rejected"})
    await requestor.agreement()


async def test_never_answers(serve: Any) -> None:
    requestor = await serve(fleet("never_answers, times: 1"))
    demand = await requestor.demand()
    initial = await requestor.proposal(demand, "Initial")
    await requestor.counter(demand, initial["proposalId"])
    path = f"{MARKET}/demands/{demand}/events"
    assert await requestor.ok("GET", path, timeout=0.2) == []
    await requestor.agreement()


async def test_slow_approval(serve: Any, manual_clock: Any) -> None:
    requestor = await serve(fleet("slow_approval, seconds: 20"), clock=manual_clock)
    agreement = await requestor.sign((await requestor.draft())["proposalId"])
    path = f"{MARKET}/agreements/{agreement}/wait"
    assert (await requestor.call("POST", path, timeout=0.1))[0] == 408
    await manual_clock.advance(20)
    await requestor.ok("POST", path, timeout=60)


@pytest.mark.parametrize(("status", "words"), [(500, "GSB error"), (408, "Timeout")])
async def test_activity_create_fails(serve: Any, status: int, words: str) -> None:
    requestor = await serve(fleet(f"activity_create_fails, status: {status}, times: 1"))
    agreement = await requestor.agreement()
    got, answer = await requestor.call("POST", ACTIVITY, agreement, timeout=0.1)
    assert got == status and words in answer["message"]
    assert await requestor.ok("GET", ACTIVITY, agreementId=agreement) == []
    await requestor.activity(agreement, deployed=True)


async def test_deploy_hangs(serve: Any) -> None:
    requestor = await serve(fleet("deploy_hangs"))
    activity = await requestor.activity()
    batch = await requestor.send(activity, [{"deploy": {}}])
    assert await requestor.ok("GET", f"{ACTIVITY}/{activity}/exec/{batch}", timeout=0.2) == []
    await requestor.ok("DELETE", f"{ACTIVITY}/{activity}")


async def test_command_fails_on_its_turn(serve: Any, run_shell: Any) -> None:
    requestor = await serve(fleet("command_fails, exit_code: 9, after: 1, times: 1"))
    activity = await requestor.activity(deployed=True)
    messages = [
        (await requestor.execute(activity, [run_shell("true")]))[0]["message"] for _ in range(3)
    ]
    assert messages == [None, "ExeScript command exited with code 9", None]


async def test_command_hangs(serve: Any, run_shell: Any) -> None:
    requestor = await serve(fleet("command_hangs, times: 1"))
    activity = await requestor.activity(deployed=True)
    batch = await requestor.send(activity, [run_shell("true")])
    assert await requestor.ok("GET", f"{ACTIVITY}/{activity}/exec/{batch}", timeout=0.2) == []


async def test_dies_in_command(
    serve: Any, run_shell: Any, manual_clock: Any, tmp_path: Path
) -> None:
    requestor = await serve(fleet("dies_in_command, after_seconds: 1.5"), clock=manual_clock)
    agreement = await requestor.agreement()
    activity = await requestor.activity(agreement, deployed=True)
    note = tmp_path / "pid"
    batch = await requestor.send(activity, [run_shell(f"echo $$ > {note}; exec sleep 1000")])
    results = f"{ACTIVITY}/{activity}/exec/{batch}"
    status, answer = await requestor.call("GET", results, timeout=10)
    assert (status, answer) == (500, {"message": "GSB error: Service receiver was cancelled"})
    pid = int(note.read_text())  # it had really started

    async def dead() -> bool:
        return not Path(f"/proc/{pid}").exists()

    await requestor.until(dead)
    status, answer = await requestor.call("GET", results)
    assert status == 500
    assert "GSB error" in answer["message"] and "endpoint address not found" in answer["message"]
    state = f"{ACTIVITY}/{activity}/state"
    states = [(await requestor.ok("GET", state))["state"][0]]
    for _ in range(2):
        await manual_clock.advance(5)
        states.append((await requestor.ok("GET", state))["state"][0])
    assert states == ["Ready", "Unresponsive", "Terminated"]
    # nobody bills, nobody answers, but the agreement can be ended
    demand = await requestor.demand()
    await requestor.terminate(agreement)
    shown = await requestor.proposal(demand, "Initial")
    await requestor.counter(demand, shown["proposalId"])
    assert await requestor.ok("GET", f"{MARKET}/demands/{demand}/events", timeout=0.2) == []
    assert await requestor.ok("GET", f"{PAYMENT}/invoices") == []


async def test_a_dead_provider_whose_node_is_gone_too_and_its_return(
    serve: Any, run_shell: Any, manual_clock: Any
) -> None:
    fault = "dies_in_command, unreachable: true, times: 1, returns_after_seconds: 60"
    requestor = await serve(fleet(fault), clock=manual_clock)
    agreement = await requestor.agreement()
    activity = await requestor.activity(agreement, deployed=True)
    batch = await requestor.send(activity, [run_shell("sleep 1000")])
    results = f"{ACTIVITY}/{activity}/exec/{batch}"
    assert (await requestor.call("GET", results, timeout=60))[0] == 500
    path = f"{MARKET}/agreements/{agreement}"
    status, _ = await requestor.call("POST", f"{path}/terminate", {"message": "x"})
    assert status == 500
    assert (await requestor.ok("GET", path))["state"] == "Approved"
    demand = await requestor.demand()
    await manual_clock.advance(60)
    assert (await requestor.ok("GET", path))["state"] == "Terminated"
    assert (await requestor.draft(demand))["state"] == "Draft"


async def test_network_stall(serve: Any, run_shell: Any, manual_clock: Any) -> None:
    fault = "network_stall, seconds: 30, after: 1, times: 1"  # not for deploy and start
    requestor = await serve(fleet(fault), clock=manual_clock)
    activity = await requestor.activity(deployed=True)
    batch = await requestor.send(activity, [run_shell("echo done")])
    path = f"{ACTIVITY}/{activity}/exec/{batch}"
    poll = asyncio.create_task(requestor.ok("GET", path, timeout=60))
    state = asyncio.create_task(requestor.ok("GET", f"{ACTIVITY}/{activity}/state"))
    done, _ = await asyncio.wait({poll, state}, timeout=0.3)
    assert not done
    await manual_clock.advance(30)
    assert (await poll)[0]["stdout"] == "done\n"
    assert (await state)["state"] == ["Ready", None]


def receiver(requestor: Any, path: Path) -> tuple[Any, str]:
    """Start a `gftp` that wants to receive a file; return it and its URL."""
    process = subprocess.Popen(
        [requestor.address.gftp_directory / "gftp", "server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    call = {"jsonrpc": "2.0", "id": 1, "method": "receive", "params": {"output_file": str(path)}}
    process.stdin.write(json.dumps(call).encode() + b"\n")
    process.stdin.flush()
    return process, json.loads(process.stdout.readline())["result"]["url"]


async def test_result_tampered(serve: Any, run_shell: Any, tmp_path: Path) -> None:
    requestor = await serve(fleet("result_tampered, tamper: truncate, after: 1, times: 1"))
    activity = await requestor.activity(deployed=True)
    await requestor.execute(activity, [run_shell("head -c 1000 /dev/zero > result")])
    sizes = []
    for number in range(3):
        target = tmp_path / str(number)
        process, url = receiver(requestor, target)
        transfer = {"transfer": {"from": "container:/golem/work/result", "to": url}}
        results = await requestor.execute(activity, [transfer])
        assert results[0]["result"] == "Ok", results
        sizes.append(target.stat().st_size)
        process.communicate()
    assert sizes[0] == sizes[2] == 1000
    assert sizes[1] < 1000


async def test_result_tampered_consistently(serve: Any, run_shell: Any, tmp_path: Path) -> None:
    requestor = await serve(fleet("result_tampered, tamper: corrupt, consistent: true"))
    activity = await requestor.activity(deployed=True)
    script = "head -c 1000 /dev/zero > result; sha256sum result"
    results = await requestor.execute(activity, [run_shell(script)])
    target = tmp_path / "result"
    process, url = receiver(requestor, target)
    transfer = {"transfer": {"from": "container:/golem/work/result", "to": url}}
    await requestor.execute(activity, [transfer])
    process.communicate()
    assert hashlib.sha256(target.read_bytes()).hexdigest() in results[0]["stdout"]
    assert target.read_bytes() != bytes(1000)


async def ended(requestor: Any) -> tuple[str, Decimal]:
    """Use and end an agreement; return it and what it should cost."""
    agreement = await requestor.agreement()
    activity = await requestor.activity(agreement)
    await requestor.ok("DELETE", f"{ACTIVITY}/{activity}")
    shown = await requestor.ok("GET", f"{MARKET}/agreements/{agreement}")
    usage = (await requestor.ok("GET", f"{ACTIVITY}/{activity}/usage"))["currentUsage"]
    *prices, start = shown["offer"]["properties"]["golem.com.pricing.model.linear.coeffs"]
    amount = Decimal(repr(start)) + sum(
        Decimal(repr(price)) * round(Decimal(repr(seconds)), 6)
        for price, seconds in zip(prices, usage, strict=True)
    )
    await requestor.terminate(agreement)
    return agreement, amount


async def test_no_invoice(serve: Any) -> None:
    requestor = await serve(fleet("no_invoice, times: 1"))
    first, _ = await ended(requestor)
    second, _ = await ended(requestor)
    await requestor.invoices(second)
    every = await requestor.ok("GET", f"{PAYMENT}/invoices")
    assert [one["agreementId"] for one in every] == [second]
    assert first != second


async def test_invoice_too_high(serve: Any) -> None:
    requestor = await serve(fleet("invoice_too_high, factor: 3, times: 1"))
    for factor in (3, 1):
        agreement, amount = await ended(requestor)
        (invoice,) = await requestor.invoices(agreement)
        assert abs(Decimal(invoice["amount"]) - amount * factor) < Decimal("1e-15")


async def test_invoice_wrong_platform(serve: Any) -> None:
    requestor = await serve(fleet("invoice_wrong_platform"))
    agreement, _ = await ended(requestor)
    (invoice,) = await requestor.invoices(agreement)
    assert invoice["paymentPlatform"] == "erc20-holesky-tglm"
    body = {
        "totalAmountAccepted": invoice["amount"],
        "allocationId": await requestor.allocation(),
    }
    path = f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept"
    status, answer = await requestor.call("POST", path, body)
    assert status == 400 and "differs" in answer["message"]


async def test_duplicate_invoice(serve: Any) -> None:
    requestor = await serve(fleet("duplicate_invoice"))
    agreement, _ = await ended(requestor)
    first, second = await requestor.invoices(agreement, count=2)
    assert first["invoiceId"] != second["invoiceId"]
    assert first["amount"] == second["amount"]
    events = await requestor.ok("GET", f"{PAYMENT}/invoiceEvents")
    assert [one["invoiceId"] for one in events] == [first["invoiceId"], second["invoiceId"]]


async def test_debit_note_flood(serve: Any, manual_clock: Any) -> None:
    requestor = await serve(fleet("debit_note_flood, per_second: 10"), clock=manual_clock)
    activity = await requestor.activity()
    await manual_clock.advance(3.05)
    notes = await requestor.ok("GET", f"{PAYMENT}/debitNotes")
    assert len(notes) == 30
    assert {one["activityId"] for one in notes} == {activity}


async def test_terminates_agreement(serve: Any, manual_clock: Any, run_shell: Any) -> None:
    requestor = await serve(fleet("terminates_agreement, after_seconds: 30"), clock=manual_clock)
    agreement = await requestor.agreement()
    activity = await requestor.activity(agreement, deployed=True)
    results = await requestor.execute(activity, [run_shell("sleep 1000 & echo $!")])
    await manual_clock.advance(30)
    shown = await requestor.ok("GET", f"{MARKET}/agreements/{agreement}")
    assert shown["state"] == "Terminated"
    await requestor.invoices(agreement)
    with pytest.raises(ProcessLookupError):
        os.kill(int(results[0]["stdout"]), 0)
    events = await requestor.ok("GET", f"{MARKET}/agreementEvents")
    assert events[-1]["terminator"] == "Provider"


async def test_the_container_is_as_the_fleet_says(serve: Any, tmp_path: Path) -> None:
    specs: list[ContainerSpec] = []

    def launch(spec: ContainerSpec, faults: CommandFaultsOf) -> ExeUnit:
        specs.append(spec)
        return ExeUnit(spec, GftpStore(tmp_path), faults)

    text = (
        "runtime: {isolation: process, path: /opt/bin, environment: {A: b}}\n"
        "providers: [{name: willow, pace: 0.2, memory_gib: 1.5}]"
    )
    requestor = await serve(text, launch=launch)
    activity = await requestor.activity()
    (spec,) = specs
    assert (spec.pace, spec.memory_bytes) == (0.2, 3 << 29)
    assert spec.isolation == "process"
    assert spec.environment == {"PATH": "/opt/bin", "LANG": "C.UTF-8", "A": "b"}
    assert spec.directory.name == activity
