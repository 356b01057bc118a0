"""A daemon of the test's own, and `derl-request` in this process or one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from requestor.cli.main import cli
from requestor.mock_golem.books import Books, read_books
from requestor.mock_golem.clock import SystemClock

KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"
FLEET = """
runtime: {isolation: process}
providers:
  - {name: willow, price: {cpu_hour_glm: 0.10, hour_glm: 0.02}, threads: 4, memory_gib: 8}
  - {name: alder, price: {cpu_hour_glm: 0.12, hour_glm: 0.02}, threads: 2}
  - {name: rowan, price: {start_glm: 0.0001, cpu_hour_glm: 0.08, hour_glm: 0.03}, threads: 8}
  - {name: greedy, price: {start_glm: 0.5, cpu_hour_glm: 3, hour_glm: 1}, threads: 64}
  - {name: tiny, memory_gib: 0.5}
  - {name: odd, properties: {golem.com.pricing.model: auction}}
  - name: farm
    count: 2
    runtime: vm-nvidia
    capabilities: [vpn, gpu]
    wallet: "0x1111111111111111111111111111111111111111"
    gpu: {model: NVIDIA A30, memory_gib: 24, quantity: 2}
    price: {cpu_hour_glm: 0.2, hour_glm: 0.1}
  - {name: old-gpu, runtime: vm-nvidia, gpu: {model: RTX 3060, memory_gib: 12, names: gap-35}}
"""


@dataclass
class Daemon:
    """A mock daemon in a process of its own, as the user's."""

    url: str
    gftp_directory: str
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return what finds it."""
        path = f"{self.gftp_directory}:{os.environ['PATH']}"
        return {"YAGNA_API_URL": self.url, "YAGNA_APPKEY": KEY, "PATH": path}

    @property
    def books(self) -> Books:
        """Return its books."""
        return read_books(self.state, SystemClock())


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Daemon]]:
    """Start daemons of these fleets with the key `KEY`; all end with the module."""
    with ExitStack() as stack:

        def start(fleet: str) -> Daemon:
            folder = tmp_path_factory.mktemp("daemon")
            (folder / "fleet.yaml").write_text(fleet)
            command = [sys.executable, "-m", "requestor.mock_golem", "serve", "--json"]
            command += ["--fleet", str(folder / "fleet.yaml"), "--state", str(folder / "state")]
            command += ["--app-key", KEY, "--wire-log", str(folder / "wire.jsonl")]
            process = subprocess.Popen(
                [*command, "--stop-on-stdin-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.enter_context(process)
            assert process.stdin is not None and process.stdout is not None
            stack.callback(process.stdin.close)
            ready = json.loads(process.stdout.readline())
            return Daemon(ready["url"], ready["gftp_directory"], folder / "state")

        yield start


@pytest.fixture(scope="module")
def market(serve: Callable[[str], Daemon]) -> Daemon:
    """The daemon of a fleet of different prices, machines and GPUs."""
    return serve(FLEET)


@pytest.fixture
def users_daemon(market: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The same, and the environment that finds it."""
    for name in list(os.environ):
        if name.startswith("YAGNA_"):
            monkeypatch.delenv(name)
    for name, value in market.environment.items():
        monkeypatch.setenv(name, value)
    return market


class Program:
    """`derl-request` in this process, with a runs folder of its own."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def __call__(self, *arguments: str, answer: str | None = None) -> Result:
        """Run a command; an error that the user would see is `result.exception`."""
        name, *rest = arguments
        command = [name, *rest, "--runs-dir", str(self.runs)]
        return CliRunner().invoke(cli, command, input=answer)

    def json(self, *arguments: str) -> Any:
        """Run a command with --json; return what it prints."""
        result = self(*arguments, "--json")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return json.loads(result.stdout)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run commands."""
    monkeypatch.setenv("PATH", os.environ["PATH"])  # private daemons change it
    monkeypatch.setenv("COLUMNS", "200")
    # the providers of a mock answer within milliseconds
    monkeypatch.setattr("requestor.marketplace.golem.daemon.market_scan.QUIET_SECONDS", 0.4)
    monkeypatch.setattr("requestor.cli.doctor.SCAN_SECONDS", 2.0)
    return Program(tmp_path / "runs")


def run_program(
    arguments: Sequence[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run `derl-request` in a process of its own; return code and output."""
    return subprocess.run(
        [sys.executable, "-m", "requestor.cli.main", *arguments],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=110,
    )


@pytest.fixture
def in_its_own_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `derl-request` in a process of its own."""
    return run_program
