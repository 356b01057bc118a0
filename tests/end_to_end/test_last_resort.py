"""A market without spares: this machine does what no provider may, and the weights are the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import RunFolder, Workbench

pytestmark = pytest.mark.timeout(300)

Settled = Callable[[Decimal, dict[str, Any]], None]

FIVE = (
    "federation.clients=5",
    "federation.rounds=2",
    "golem.providers=5",
    "evaluation.gate={rule: none}",
)
"""One of five may lie, so none does more than one item."""

FLEET = """
providers:
  - {{name: node, count: 4, price: {{start_glm: 0.001, cpu_hour_glm: 0.05}}}}
  - name: larch
    price: {{start_glm: 0.001, cpu_hour_glm: 0.04}}
    {more}
"""
LIAR = f"{sys.executable} -m requestor.attacks.lying_worker --attack reward_flip"
MISHAPS = {
    "gone": "faults: [{kind: dies_in_command, after: 2, after_seconds: 0.05, unreachable: true}]",
    "liar": f'programs: {{derl-worker: "{LIAR}"}}',
}


@pytest.fixture(scope="module")
def fault_free(
    tmp_path_factory: pytest.TempPathFactory, make_bench: type[Workbench]
) -> Iterator[RunFolder]:
    made = make_bench(tmp_path_factory.mktemp("fault-free"))
    fleet = made.write("five.yaml", FLEET.format(more="faults: []"))
    yield made.train(*FIVE, f"golem.fleet={fleet}")
    made.close()


@pytest.mark.parametrize("mishap", ["liar", pytest.param("gone", marks=pytest.mark.slow)])
def test_the_weights_are_those_of_an_honest_fleet_that_stays(
    bench: Workbench, fault_free: RunFolder, settled: Settled, mishap: str
) -> None:
    fleet = bench.write("four.yaml", FLEET.format(more=MISHAPS[mishap]))
    run = bench.train(*FIVE, f"golem.fleet={fleet}")
    assert run.weights == fault_free.weights
    if mishap == "liar":
        assert {event["provider_name"] for event in run.events("provider_convicted")} == {"larch"}
        settled(run.spent_glm, run.books)
    assert not [event for event in run.events("round_closed") if event["left_out"]]
    here = {event["round"] for event in run.events("order_done") if event["lease"] == OWN}
    assert here and all(event["seconds"] < 60 for event in run.events("round_closed"))
    ours = [entry for entry in run.lines("provenance/chain.jsonl") if is_done_here(entry)]
    assert {entry["round"] for entry in ours} == here
    # the ledger has an entry for each order of an agreement, and none for what costs nothing
    answered = [event for event in run.events("order_done") if event["lease"] != OWN]
    entered = [one for one in run.lines("ledger.jsonl") if one["kind"] == "work_done"]
    assert sum(one["outcome"] in ("counted", "late") for one in entered) == len(answered)
    assert all(one["agreement_id"] for one in entered)
    bench.assert_no_process_left()
    audited = bench.derl("audit", "--all", "--json")
    assert audited.code == 0, audited.text
    assert {check["outcome"] for check in audited.document["checks"]} == {"verified"}
    told = str(audited.document["audits"])
    assert "node-1" in told and OWN not in told


OWN = "this machine"


def is_done_here(entry: dict[str, Any]) -> bool:
    return any(
        one["provider_name"] == OWN and one["verified_by"] == ["requestor"]
        for one in entry.get("work", [])
    )
