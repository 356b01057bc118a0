"""`quote` as a user sees it: what it says, what it costs, and how a run is held against it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench

EIGHT = Path(__file__).parents[2] / "configs" / "fleets" / "eight.yaml"
FIGURES = ("glm", "wall_seconds", "first_glm", "round_glm", "first_seconds", "round_seconds")


def check_figures(document: dict[str, Any]) -> None:
    """Every figure is a range above zero."""
    for name in FIGURES:
        figure = document[name]
        assert 0 < figure["low"] <= figure["expected"] <= figure["high"], name


def test_without_any_record_this_machine_is_the_measure(bench: Workbench) -> None:
    scanned = bench.derl("offers", f"golem.fleet={EIGHT}", "--save", "scan.json", "--seconds", "2")
    assert scanned.code == 0, scanned.text
    done = bench.derl("quote", bench.config, "--from", "scan.json", "--json")
    assert done.code == 0, done.text
    document = done.document
    check_figures(document)
    assert (document["offers_seen"], document["offers_left"]) == (8, 7)
    assert document["steps"] == 3 * 4 * 256
    assert {share["source"] for share in document["providers"]} == {"this machine"}
    assert sum(share["orders"] for share in document["providers"]) == 12
    assert "measuring this machine" in done.err
    assert not bench.runs.exists()  # nothing rented, nothing left behind


def test_a_quote_on_a_terminal_says_what_it_rests_on(
    bench: Workbench, reference: Reference
) -> None:
    """With a run's records, nothing is measured: it is quick."""
    bench.runs.mkdir()
    history = reference.run.path.parents[1] / "providers.json"
    (bench.runs / "providers.json").write_bytes(history.read_bytes())
    copy = bench.runs / "ppo" / "CartPole-v1_1"
    copy.mkdir(parents=True)
    for name in ("run.json", "config.resolved.yaml", "events.jsonl", "ledger.jsonl"):
        (copy / name).write_bytes((reference.run.path / name).read_bytes())
    done = bench.derl("quote", bench.config)
    assert done.code == 0, done.text
    for part in (
        "ppo-CartPole-v1: 3 rounds of 4 clients, 3,072 steps",
        "cost",
        "GLM (",
        "budget 1",
        "4 of 4 can be rented",
        "recorded",
        "GLM/1M steps",
        "assumed",
        "as in earlier runs (give or take 10 %)",
        "all 3 rounds are done",
    ):
        assert part in done.text, (part, done.text)
    assert "measuring" not in done.err


def test_a_benchmark_is_paid_like_a_run_and_is_no_run(bench: Workbench) -> None:
    done = bench.derl(
        "quote", bench.config, f"golem.fleet={EIGHT}", "--measure", "--save", "q.json", "--json"
    )
    assert done.code == 0, done.text
    document = done.document
    check_figures(document)
    assert sum(document["measured_orders"].values()) >= 2
    # whoever turned out slow is not among those to be rented; nobody is taken for this machine
    sources = {share["source"] for share in document["providers"]}
    assert sources <= {"measured", "typical"}
    (identity,) = bench.runs.glob("*/*/run.json")
    folder = identity.parent
    assert folder.parent.name == "quotes"
    assert {entry.name for entry in folder.iterdir()} - {".lock"} == {
        "run.json",
        "config.resolved.yaml",
        "ledger.jsonl",
        "logs",
    }
    assert "Traceback" not in done.err
    entries = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    kinds = [entry["kind"] for entry in entries]
    assert kinds.count("agreement_approved") == kinds.count("agreement_ended") >= 2
    assert kinds[-1] == "allocation_released"
    paid: dict[str, Decimal] = {}
    for entry in entries:
        if entry["kind"] in ("invoice_accepted", "debit_note_accepted"):
            paid[entry["agreement_id"]] = Decimal(entry["total_glm"])
    assert Decimal(document["measured_glm"]) == sum(paid.values())
    assert "no runs" in bench.derl("ls").text
    # a run can be held against it, but not another one
    other = bench.derl("run", bench.config, "federation.rounds=2", "--quote", "q.json")
    assert other.code == 2
    assert "is a quote for other work" in other.err
    ran = bench.derl("run", bench.config, f"golem.fleet={EIGHT}", "--quote", "q.json", "--json")
    assert ran.code == 0, ran.text
    held = ran.document["quote"]
    assert held["rounds"] == 3
    assert held["glm"]["expected"] == pytest.approx(document["glm"]["expected"], rel=1e-6)
    assert held["glm"]["actual"] == pytest.approx(float(ran.document["cost_glm"]))
    error = (held["glm"]["expected"] - held["glm"]["actual"]) / held["glm"]["actual"]
    assert held["glm"]["error"] == pytest.approx(error, abs=1e-3)
    assert held["wall_seconds"]["actual"] == pytest.approx(ran.document["wall_seconds"], abs=0.01)
    shown = bench.derl("status")
    assert " too " in shown.text or "(right)" in shown.text


def test_a_run_quotes_itself_once_speeds_are_known(bench: Workbench) -> None:
    first = bench.train()
    assert not (first.path / "quote.json").exists()  # nobody's speed was known
    second = bench.derl("run", bench.config, "seed=1", "--json")
    assert second.code == 0, second.text
    assert second.document["quote"]["glm"]["expected"] > 0
    (notice,) = [line for line in second.err.splitlines() if "quote: " in line]
    assert " GLM (" in notice


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--measure", "--from", "x.json"), 2, "leave one out"),
        (("--measure-budget", "1"), 2, "--measure-budget is for --measure"),
        (("--measure", "--measure-budget", "0"), 2, "is not above 0"),
        (("--from", "x.json"), 2, "x.json"),
        (("golem.max_price.cpu_hour_glm=0",), 4, "nobody to rent: 4 offers seen"),
        (
            (
                "--measure",
                "golem.mode=yagna",
                "golem.payment_network=polygon",
                "golem.budget_glm=1",
                f"golem.image={'5a' * 28}",
            ),
            4,
            "confirm with --yes",
        ),
    ],
)
def test_what_cannot_be_quoted_is_told(
    bench: Workbench, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = bench.derl("quote", bench.config, *arguments)
    assert done.code == code, done.text
    assert words in done.text


def test_a_budget_too_small_for_anything_rents_nobody(bench: Workbench) -> None:
    fleet = bench.write("dear.yaml", "providers: [{name: oak, price: {start_glm: 0.009}}]")
    done = bench.derl("run", bench.config, f"golem.fleet={fleet}", "golem.budget_glm=0.0089")
    assert done.code == 5, done.text
    assert "does not even pay for the start of the cheapest provider" in done.text
    assert "nothing was rented" in done.text
    assert bench.run.books["agreements"] == []
    assert bench.run.spent_glm == 0
