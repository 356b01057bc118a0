"""`mock-golem` as a program: what it prints, how it ends, and that it can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from click.testing import CliRunner

from requestor.mock_golem.cli import main
from requestor.mock_golem.cli_serving import Refusals
from requestor.mock_golem.daemon import VERSION
from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, kind_of
from requestor.mock_golem.money import cost

if TYPE_CHECKING:
    from tests.requestor.mock_golem.conftest import Program

ROOT = Path(__file__).parents[3]
FLEET = "runtime: {isolation: process}\nproviders: [{name: willow, price: {start_glm: 0.5}}]\n"
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1/activity", "/payment-api/v1"


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET, encoding="utf-8")
    return str(path)


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_ready_line(programs: Callable[..., Program], fleet: str) -> None:
    ready = programs("--fleet", fleet, "--app-key", "chosen").ready
    assert set(ready) == {
        "url",
        "app_key",
        "gftp_directory",
        "identity",
        "registry_url",
        "pid",
        "payment_platform",
        "subnet",
    }
    assert ready["app_key"] == "chosen"
    assert ready["payment_platform"] == "erc20-hoodi-tglm"
    version = subprocess.run(
        [Path(ready["gftp_directory"]) / "gftp", "server"],
        input='{"jsonrpc": "2.0", "id": 1, "method": "version", "params": {}}\n',
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(version.stdout)["result"]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of standard input"])
def test_an_orderly_end(programs: Callable[..., Program], fleet: str, how: str) -> None:
    program = programs("--fleet", fleet, "--stop-on-stdin-eof")
    _, pids = program.busy_activity(program.agreement())
    folder = Path(program.ready["gftp_directory"]).parents[1]
    if how.startswith("SIG"):
        program.process.send_signal(signal.Signals[how])
    else:
        assert program.process.stdin is not None
        program.process.stdin.close()
    assert program.expect_end() == 0
    assert gone(pids)
    assert not folder.exists()


def test_kill_and_restart(programs: Callable[..., Program], fleet: str, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    first = programs("--fleet", fleet, "--state", state)
    allocation = first.call("POST", f"{PAYMENT}/allocations", {"totalAmount": "3.0"})
    agreement = first.agreement()
    activity, pids = first.busy_activity(agreement)
    usage = f"{ACTIVITY}/{activity}/usage"
    told = first.wait_for(lambda: any(used := first.call("GET", usage)["currentUsage"]) and used)
    first.process.kill()
    first.expect_end()
    first.wait_for(lambda: gone(pids))  # nothing survives the daemon

    second = programs("--fleet", fleet, "--state", state)
    shown = second.call("GET", f"{PAYMENT}/allocations")
    assert [one["allocationId"] for one in shown] == [allocation["allocationId"]]
    listed = second.call("GET", f"{MARKET}/agreements?state=Approved")
    assert [one["id"] for one in listed] == [agreement]
    state_of = second.call("GET", f"{ACTIVITY}/{activity}/state")
    assert state_of["state"][0] == "Terminated"
    second.call("POST", f"{MARKET}/agreements/{agreement}/terminate", {"message": "over"})
    (invoice,) = second.wait_for(lambda: second.call("GET", f"{PAYMENT}/invoices"))
    amount = invoice["amount"]
    known = second.call("GET", usage)["currentUsage"]
    assert all(after >= before for before, after in zip(told, known, strict=True))
    shown = second.call("GET", f"{MARKET}/agreements/{agreement}")
    prices = shown["offer"]["properties"]["golem.com.pricing.model.linear.coeffs"]
    assert prices[-1] == 0.5
    assert Decimal(amount) == cost(prices, known)
    body = {"totalAmountAccepted": amount, "allocationId": allocation["allocationId"]}
    second.call("POST", f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept", body)
    second.call("DELETE", f"{PAYMENT}/allocations/{allocation['allocationId']}")

    # the books can be read beside the daemon, and after it
    for _ in range(2):
        result = CliRunner().invoke(main, ["books", "--state", state, "--json"])
        assert result.exit_code == 0, result.output
        books = json.loads(result.output)
        assert [one["state"] for one in books["allocations"]] == ["released"]
        assert [one["state"] for one in books["agreements"]] == ["Terminated"]
        assert [one["state"] for one in books["activities"]] == ["terminated"]
        assert [one["accepted_glm"] for one in books["invoices"]] == [amount]
        assert books["totals"]["spent_glm"] == books["totals"]["charged_glm"] == amount
        second.process.terminate()
        second.expect_end()
    text = CliRunner().invoke(main, ["books", "--state", state]).output
    assert "allocations: 1" in text
    assert {len(line) <= 100 for line in text.splitlines()} == {True}, text
    for whole in (allocation["allocationId"], agreement, activity, invoice["invoiceId"]):
        assert f"  {whole[:8]}  " in text and whole[:13] not in text


def expiring(program: Program, seconds: float) -> None:
    """Twice, ask a provider for terms that it refuses: a demand that expires so soon."""
    terms = {
        "properties": {
            "golem.srv.comp.expiration": (int(time.time()) + seconds) * 1000,
            "golem.node.debug.subnet": "public",
            "golem.com.payment.chosen-platform": program.ready["payment_platform"],
        },
        "constraints": "(golem.runtime.name=vm)",
    }
    for _ in range(2):
        demand = program.call("POST", f"{MARKET}/demands", terms)
        path = f"{MARKET}/demands/{demand}"
        initial = program.proposal(demand, "Initial")
        program.call("POST", f"{path}/proposals/{initial['proposalId']}", terms)
        events = program.call("GET", f"{path}/events?timeout=60")
        assert [one["eventType"] for one in events] == ["ProposalRejectedEvent"]
        program.call("DELETE", path)


@pytest.mark.parametrize("as_json", [False, True])
def test_refusals_are_told_once(
    programs: Callable[..., Program], fleet: str, as_json: bool
) -> None:
    program = programs("--fleet", fleet, as_json=as_json)
    expiring(program, 100)
    program.process.terminate()
    out, errors = program.process.communicate(timeout=60)
    assert out == ""
    if as_json:
        assert errors == ""
        return
    (line,) = errors.splitlines()
    assert line.startswith("mock-golem: willow refuses: Proposal expires at: ")
    assert line.endswith(", which is less than 300 s from now")


def test_refusals_are_shown_safely_and_not_without_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusals = Refusals()
    refusals.tell("oak", "Payment platform \x1b[2J\n is not supported")
    assert capsys.readouterr().err == (
        "mock-golem: oak refuses: Payment platform ?[2J? is not supported\n"
    )
    for number in range(2000):
        refusals.tell("oak", f"reason {number}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1000
    assert lines[-1] == "mock-golem: further refusals are not shown"


def test_killed_while_it_writes(
    programs: Callable[..., Program], fleet: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    first = programs("--fleet", fleet, "--state", str(state))
    for amount in ("1", "2"):
        first.call("POST", f"{PAYMENT}/allocations", {"totalAmount": amount})
    first.process.kill()
    first.expect_end()
    journal = state / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    for expected in (["1"], ["1", "7"]):
        again = programs("--fleet", fleet, "--state", str(state))
        if expected == ["1", "7"]:
            again.call("POST", f"{PAYMENT}/allocations", {"totalAmount": "7"})
        shown = again.call("GET", f"{PAYMENT}/allocations")
        assert [one["totalAmount"] for one in shown] == expected
        again.process.kill()
        again.expect_end()


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_fleet_check(fleet: str, tmp_path: Path) -> None:
    code, output = invoke("fleet", "check", fleet)
    assert code == 0 and "willow" in output
    bad = tmp_path / "bad.yaml"
    bad.write_text("providers: [{name: oak, thread: 1}]", encoding="utf-8")
    code, output = invoke("fleet", "check", str(bad))
    assert code == 1
    assert output == (
        f"mock-golem: {bad}: unknown key `thread` @ providers[0].thread: did you mean `threads`?\n"
    )


def test_faults_are_all_listed() -> None:
    code, output = invoke("faults")
    assert code == 0
    for fault in (*PROVIDER_FAULTS, *DAEMON_FAULTS):
        assert f"  {kind_of(fault)}" in output
        assert fault.description and fault.description in output


def test_faults_as_data() -> None:
    code, output = invoke("faults", "--json")
    assert code == 0
    document = json.loads(output)
    kinds = [*map(kind_of, PROVIDER_FAULTS), *map(kind_of, DAEMON_FAULTS)]
    assert [one["kind"] for one in document] == kinds
    by_kind = {one["kind"]: one for one in document}
    assert by_kind["wrong_key"]["section"] == "daemon_faults"
    tampered = by_kind["result_tampered"]
    assert tampered["section"] == "faults" and tampered["description"]
    assert tampered["settings"]["tamper"] == {"required": True}
    assert tampered["settings"]["after"] == {"required": False, "default": 0}


def test_version() -> None:
    code, output = invoke("--version")
    assert (code, output) == (0, f"mock-golem {version('derl')}, answers as yagna {VERSION}\n")


def test_serving_errors(fleet: str, tmp_path: Path) -> None:
    code, output = invoke("serve", "--fleet", str(tmp_path / "none.yaml"))
    assert code == 1 and "cannot be read: No such file or directory" in output
    code, output = invoke("serve", "--fleet", fleet, "--state", fleet + "/x")
    assert code == 1 and "cannot be used as state directory" in output
    code, output = invoke("books", "--state", str(tmp_path))
    assert code == 1 and "Was a daemon run with this --state?" in output


def test_help_tells_every_command() -> None:
    code, output = invoke("--help")
    assert code == 0
    for command in ("serve", "fleet", "faults", "books"):
        assert command in output


def test_starting_is_light() -> None:
    script = "import sys, requestor.mock_golem.cli; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {"torch", "numpy", "gymnasium", "stable_baselines3", "yapapi"}
    ours = {name for name in run.stdout.split() if name.startswith("requestor.")}
    assert all(name.startswith("requestor.mock_golem") for name in ours)
