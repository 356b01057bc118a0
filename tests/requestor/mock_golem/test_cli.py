"""`mock-golem` as a program: what it prints, how it ends, and that it can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from requestor.mock_golem.cli import main
from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, kind_of

ROOT = Path(__file__).parents[3]
FLEET = "runtime: {isolation: process}\nproviders: [{name: willow, price: {start_glm: 0.5}}]\n"
MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1/activity", "/payment-api/v1"


class Program:
    """A running `mock-golem serve --json`, spoken to in plain HTTP."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "requestor.mock_golem", "serve", "--json", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.ready: dict[str, Any] = json.loads(line)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.ready['app_key']}"}
        request = urllib.request.Request(self.ready["url"] + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read()
        return json.loads(text) if text else None

    def wait_for(self, look: Callable[[], Any]) -> Any:
        """Return the first true result of `look`."""
        deadline = time.monotonic() + 20
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
        self.call("POST", f"{MARKET}/agreements/{agreement}/wait")
        return agreement

    def busy_activity(self, agreement: str) -> tuple[str, list[int]]:
        """Start an activity with two sleeping processes; return their ids."""
        activity: str = self.call("POST", ACTIVITY, agreement)
        script = "sleep 1000 & echo $!; exec sleep 1000"
        run = {
            "entry_point": "/bin/sh",
            "args": ["-c", script],
            "capture": {"stdout": {"stream": {}}},
        }
        text = json.dumps([{"deploy": {}}, {"start": {"args": []}}, {"run": run}])
        self.call("POST", f"{ACTIVITY}/{activity}/exec", {"text": text})
        program = psutil.Process(self.process.pid)

        def sleeping() -> list[int]:
            found = [one for one in program.children(recursive=True) if one.name() == "sleep"]
            return [one.pid for one in found] if len(found) == 2 else []

        pids: list[int] = self.wait_for(sleeping)
        return activity, pids

    def expect_end(self, seconds: float = 2.0) -> int:
        """Wait for the program's end; return its exit code."""
        return self.process.wait(timeout=seconds)


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET, encoding="utf-8")
    return str(path)


@pytest.fixture
def programs() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(*arguments))
        return started[-1]

    yield start
    for program in started:
        program.process.terminate()
        program.process.wait(timeout=10)
        for pipe in (program.process.stdin, program.process.stdout, program.process.stderr):
            assert pipe is not None
            pipe.close()


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_ready_line(programs: Callable[..., Program], fleet: str) -> None:
    ready = programs("--fleet", fleet, "--app-key", "chosen").ready
    assert set(ready) == {
        "url",
        "app_key",
        "gftp_directory",
        "identity",
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
    assert amount.startswith("0.50000")  # the start price, and usage as far as it was known
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
    assert "allocations: 1" in text and f"spent_glm={amount}" in text


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
