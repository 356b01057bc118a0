"""`derl-request doctor` against a mock daemon of its own and against the user's."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

import pytest

from requestor.config import parse_config, resolved_yaml
from requestor.errors import ConfigError
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.money.ledger import Ledger
from requestor.training_run.run_directory import RunDirectory

NAMES = [
    "disk",
    "open files",
    "jail",
    "gftp",
    "network",
    "key",
    "daemon",
    "version",
    "clock",
    "identity",
    "account",
    "funds",
    "allocations",
    "image",
    "offers",
    "leftovers",
]


class Program(Protocol):
    """`derl-request` (see conftest.py)."""

    runs: Path

    def __call__(self, *arguments: str, answer: str | None = None) -> Any:
        """Run a command."""
        ...

    def json(self, *arguments: str) -> Any:
        """Run a command with --json."""
        ...


def by_name(record: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in record["checks"]}


def states(record: Any) -> dict[str, str]:
    return {one["name"]: one["state"] for one in record["checks"]}


def test_the_defaults_are_fit(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a config and without a daemon: all is well on a mock of its own."""
    monkeypatch.setenv("DERL_JAIL", "none")  # not every machine has bubblewrap
    result = program("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1] == " DeRL's defaults · mode mock"
    assert [line[4:16].strip() for line in lines[3:19]] == NAMES
    assert lines[-2] == " All is well: 14 fine, 2 skipped"
    assert not program.runs.exists()


def test_a_config(program: Program) -> None:
    record = program.json("doctor", "configs/cartpole.yaml", "golem.providers=3")
    assert (record["mode"], record["is_fit"]) == ("mock", True)
    assert list(states(record)) == NAMES
    assert by_name(record)["funds"]["says"].endswith("the budget is 0.01")


def test_the_users_daemon(program: Program, users_daemon: Any) -> None:
    record = program.json("doctor", "golem.mode=yagna", "golem.providers=3")
    found = by_name(record)
    assert record["is_fit"]
    assert found["daemon"]["facts"] == {"url": users_daemon.url}
    assert found["offers"]["facts"] == {"seen": 9, "kept": 3, "providers": 3}
    assert found["offers"]["says"] == (
        "3 of 9 offers fit (3 by runtime, 1 by memory, 1 by start price, 1 unreadable removed)"
    )
    assert found["image"]["says"] == "no config given, so no image is named"
    assert found["leftovers"]["says"] == "none"


def test_it_neither_rents_nor_allocates(program: Program, users_daemon: Any) -> None:
    program("doctor", "golem.mode=yagna")
    program("offers", "golem.mode=yagna", "--seconds", "0.5")
    books = users_daemon.books
    assert not books.allocations
    assert not books.agreements
    wire = (users_daemon.state.parent / "wire.jsonl").read_text().splitlines()
    calls = {(line["method"], line["path"]) for line in map(json.loads, wire)}
    changing = {call for call in calls if call[0] != "GET" and "/demands" not in call[1]}
    assert {path for _, path in changing} <= {
        "/_gsb/local/payment/GetStatus",
        "/_gsb/local/payment/GetDrivers",
    }


def test_a_wrong_key(program: Program, users_daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", "f" * 32)
    result = program("doctor", "golem.mode=yagna", "--json")
    assert result.exit_code == 4
    assert result.stderr == "1 check failed: identity\n"
    record = json.loads(result.stdout)
    assert not record["is_fit"]
    found = by_name(record)
    assert found["identity"]["state"] == "failed"
    assert "yagna app-key list" in found["identity"]["fix"]
    skipped = [name for name, state in states(record).items() if state == "skipped"]
    assert skipped == ["account", "funds", "allocations", "image", "offers", "leftovers"]
    assert found["offers"]["says"] == "needs identity"


def test_nothing_of_the_user_is_there(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (("YAGNA_API_URL", "http://127.0.0.1:1"), ("PATH", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("YAGNA_APPKEY", raising=False)
    monkeypatch.setenv("DERL_JAIL", "none")
    result = program("doctor", "golem.mode=yagna")
    assert result.exit_code == 4
    assert " Not fit for a run yet: 4 fine, 3 failed, 9 skipped\n" in result.stdout
    for command in ("`yagna service run`", "`yagna app-key create requestor`", "install yagna"):
        assert command in result.stdout


def test_a_fleet_that_cannot_be_served(program: Program, tmp_path: Path) -> None:
    fleet = tmp_path / "bad.yaml"
    fleet.write_text("providers: [{name: oak, cores: 4}]\n")
    result = program("doctor", f"golem.fleet={fleet}")
    assert result.exit_code == 4
    assert "cores" in result.stdout
    assert "mock-golem fleet check" in result.stdout
    assert "needs daemon" in result.stdout


def test_a_bad_config_is_told_as_such(program: Program) -> None:
    result = program("doctor", "golem.providers=0")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 3


@pytest.mark.parametrize(
    ("overrides", "state", "says"),
    [
        (["golem.max_price.cpu_hour_glm=0.01"], "failed", "0 of 9 offers fit (3 by runtime"),
        (["golem.subnet=elsewhere"], "failed", "no offers in subnet elsewhere within"),
        (["golem.providers=7"], "warning", "by 3 of the 7 providers wanted"),
        (["golem.allow=[willow]"], "warning", "2 by allow list"),
        (["golem.runtime=vm-nvidia", "golem.providers=2"], "ok", "3 of 9 offers fit"),
    ],
)
def test_offers_that_fit_the_config(
    program: Program, users_daemon: Any, overrides: list[str], state: str, says: str
) -> None:
    record = program.json("doctor", *overrides, "golem.mode=yagna")
    offers = by_name(record)["offers"]
    assert offers["state"] == state
    assert says in offers["says"]
    assert record["is_fit"] == (state != "failed")


def test_too_little_money(program: Program, users_daemon: Any) -> None:
    found = by_name(program.json("doctor", "golem.mode=yagna", "golem.budget_glm=1000.5"))
    assert found["funds"]["state"] == "failed"
    assert found["funds"]["facts"]["glm"] == "1000"
    assert "yagna payment fund" in found["funds"]["fix"]


def open_run(runs: Path, name: str, mode: str) -> None:
    """A run of which a process died with money set aside."""
    directory = RunDirectory(runs / "ppo" / name)
    directory.path.mkdir(parents=True)
    directory.identity.write_text(json.dumps({"run_id": name}))
    text = f"{{env: {{id: CartPole-v1}}, algo: {{name: ppo}}, golem: {{mode: {mode}, budget_glm: 1"
    config = parse_config(f"{text}, image: 'a/b:c'}}}}")
    directory.config.write_text(resolved_yaml(config))
    ledger = Ledger(directory.ledger)
    ledger.write("allocation_intended", amount_glm="0.4", budget_glm="0.5", node_id="A")
    ledger.close()


def test_leftovers_of_dead_runs(program: Program, users_daemon: Any) -> None:
    open_run(program.runs, "a", "yagna")
    open_run(program.runs, "b", "mock")
    open_run(program.runs, "c", "yagna")
    (program.runs / "ppo" / "c" / "config.resolved.yaml").write_text("{")
    leftovers = by_name(program.json("doctor", "golem.mode=yagna"))["leftovers"]
    assert leftovers["state"] == "warning"
    assert leftovers["facts"]["runs"] == ["ppo/a", "ppo/c"]
    assert "`derl-request sweep`" in leftovers["fix"]


def test_the_banned_do_not_count(program: Program, users_daemon: Any) -> None:
    offers = program.json("offers", "golem.mode=yagna", "--seconds", "0.5")["offers"]
    nodes = {one["name"]: one["node_id"] for one in offers}
    history = ProviderHistory(program.runs / "providers.json", time.time)
    for _ in range(2):
        history.failed(Who(nodes["willow"], "willow"), "bad_result", "NaN")
    found = by_name(program.json("doctor", "golem.mode=yagna"))["offers"]
    assert found["facts"]["kept"] == 2
    assert "1 by reputation" in found["says"]
