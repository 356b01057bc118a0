"""`derl-request offers` on a market of different prices, machines and GPUs, and on saved scans."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

import pytest

from requestor.errors import PreflightError, UsageError
from requestor.marketplace.choice.history import ProviderHistory, Who

LIVE = ("golem.mode=yagna", "--seconds", "2")


class Program(Protocol):
    """`derl-request` (see conftest.py)."""

    runs: Path

    def __call__(self, *arguments: str, answer: str | None = None) -> Any:
        """Run a command."""
        ...

    def json(self, *arguments: str) -> Any:
        """Run a command with --json."""
        ...


def names(record: Any) -> list[str]:
    return [one["name"] for one in record["offers"]]


@pytest.fixture
def scan(program: Program, users_daemon: Any, tmp_path: Path) -> str:
    """A file with a scan of the market."""
    path = tmp_path / "scan.json"
    result = program("offers", *LIVE, "--save", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f" saved: {path}\n")
    return str(path)


def test_a_live_scan(program: Program, users_daemon: Any) -> None:
    """One busy thread: rowan 0.08 + 0.03, willow 0.1 + 0.02, alder 0.12 + 0.02."""
    record = program.json("offers", *LIVE)
    assert (record["seen"], record["kept"], record["subnet"]) == (9, 3, "public")
    assert names(record) == ["rowan", "willow", "alder"]
    assert [one["hour_at_use_glm"] for one in record["offers"]] == ["0.11", "0.12", "0.14"]
    assert record["median_hour_glm"] == "0.12"
    assert [one["reason"] for one in record["unreadable"]] == ["the price model is not linear"]
    removed = {one["name"]: one["removed"] for one in record["filters"] if one["removed"]}
    assert removed == {"runtime": 3, "memory": 1, "start price": 1}


def test_the_table(program: Program, users_daemon: Any) -> None:
    result = program("offers", *LIVE, "--all")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["willow"][1:9] == ["0.12", "0", "0.1", "0.02", "4", "8", "GiB", "20"]
    assert "2x NVIDIA A30 (24 GiB)" in result.stdout
    assert "RTX 3060 (12 GiB)" in result.stdout
    assert rows["tiny"][-1] == "memory"
    assert rows["greedy"][-2:] == ["start", "price"]


def test_a_private_market(program: Program) -> None:
    """Without a config: the fleet of four that comes with DeRL."""
    record = program.json("offers", "--seconds", "2")
    assert sorted(names(record)) == ["alder", "hazel", "rowan", "willow"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sort", "name"], ["alder", "rowan", "willow"]),
        (["--sort", "threads"], ["rowan", "willow", "alder"]),
        (["--sort", "memory"], ["willow", "rowan", "alder"]),
        (["--sort", "start"], ["willow", "alder", "rowan"]),
        (["--limit", "1"], ["rowan"]),
        (["--limit", "0", "--sort", "name"], ["alder", "rowan", "willow"]),
        (["golem.threads=4"], ["rowan", "willow"]),
        (["golem.max_price.cpu_hour_glm=0.1"], ["rowan", "willow"]),
        (["golem.block=[rowan]"], ["willow", "alder"]),
        (["golem.allow=[alder]"], ["alder"]),
        (["golem.runtime=vm-nvidia", "--sort", "gpu"], ["farm-1", "farm-2", "old-gpu"]),
        (["golem.runtime=vm-nvidia", "golem.gpu.memory_gib=20"], ["farm-1", "farm-2"]),
        (["golem.runtime=vm-nvidia", "golem.gpu.model=RTX 3060"], ["old-gpu"]),
        (["golem.subnet=other"], []),
    ],
)
def test_sorting_and_filters_on_a_saved_scan(
    program: Program, scan: str, arguments: list[str], expected: list[str]
) -> None:
    assert names(program.json("offers", *arguments, "--from", scan)) == expected


def test_a_saved_scan_needs_no_daemon(
    program: Program, scan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = program.json("offers", *LIVE)
    monkeypatch.setenv("YAGNA_API_URL", "http://127.0.0.1:1")
    saved = program.json("offers", "--from", scan)
    assert saved["offers"] == live["offers"]
    assert saved["filters"] == live["filters"]
    assert "ago" in program("offers", "--from", scan).stdout


def test_a_saved_scan_holds_no_key(scan: str, users_daemon: Any) -> None:
    assert users_daemon.environment["YAGNA_APPKEY"] not in Path(scan).read_text()


def test_all_shows_what_was_removed_last(program: Program, scan: str) -> None:
    record = program.json("offers", "--from", scan, "--all")
    assert names(record)[:3] == ["rowan", "willow", "alder"]
    assert {one["name"]: one["removed_by"] for one in record["offers"][3:]} == {
        "farm-1": "runtime",
        "farm-2": "runtime",
        "old-gpu": "runtime",
        "tiny": "memory",
        "greedy": "start price",
    }


def test_reputation(program: Program, scan: str) -> None:
    nodes = {
        one["name"]: one["node_id"] for one in program.json("offers", "--from", scan)["offers"]
    }
    history = ProviderHistory(program.runs / "providers.json", time.time)
    history.worked(Who(nodes["alder"], "alder"), orders=12)
    for _ in range(2):
        history.failed(Who(nodes["rowan"], "rowan"), "overbilled", "asked for twice as much")
    history.failed(Who(nodes["willow"], "willow"), "vanished", "gone in mid-order")
    record = program.json("offers", "--from", scan, "--sort", "record")
    assert names(record) == ["alder", "willow"]
    assert {one["name"]: one["removed"] for one in record["filters"]}["reputation"] == 1
    assert [one["standing"] for one in record["offers"]] == ["good", "doubtful"]
    assert record["offers"][0]["orders_done"] == 12
    text = program("offers", "--from", scan).stdout
    assert "12 done" in text
    assert "gone in mid-order" in text


def test_errors(program: Program, users_daemon: Any, scan: str, tmp_path: Path) -> None:
    for arguments, message in (
        (["--from", scan, "--save", str(tmp_path / "x")], "don't go together"),
        (["--from", str(tmp_path / "none")], "No such file"),
        (["--save", str(tmp_path / "no" / "x"), *LIVE], "cannot be written"),
    ):
        result = program("offers", *arguments)
        assert isinstance(result.exception, UsageError)
        assert message in result.exception.message
    (tmp_path / "bad.json").write_text(json.dumps({"format": "derl market scan 1"}))
    assert isinstance(program("offers", "--from", str(tmp_path / "bad.json")).exception, UsageError)


def test_an_empty_market(program: Program, users_daemon: Any) -> None:
    result = program("offers", "golem.mode=yagna", "golem.subnet=nowhere", "--seconds", "0.5")
    assert " 0 offers in subnet nowhere" in result.stdout
    assert isinstance(result.exception, PreflightError)
    assert "derl-request doctor" in str(result.exception.fix)


def test_no_daemon(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("YAGNA_APPKEY", "f" * 32)
    result = program("offers", *LIVE)
    assert isinstance(result.exception, PreflightError)
    assert "connection refused" in result.exception.message
    assert result.exception.exit_code == 4
