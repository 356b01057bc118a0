"""`derl-request status --money`."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from click.testing import CliRunner

from requestor.cli.commands_inspect import status
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices
from requestor.training_run.run_directory import RunDirectory


def test_the_account_of_a_run_from_its_ledger(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "ppo" / "mine")
    directory.path.mkdir(parents=True)
    directory.identity.write_text('{"run_id": "r1"}')
    ledger = Ledger(directory.ledger)
    ledger.write("allocation_intended", amount_glm="0.5", budget_glm="0.5")
    ledger.approve(
        "g1",
        provider_id="0xa",
        provider_name="willow",
        threads=1,
        prices=Prices(Decimal("0.02")),
        approved_unix_seconds=1.0,
    )
    ledger.write("invoice_accepted", agreement_id="g1", total_glm="0.02")
    ledger.write(
        "work_done",
        agreement_id="g1",
        round=0,
        client=0,
        outcome="counted",
        steps=10_000,
        seconds=3.0,
    )
    ledger.close()
    common = ["--money", "--runs-dir", str(tmp_path)]
    shown = CliRunner().invoke(status, common)
    assert shown.exit_code == 0
    words = " ".join(shown.output.split())
    assert "willow 1 0.02 0.02 1 10,000 0:03 2 total" in words
    assert "0.02 GLM accepted of a budget of 0.5" in words
    told = CliRunner().invoke(status, [*common, "--json", "mine"])
    (provider,) = json.loads(told.output)["providers"]
    assert provider["accepted_glm"] == "0.02"
    assert Decimal(provider["glm_per_million_steps"]) == 2
