"""The key is nowhere: in no file of a run, whether it succeeds or fails, and in no output.

Runs are real ones, in processes of their own, with the user's daemon (a mock with a known key).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from requestor.cli.execution import _without_secrets, create_run
from requestor.config import load_config
from requestor.marketplace.golem.daemon.api import DaemonApi
from requestor.marketplace.golem.daemon.private_daemon import private_daemon
from requestor.mock_golem.books import read_books
from requestor.mock_golem.clock import SystemClock
from requestor.training_run import events

KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"
FLEET = "providers: [{name: oak, count: 2}]\n"
CONFIG = """
env: {id: CartPole-v1}
algo: {name: ppo, n_steps: 16, batch_size: 16, n_epochs: 1}
federation: {rounds: 1, clients: 2, local_steps: 16}
evaluation: {episodes: 1, final_episodes: 1, gate: {rule: none}}
golem: {mode: yagna, providers: 2, budget_glm: 0.5, image: IMAGE}
"""
IMAGE = "'hash:sha3:" + "0" * 56 + ":http://127.0.0.1/provider-image.gvmi'"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def daemon(serve: Callable[[str], Any]) -> Any:
    """The user's daemon."""
    return serve(FLEET)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.replace("IMAGE", IMAGE))
    return str(path)


def leaks(folder: Path, key: str = KEY) -> list[str]:
    """The files below a folder that hold the key, in any spelling."""
    spellings = {key.encode(), quote(key, safe="").encode(), json.dumps(key)[1:-1].encode()}
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(spelling in path.read_bytes() for spelling in spellings)
    ]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "log").write_bytes(b"\x00" + KEY.encode() + b"\xff")
    assert leaks(tmp_path) == [str(tmp_path / "x" / "log")]


def test_a_run_that_succeeds(
    in_its_own_process: Run, daemon: Any, config: str, tmp_path: Path
) -> None:
    """With variables of yapapi's that say otherwise than the config: they decide nothing."""
    environment = {
        **daemon.environment,
        "YAGNA_PAYMENT_NETWORK": "mainnet",
        "YAGNA_PAYMENT_DRIVER": "zksync",
        "YAGNA_SUBNET": "elsewhere",
        "DEBUG_GFTP": "1",
    }
    runs = tmp_path / "runs"
    command = ["run", config, "--runs-dir", str(runs), "--json"]
    done = in_its_own_process(command, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "completed"
    assert {"derl-request.log", "events.jsonl", "run.json", "ledger.jsonl"} <= files(runs)
    assert leaks(tmp_path) == []
    assert KEY not in done.stdout + done.stderr
    books = daemon.books
    platforms = {one.payment_platform for one in books.allocations.values()}
    assert platforms == {"erc20-hoodi-tglm"}
    demanded = [one.demand["properties"] for one in books.agreements.values()]
    assert demanded
    for properties in demanded:
        assert properties["golem.node.debug.subnet"] == "public"
        assert "golem.com.payment.platform.erc20-hoodi-tglm.address" in properties
        assert not [name for name in properties if "mainnet" in name or "zksync" in name]
    assert leaks(daemon.state.parent) == []  # the daemon's own books and its wire log


def test_a_run_that_fails(
    in_its_own_process: Run, daemon: Any, config: str, tmp_path: Path
) -> None:
    """The market is at an address where nobody answers: errors and tracebacks, and no key."""
    environment = {**daemon.environment, "YAGNA_MARKET_URL": "http://127.0.0.1:1/market-api/v1"}
    runs = tmp_path / "runs"
    command = ["run", config, "--runs-dir", str(runs), "golem.startup_timeout_seconds=3"]
    done = in_its_own_process(command, environment, tmp_path)
    assert done.returncode in (4, 6), done.stderr
    assert done.stderr.startswith("error: ")
    assert leaks(tmp_path) == []
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "override",
    [
        f"golem.app_key={KEY}",
        f"golem.subnet={KEY}",
        f"golem.image_url=http://user:{KEY}@host/x",
        f"golem.budget_glm={KEY}",
        f"nonsense {KEY}",
        f"golem.what={{{KEY}",
    ],
)
def test_a_key_on_the_command_line(
    in_its_own_process: Run, daemon: Any, config: str, tmp_path: Path, override: str
) -> None:
    runs = tmp_path / "runs"
    command = ["run", config, override, "--runs-dir", str(runs)]
    done = in_its_own_process(command, daemon.environment, tmp_path)
    assert done.returncode == 3, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("YAGNA_API_URL", f"http://me:{KEY}@127.0.0.1:1"),
        ("YAGNA_API_URL", f"gftp://{KEY}@127.0.0.1"),
        ("YAGNA_APPKEY", f"{KEY} {KEY}"),
        ("YAGNA_MARKET_URL", f"http://{KEY}@127.0.0.1:1/market-api/v1"),
    ],
)
@pytest.mark.parametrize("command", ["run", "doctor", "offers"])
def test_an_environment_that_holds_a_password(
    in_its_own_process: Run, config: str, tmp_path: Path, command: str, name: str, value: str
) -> None:
    environment = {"YAGNA_APPKEY": "f" * 32, name: value}
    arguments = [command, config, "--runs-dir", str(tmp_path / "runs")]
    done = in_its_own_process(arguments, environment, tmp_path)
    assert done.returncode == 4
    assert KEY not in done.stdout + done.stderr
    assert name in done.stdout + done.stderr
    assert leaks(tmp_path / "runs") == []


def test_events_and_command_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str
) -> None:
    """What a daemon or a provider says may quote the key, and so may the command line."""
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    monkeypatch.setattr("sys.argv", ["derl-request", "run", f"x={KEY}"])
    said = events.OrderFailed(1, 0, "L1", f"401 for {KEY}")
    assert _without_secrets(said) == events.OrderFailed(1, 0, "L1", "401 for <redacted>")
    plain = events.Notice("nothing to hide")
    assert _without_secrets(plain) is plain
    create_run(load_config(Path(config)), tmp_path / "runs")
    assert leaks(tmp_path / "runs") == []


CRASH = """
import sys
import rich_click as click
from requestor.cli import main
@click.command()
def crash():
    raise RuntimeError(f"a fault of ours with {KEY!r} in it")
KEY = sys.argv.pop()
main.cli.add_command(crash)
main.main()
"""


def test_tracebacks_of_our_own_faults(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, "crash", KEY],
        env={**os.environ, "YAGNA_APPKEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "RuntimeError: a fault of ours with '<redacted>' in it" in done.stderr
    assert KEY not in done.stderr + done.stdout


@pytest.mark.asyncio
async def test_the_key_of_a_private_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made up anew each time, and written nowhere: not in books, log or wire log."""
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored at the end
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    monkeypatch.setenv("YAGNA_API_URL", f"http://{KEY}@127.0.0.1:1")
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    folder = tmp_path / "private"
    folder.mkdir()
    state, log, wire = folder / "state", folder / "log", folder / "wire.jsonl"
    async with private_daemon(fleet, state, log, wire) as address:
        async with DaemonApi(address) as api:
            await api.identity()
            url = f"{address.payment_url}/allocations"
            await api._call("POST", url, {"totalAmount": "1"})
            # whoever cannot set headers sends the key in the query
            await api._call("GET", f"{url}?authToken={address.app_key}&maxItems=1")
        assert address.app_key != KEY
    assert read_books(state, SystemClock()).allocations
    assert "authToken" in wire.read_text()
    assert leaks(folder, address.app_key) == []
    assert leaks(folder) == []
