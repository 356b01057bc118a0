"""A provider whose updates cannot be right: rejected before the merge, done again by others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench

pytestmark = pytest.mark.timeout(300)

Settled = Callable[[Decimal, dict[str, Any]], None]

FLEET = """
providers:
  - name: larch
    price: {{cpu_hour_glm: 0.05}}
    programs: {{derl-worker: "{python} -m requestor.attacks.lying_worker --attack {attack}"}}
  - {{name: beech, price: {{cpu_hour_glm: 0.15}}}}
"""


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("zero", "it changes nothing"),
        pytest.param("large_noise", "times", marks=pytest.mark.slow),
    ],
)
def test_updates_that_cannot_be_right_change_nothing(
    bench: Workbench, reference: Reference, settled: Settled, attack: str, reason: str
) -> None:
    fleet = bench.write("lying.yaml", FLEET.format(python=sys.executable, attack=attack))
    run = bench.train(
        "golem.providers=2",
        f"golem.fleet={fleet}",
        "federation.speculate=false",  # or the other does it all
        "trust.audits={first: 0, least: 0}",
    )
    assert run.weights == reference.run.weights
    rejected = run.events("delivery_rejected")
    assert rejected
    assert {event["provider_name"] for event in rejected} == {"larch"}
    assert {event["objection"] for event in rejected} == {"screened"}
    assert all(reason in event["reason"] and event["is_redone"] for event in rejected)
    ended = run.events("lease_ended")  # it may have been rented once more, and not had any time
    assert any(e["provider_name"] == "larch" and reason in e["reason"] for e in ended)
    history = json.loads((bench.runs / "providers.json").read_text())
    faults = {record["name"]: set(record["faults"]) for record in history.values()}
    assert faults["larch"] == {"bad_result"} and not faults["beech"]
    rows = run.lines("metrics.jsonl")
    assert sum(row["fed/screened"] for row in rows) == len(rejected)
    settled(run.spent_glm, run.books)
    bench.assert_no_process_left()
