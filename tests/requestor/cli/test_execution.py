"""Other runs of the folder: what their dead processes hold is ended, and never in our way."""

from __future__ import annotations

import asyncio
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from requestor.cli.execution import Launch, _Execution
from requestor.config import parse_config, resolved_yaml
from requestor.errors import PreflightError
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.money.ledger import Ledger
from requestor.training_run.run_directory import RunDirectory

CONFIG = """
{env: {id: CartPole-v1}, algo: {name: ppo},
 golem: {mode: MODE, budget_glm: 0.5, image: "some/image:1"}}
"""
ADDRESS = DaemonAddress.from_environment({})


class Swept(_Execution):
    """A run that is about to begin; the runs after which it cleans up are noted."""

    def __init__(self, runs: Path) -> None:
        directory = make_run(runs, "mine", "yagna", is_open=True)
        config = parse_config(CONFIG.replace("MODE", "yagna"))
        super().__init__(Launch(directory, config, runs, io.StringIO()))
        self.notices: list[str] = []
        self.swept: list[tuple[str, Decimal]] = []
        self.broken: set[str] = set()

    def _notice(self, text: str) -> None:
        self.notices.append(text)

    async def _clean_up(
        self, address: DaemonAddress, ledger: Ledger, run_id: str, budget_glm: Decimal
    ) -> None:
        self.swept.append((run_id, budget_glm))
        if run_id in self.broken:
            raise PreflightError("what the run has rented can't be looked after")

    def clean_up(self) -> None:
        """Do what precedes a run."""
        asyncio.run(self._clean_up_after_others(ADDRESS))


def make_run(runs: Path, name: str, mode: str, *, is_open: bool) -> RunDirectory:
    """A run of which a process died, with or without something left in the daemon."""
    directory = RunDirectory(runs / "ppo" / name)
    directory.path.mkdir(parents=True)
    directory.identity.write_text(json.dumps({"run_id": name}))
    config = parse_config(CONFIG.replace("MODE", mode))
    directory.config.write_text(resolved_yaml(config))
    ledger = Ledger(directory.ledger)
    ledger.write("allocation_intended", amount_glm="0.4", budget_glm="0.5", node_id="A")
    if not is_open:
        ledger.write("allocation_released", allocation_id="", amount_glm="0.4")
    ledger.close()
    return directory


def test_only_runs_that_hold_something_are_cleaned_up_after(tmp_path: Path) -> None:
    make_run(tmp_path, "a-open", "yagna", is_open=True)
    make_run(tmp_path, "b-closed", "yagna", is_open=False)
    make_run(tmp_path, "c-mock", "mock", is_open=True)
    busy = make_run(tmp_path, "d-busy", "yagna", is_open=True)
    (make_run(tmp_path, "e-new", "yagna", is_open=True)).ledger.unlink()
    run = Swept(tmp_path)
    with busy.locked():
        run.clean_up()
    assert run.swept == [("a-open", Decimal("0.5"))]
    assert run.notices == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ledger.jsonl", b"{}\n"),
        ("ledger.jsonl", b'{"kind": "agre\n{"kind": "agreement_ended"}\n'),
        ("config.resolved.yaml", b"golem: {mode: what}\n"),
        ("run.json", b"{"),
        ("run.json", b"{}"),
    ],
)
def test_a_damaged_run_is_told_of_and_does_not_stop_us(
    tmp_path: Path, name: str, content: bytes
) -> None:
    damaged = make_run(tmp_path, "a-damaged", "yagna", is_open=True)
    if name == "ledger.jsonl":
        content = damaged.ledger.read_bytes() + content
    (damaged.path / name).write_bytes(content)
    make_run(tmp_path, "b-open", "yagna", is_open=True)
    run = Swept(tmp_path)
    run.clean_up()
    assert [swept for swept, _ in run.swept] == ["b-open"]
    (notice,) = run.notices
    assert notice.startswith("what run ppo/a-damaged may have rented is left alone: ")


def test_a_failed_cleaning_does_not_stop_us(tmp_path: Path) -> None:
    make_run(tmp_path, "a-open", "yagna", is_open=True)
    make_run(tmp_path, "b-open", "yagna", is_open=True)
    run = Swept(tmp_path)
    run.broken = {"a-open"}
    run.clean_up()
    assert [swept for swept, _ in run.swept] == ["a-open", "b-open"]
    assert run.notices == [
        "what run ppo/a-open may have rented is left alone: "
        "what the run has rented can't be looked after"
    ]


def test_a_mock_run_cleans_up_after_nobody(tmp_path: Path) -> None:
    make_run(tmp_path, "a-open", "yagna", is_open=True)
    run = Swept(tmp_path)
    config = parse_config(CONFIG.replace("MODE", "mock"))
    run._launch = Launch(run._launch.directory, config, tmp_path, io.StringIO())
    run.clean_up()
    assert not run.swept
