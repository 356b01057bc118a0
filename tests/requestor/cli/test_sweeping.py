"""`derl-request sweep`: what dead runs hold is found, shown, ended and paid; nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from requestor.cli import sweeping
from requestor.cli.commands_sweep import outcome_lines, outcome_record, sweep
from requestor.cli.sweeping import Orders, Outcome, SweptRun, sweep_runs
from requestor.config import parse_config, resolved_yaml
from requestor.errors import PreflightError
from requestor.marketplace.money.ledger import Ledger, read_ledger
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import RUN_PROPERTY
from requestor.mock_golem.daemon import DaemonSettings, MockDaemon
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.identifiers import new_activity_id, new_document_id
from requestor.mock_golem.records import Activity, Agreement, Allocation
from requestor.training_run.run_directory import RunDirectory, list_runs

CONFIG = """
{env: {id: CartPole-v1}, algo: {name: ppo},
 golem: {mode: MODE, budget_glm: 0.5, image: "some/image:1"}}
"""
FLEET = """
runtime: {isolation: process}
providers: [{name: oak, count: 4, price: {start_glm: 0.01, cpu_hour_glm: 0, hour_glm: 0}}]
"""
PLATFORM = "erc20-hoodi-tglm"


class Town:
    """A daemon in this process, as the user's, and a folder of runs."""

    def __init__(self, daemon: MockDaemon, identity: str, runs: Path) -> None:
        self.daemon, self.identity, self.runs = daemon, identity, runs
        self.free = list(daemon.providers.values())

    def allocate(self, amount: str) -> str:
        """Set an amount aside."""
        now = self.daemon.books.stamp()
        made = Allocation(
            allocation_id=new_document_id(),
            address=self.identity,
            payment_platform=PLATFORM,
            total_amount=Decimal(amount),
            timestamp=now,
            timeout=now + timedelta(days=3650),
        )
        self.daemon.books.commit(made)
        return made.allocation_id

    def agree(self, run_id: str | None) -> str:
        """An agreement in force with an activity, with a run's mark."""
        provider, books = self.free.pop(), self.daemon.books
        now = books.stamp()
        properties: dict[str, Any] = {"golem.com.payment.chosen-platform": PLATFORM}
        if run_id is not None:
            properties[RUN_PROPERTY] = run_id
        made = Agreement(
            agreement_id=new_document_id(),
            proposal_id="R-1",
            provider_id=provider.node_id,
            provider_name=provider.name,
            demand={
                "demandId": "D-1",
                "requestorId": self.identity,
                "properties": properties,
            },
            offer={
                "offerId": "O-1",
                "providerId": provider.node_id,
                "properties": dict(provider._offer),
            },
            valid_to=now + timedelta(hours=1),
            timestamp=now,
            approved_at=now,
            state="Approved",
        )
        activity = Activity(
            activity_id=new_activity_id(),
            agreement_id=made.agreement_id,
            provider_id=provider.node_id,
            created_at=now,
        )
        books.commit(made, activity)
        return made.agreement_id

    def run(self, name: str, mode: str = "yagna") -> RunDirectory:
        """A run that has rented nothing yet."""
        directory = RunDirectory(self.runs / "ppo" / name)
        directory.path.mkdir(parents=True)
        directory.identity.write_text(json.dumps({"run_id": f"id-{name}"}))
        config = parse_config(CONFIG.replace("MODE", mode))
        directory.config.write_text(resolved_yaml(config))
        return directory

    def rent(self, directory: RunDirectory) -> str:
        """Let a run rent one provider, and die; return the agreement."""
        ledger = Ledger(directory.ledger)
        amount = f"0.4999999999999{len(self.free):05d}"
        ledger.write(
            "allocation_intended", amount_glm=amount, budget_glm="0.5", node_id=self.identity
        )
        ledger.write(
            "allocation_created",
            allocation_id=self.allocate(amount),
            amount_glm=amount,
            platform=PLATFORM,
        )
        agreement_id = self.agree(directory.run_id)
        made = self.daemon.books.agreements[agreement_id]
        ledger.approve(
            agreement_id,
            provider_id=made.provider_id,
            provider_name=made.provider_name,
            threads=1,
            prices=Prices(start_glm=Decimal("0.01")),
            approved_unix_seconds=made.timestamp.timestamp(),
        )
        ledger.close()
        return agreement_id

    async def sweep(self, *chosen: RunDirectory, **orders: Any) -> Outcome:
        """Sweep (all runs, if none is chosen)."""
        folder = list_runs(self.runs)
        return await sweep_runs(chosen or folder, folder, Orders(**orders))

    def state(self, agreement_id: str) -> str:
        """Return an agreement's state."""
        return self.daemon.books.agreements[agreement_id].state

    @property
    def open_allocations(self) -> set[str]:
        """The ids of allocations that hold money."""
        books = self.daemon.books
        now = books.stamp()
        return {name for name, one in books.allocations.items() if one.is_open(now)}


