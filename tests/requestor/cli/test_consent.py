"""Real money: only on a network that the config names, and only after a yes."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

from requestor.cli.consent import confirm_spending, is_real_money
from requestor.config import (
    ALGORITHMS,
    METHODS,
    GolemConfig,
    RunConfig,
    commented_template,
    parse_config,
    resolved_yaml,
)
from requestor.errors import ConfigError, PreflightError, UsageError
from requestor.networks import REAL_MONEY_NETWORKS
from requestor.training_run.run_directory import RunDirectory

IMAGE = "9a3b5d67b0b27746283cb5f287c13eab1beaa12d92a9f536b747c7ae"
CONFIG = f"""
env: {{id: CartPole-v1}}
algo: {{name: ppo}}
golem: {{mode: yagna, budget_glm: 2.5, image: {IMAGE}}}
"""


class Program(Protocol):
    """`derl-request` (see conftest.py)."""

    runs: Path

    def __call__(self, *arguments: str, answer: str | None = None) -> Any:
        """Run a command."""
        ...


class Terminal(io.StringIO):
    """Somebody who can be asked, with their answer."""

    def isatty(self) -> bool:
        return True


def config(*overrides: str) -> RunConfig:
    return parse_config(CONFIG, overrides)


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text + "\n"))


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can be asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())


# --- the network must be named ------------------------------------------------------------------


def test_no_default_is_real_money() -> None:
    assert GolemConfig().payment_network not in REAL_MONEY_NETWORKS
    for algorithm in ALGORITHMS.keys() - METHODS:
        template = parse_config(commented_template(None, algorithm))
        assert not is_real_money(template)
    for path in Path("configs").glob("*.yaml"):
        assert not any(network in path.read_text() for network in REAL_MONEY_NETWORKS)


@pytest.mark.parametrize("network", sorted(REAL_MONEY_NETWORKS))
def test_the_environment_chooses_no_network(
    monkeypatch: pytest.MonkeyPatch, network: str, nobody: None
) -> None:
    monkeypatch.setenv("YAGNA_PAYMENT_NETWORK", network)
    loaded = config()
    assert loaded.golem.payment_network == "hoodi"
    confirm_spending(loaded, yes=False)


@pytest.mark.parametrize("network", sorted(REAL_MONEY_NETWORKS))
def test_yes_does_not_stand_for_the_config(network: str) -> None:
    """Were a network of real money ever a default, nothing would be spent on it."""
    unnamed = GolemConfig.model_construct(
        {"mode", "budget_glm"},
        **{**dict(GolemConfig(mode="yagna", budget_glm=Decimal(1))), "payment_network": network},
    )
    loaded = config().model_copy(update={"golem": unnamed})
    assert is_real_money(loaded)
    with pytest.raises(ConfigError, match=f"{network} is real money, and the config does not"):
        confirm_spending(loaded, yes=True)


@pytest.mark.parametrize("mode", ["mock", "testnet"])
def test_private_daemons_reach_no_chain(mode: str, nobody: None) -> None:
    confirm_spending(config(f"golem.mode={mode}", "golem.payment_network=mainnet"), yes=False)


# --- somebody must say yes ----------------------------------------------------------------------


@pytest.mark.parametrize("network", sorted(REAL_MONEY_NETWORKS))
def test_nobody_to_ask(network: str, nobody: None) -> None:
    named = config(f"golem.payment_network={network}")
    with pytest.raises(PreflightError) as caught:
        confirm_spending(named, yes=False)
    assert caught.value.message == f"this run may spend up to 2.5 GLM of real money on {network}"
    assert caught.value.fix == "confirm with --yes"
    confirm_spending(named, yes=True)


def test_typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    named = config("golem.payment_network=polygon")
    answer(monkeypatch, " polygon ")
    confirm_spending(named, yes=False, spent_glm=Decimal("0.5"))
    asked = capsys.readouterr().out
    assert "up to 2.5 GLM (0.5 of it before) of real money on polygon. Type polygon" in asked


@pytest.mark.parametrize("text", ["", "y", "yes", "mainnet", "Polygon", "polygon!"])
def test_anything_else_is_no(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    answer(monkeypatch, text)
    with pytest.raises(UsageError, match="not confirmed, nothing was spent"):
        confirm_spending(config("golem.payment_network=polygon"), yes=False)


# --- commands -----------------------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """A config that names mainnet."""
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.replace("mode: yagna", "mode: yagna, payment_network: mainnet"))
    return str(path)


def untouched(daemon: Any) -> bool:
    books = daemon.books
    return not books.allocations and not books.agreements


def test_run_asks_before_anything_else(
    program: Program, config_file: str, users_daemon: Any
) -> None:
    result = program("run", config_file)
    assert isinstance(result.exception, PreflightError)
    assert "real money on mainnet" in result.exception.message
    assert not program.runs.exists()
    result = program("run", config_file, "golem.payment_network=hoodi", "--dry-run")
    assert result.exit_code == 0
    assert untouched(users_daemon)


def test_a_yes_reaches_the_daemon_and_no_further(
    program: Program, config_file: str, users_daemon: Any
) -> None:
    """The daemon of this test knows hoodi only: it says so, and nothing was set aside."""
    result = program("run", config_file, "--yes")
    assert isinstance(result.exception, PreflightError)
    assert "no account for erc20-mainnet-glm" in result.exception.message
    assert untouched(users_daemon)


def test_resume_asks_too(program: Program, config_file: str, users_daemon: Any) -> None:
    directory = RunDirectory(program.runs / "ppo" / "a")
    directory.path.mkdir(parents=True)
    directory.identity.write_text(json.dumps({"run_id": "r"}))
    loaded = config("golem.payment_network=hoodi")
    directory.config.write_text(resolved_yaml(loaded))
    result = program("resume", "last", "golem.payment_network=polygon")
    assert isinstance(result.exception, PreflightError)
    assert "real money on polygon" in result.exception.message
    assert "polygon" not in directory.config.read_text()
    named = config("golem.payment_network=polygon")
    directory.config.write_text(resolved_yaml(named))
    result = program("resume")
    assert "real money on polygon" in str(result.exception)
    assert untouched(users_daemon)


@pytest.mark.parametrize("command", ["doctor", "offers"])
def test_looking_asks_nobody_and_spends_nothing(
    program: Program, config_file: str, users_daemon: Any, command: str
) -> None:
    result = program(command, config_file, "--json")
    assert "Type mainnet" not in result.output
    assert json.loads(result.stdout)
    assert untouched(users_daemon)