@pytest_asyncio.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    daemon = MockDaemon(DaemonSettings(parse_fleet(FLEET), state_directory=tmp_path / "daemon"))
    at = await daemon.start()
    monkeypatch.setenv("YAGNA_API_URL", at.url)
    monkeypatch.setenv("YAGNA_APPKEY", at.app_key)
    for name in ("MARKET", "PAYMENT", "ACTIVITY"):
        monkeypatch.delenv(f"YAGNA_{name}_URL", raising=False)
    yield Town(daemon, at.identity, tmp_path / "runs")
    await daemon.stop()


def text_of(outcome: Outcome, *, shows_unknown: bool = False) -> str:
    return "\n".join(outcome_lines(outcome, shows_unknown=shows_unknown))


@pytest.mark.asyncio
async def test_a_dead_run_is_ended_paid_and_released(town: Town) -> None:
    dead = town.run("dead")
    agreement = town.rent(dead)
    foreign, stray = town.agree(None), town.agree("elsewhere")
    other = town.allocate("7")
    outcome = await town.sweep()
    (swept,) = outcome.runs
    assert (swept.name, swept.state) == ("ppo/dead", "dead")
    assert [one.agreement_id for one in swept.held.agreements] == [agreement]
    assert str(swept.report) == "1 agreements ended, 1 invoices accepted, 1 allocations released"
    assert (town.state(agreement), town.state(foreign)) == ("Terminated", "Approved")
    assert town.state(stray) == "Approved"
    assert town.open_allocations == {other}
    ledger = read_ledger(dead.ledger)
    assert ledger.accepted_glm == {agreement: Decimal("0.01")}
    assert not ledger.is_open
    text = text_of(outcome)
    assert "ppo/dead (dead): 1 agreement (oak-4) with 1 activity; 1 allocation of 0.5 GLM" in text
    assert "run elsewhere (not in this folder): 1 agreement (oak-2) with 1 activity" in text
    assert "left alone; --all ends them" in text
    assert (await town.sweep()).runs == []


@pytest.mark.asyncio
async def test_looking_changes_nothing(town: Town) -> None:
    dead = town.run("dead")
    agreement = town.rent(dead)
    town.agree("elsewhere")
    before, books = dead.ledger.read_bytes(), dict(town.daemon.books.agreements)
    allocation = next(iter(town.open_allocations))
    outcome = await town.sweep(is_dry=True, ends_strays=True, allocations=(allocation,))
    assert dead.ledger.read_bytes() == before
    assert town.daemon.books.agreements == books
    assert town.open_allocations == {allocation}
    record = json.loads(json.dumps(outcome_record(outcome)))
    (run,) = record["runs"]
    assert run["done"] is None
    assert run["held"]["agreements"][0]["agreement_id"] == agreement
    assert len(run["held"]["agreements"][0]["activities"]) == 1
    assert run["held"]["allocations"][0]["allocation_id"] == allocation
    assert list(record["strays"]) == ["elsewhere"]


@pytest.mark.asyncio
async def test_a_run_at_work_is_left_alone(town: Town) -> None:
    live, dead = town.run("live"), town.run("dead")
    working, left = town.rent(live), town.rent(dead)
    (held,) = read_ledger(live.ledger).open_allocations
    with live.locked():
        outcome = await town.sweep(ends_strays=True, allocations=(held,))
    assert (town.state(working), town.state(left)) == ("Approved", "Terminated")
    assert town.open_allocations == {held}
    assert outcome.failures == [f"allocation {held} belongs to a run at work"]
    assert "ppo/live (at work): 1 agreement" in text_of(outcome)
    assert outcome.strays == {}


@pytest.mark.asyncio
async def test_only_the_chosen_run_is_swept_and_no_other_is_a_stray(town: Town) -> None:
    first, second = town.run("first"), town.run("second")
    one, two = town.rent(first), town.rent(second)
    outcome = await town.sweep(first, ends_strays=True)
    assert (town.state(one), town.state(two)) == ("Terminated", "Approved")
    assert outcome.strays == {}


@pytest.mark.asyncio
async def test_strays_and_allocations_go_when_asked_for(town: Town) -> None:
    stray, foreign, other = town.agree("elsewhere"), town.agree(None), town.allocate("7")
    kept = town.allocate("8")
    outcome = await town.sweep(ends_strays=True, allocations=(other, "no-such"))
    assert (town.state(stray), town.state(foreign)) == ("Terminated", "Approved")
    assert town.open_allocations == {kept}
    assert outcome.strays_ended == 1
    assert outcome.allocations_released == [other, "no-such"]  # gone is gone
    text = text_of(outcome, shows_unknown=True)
    assert "1 agreement ended; bills are for their own run" in text
    assert f"allocation {kept} of 8 GLM ({PLATFORM}) is no run's of this folder" in text
    assert "1 agreement of other programs left alone" in text


@pytest.mark.asyncio
async def test_what_was_put_off_is_paid_within_the_runs_budget(town: Town) -> None:
    dead = town.run("dead")
    agreement = town.rent(dead)
    ledger = Ledger(dead.ledger)
    ledger.write("debit_note_accepted", agreement_id="earlier", total_glm="0.495")
    ledger.close()
    outcome = await town.sweep()
    assert any("stays unpaid" in notice for notice in outcome.runs[0].notices)
    assert agreement not in read_ledger(dead.ledger).accepted_glm
    again = await town.sweep()
    assert [len(run.held.invoices) for run in again.runs] == [1]
    assert "1 unpaid invoice over 0.01 GLM" in text_of(again)
    config = parse_config(CONFIG.replace("MODE", "yagna").replace("0.5", "0.505"))
    dead.config.write_text(resolved_yaml(config))
    paid = await town.sweep()
    assert "1 invoices accepted" in text_of(paid)
    assert read_ledger(dead.ledger).total_glm == Decimal("0.505")
    assert town.open_allocations == set()


@pytest.mark.asyncio
async def test_a_damaged_run_is_named_and_hinders_nobody(town: Town) -> None:
    broken, dead = town.run("broken"), town.run("dead")
    agreement = town.rent(dead)
    broken.ledger.write_text("{}\n")
    outcome = await town.sweep()
    assert town.state(agreement) == "Terminated"
    assert [run.state for run in outcome.runs] == ["unreadable", "dead"]
    assert "line 1 of" in text_of(outcome)


@pytest.mark.asyncio
async def test_a_daemon_that_is_gone_is_told(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.rent(town.run("dead"))
    monkeypatch.setenv("YAGNA_API_URL", "http://127.0.0.1:9")
    with pytest.raises(PreflightError, match="can't be asked what it holds"):
        await town.sweep()


@pytest.mark.asyncio
async def test_a_private_daemon_that_does_not_start_hinders_nobody(town: Town) -> None:
    broken, dead = town.run("broken", mode="mock"), town.run("dead")
    town.rent(broken)
    agreement = town.rent(dead)
    fleet = broken.path / "fleet.yaml"
    fleet.write_text("providers: nobody")
    config = parse_config(CONFIG.replace("MODE", "mock"))
    golem = config.golem.model_copy(update={"fleet": fleet})
    broken.config.write_text(resolved_yaml(config.model_copy(update={"golem": golem})))
    outcome = await town.sweep()
    assert town.state(agreement) == "Terminated"
    assert [run.name for run in outcome.runs] == ["ppo/dead"]
    (failure,) = outcome.failures
    assert failure.startswith("ppo/broken: ")


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[list[str]]:
    (tmp_path / "runs").mkdir()
    yield ["--runs-dir", str(tmp_path / "runs")]


def test_without_runs_there_is_nothing_to_do(empty: list[str]) -> None:
    result = CliRunner().invoke(sweep, empty)
    assert (result.exit_code, result.output) == (0, "dead runs hold nothing\n")


def test_the_runs_of_others_are_not_ended_without_a_word(empty: list[str]) -> None:
    result = CliRunner().invoke(sweep, [*empty, "--all"])
    assert isinstance(result.exception, PreflightError)
    assert "confirm with --yes" in str(result.exception.fix)


def test_a_private_daemon_is_woken_for_its_run(tmp_path: Path) -> None:
    """A run on the mock whose process was killed: its daemon's books are in its folder."""
    state = tmp_path / "runs" / "ppo" / "mock" / "mock-golem"
    state.mkdir(parents=True)

    async def live_and_die() -> str:
        daemon = MockDaemon(DaemonSettings(parse_fleet(FLEET), state_directory=state))
        at = await daemon.start()
        town = Town(daemon, at.identity, tmp_path / "runs")
        directory = RunDirectory(tmp_path / "runs" / "ppo" / "mock")
        directory.identity.write_text(json.dumps({"run_id": "id-mock"}))
        config = parse_config(CONFIG.replace("MODE", "mock"))
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(FLEET)
        golem = config.golem.model_copy(update={"fleet": fleet})
        directory.config.write_text(resolved_yaml(config.model_copy(update={"golem": golem})))
        agreement_id = town.rent(directory)
        await daemon.stop()
        return agreement_id

    agreement_id = asyncio.run(live_and_die())
    result = CliRunner().invoke(sweep, ["--runs-dir", str(tmp_path / "runs"), "--json"])
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.output)["runs"]
    assert run["done"] == {
        "agreements_ended": 1,
        "invoices_accepted": 1,
        "allocations_released": 1,
    }
    ledger = read_ledger(tmp_path / "runs" / "ppo" / "mock" / "ledger.jsonl")
    assert ledger.accepted_glm == {agreement_id: Decimal("0.01")}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_sweep_shows_no_secrets(
    empty: list[str], form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(*_: object) -> Outcome:
        notice = "oak: a bill could not be paid: 401 no key 3c5f9d0be2a14f6e"
        return Outcome(runs=[SweptRun("ppo/oak", "id-oak", "dead", notices=[notice])])

    monkeypatch.setenv("YAGNA_APPKEY", "3c5f9d0be2a14f6e")
    monkeypatch.setattr(sweeping, "sweep_runs", find)
    result = CliRunner().invoke(sweep, [*empty, *form])
    assert "401 no key <redacted>" in result.output


def test_what_could_not_be_done_makes_the_command_fail() -> None:
    outcome = Outcome(failures=["oak: the provider is gone"])
    assert outcome_record(replace(outcome))["failures"] == ["oak: the provider is gone"]
