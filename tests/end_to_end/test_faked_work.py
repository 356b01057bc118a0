"""A provider that lies about its work: convicted, banned, not paid, and without any effect."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, RunFolder, Workbench

pytestmark = pytest.mark.timeout(300)

Settled = Callable[[Decimal, dict[str, Any]], None]

PROGRAM = f"{sys.executable} -m requestor.attacks.lying_worker --attack reward_flip"
LYING_FLEET = f"""
providers:
  - name: larch
    price: {{start_glm: 0.001, cpu_hour_glm: 0.05}}
    programs: {{derl-worker: "{PROGRAM}"}}
  - name: beech
    price: {{start_glm: 0.001, cpu_hour_glm: 0.15}}
"""
LIAR, HONEST = "larch", "beech"
THREE = f"""{LYING_FLEET}  - name: hazel
    price: {{start_glm: 0.001, cpu_hour_glm: 0.15}}
"""
HONEST_THREE = THREE.replace(f'    programs: {{derl-worker: "{PROGRAM}"}}\n', "")
BOUGHT = ("trust.audits.by=providers", "trust.audits.bought=1", "golem.providers=3")


def invoices_of(run: RunFolder, name: str) -> list[dict[str, Any]]:
    agreements = {one["id"] for one in run.books["agreements"] if one["provider"] == name}
    return [one for one in run.books["invoices"] if one["agreement_id"] in agreements]


def test_a_liar_is_convicted_banned_and_not_paid_and_changes_nothing(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    fleet = bench.write("lying.yaml", LYING_FLEET)
    run = bench.train("golem.providers=2", f"golem.fleet={fleet}")
    assert run.weights == reference.run.weights
    (convicted,) = {event["provider_name"] for event in run.events("provider_convicted")}
    assert convicted == LIAR
    settled(run.spent_glm, run.books)
    refused = [entry for entry in run.lines("ledger.jsonl") if entry["kind"] == "work_refused"]
    assert refused and "two independent executions" in refused[0]["reason"]
    assert_paid(run)
    history = json.loads((bench.runs / "providers.json").read_text())
    faults = {record["name"]: set(record["faults"]) for record in history.values()}
    assert faults[LIAR] == {"faked_work"} and not faults[HONEST]
    case = min(path.parent for path in run.path.glob("evidence/*/verdict.json"))
    verdict = json.loads((case / "verdict.json").read_text())
    assert verdict["first_wrong_link"] == 1  # with flipped rewards the first update is wrong
    assert {"order.json", "delivered.safetensors", "verdict.json"} <= {
        path.name for path in case.iterdir()
    }
    bench.assert_no_process_left()
    assert_audit_agrees(bench)


def assert_paid(run: RunFolder) -> None:
    statuses = {name: {one["state"] for one in invoices_of(run, name)} for name in (LIAR, HONEST)}
    assert statuses[HONEST] <= {"ACCEPTED", "SETTLED"} and statuses[HONEST]
    assert not statuses[LIAR] & {"ACCEPTED", "SETTLED"}


def assert_audit_agrees(bench: Workbench) -> None:
    """The run can be verified afterwards, merges and all."""
    done = bench.derl("audit", "--all", "--json")
    assert done.code == 0, done.text
    assert done.document["is_sound"]
    assert {check["outcome"] for check in done.document["checks"]} == {"verified"}
    assert sum(check["client"] is None for check in done.document["checks"]) == 3


def test_an_honest_run_is_verified_and_a_changed_one_is_not(
    bench: Workbench, reference: Reference
) -> None:
    path = reference.run.path
    assert not reference.run.events("provider_convicted")
    done = bench.derl("audit", path, "--items", "3", "--seed", "1", "--json")
    assert done.code == 0, done.text
    assert [check["outcome"] for check in done.document["checks"]] == ["verified"] * 3
    chain = path / "provenance" / "chain.jsonl"
    whole = chain.read_bytes()
    try:
        chain.write_bytes(whole.replace(b'"decision":"published"', b'"decision":"kept"', 1))
        changed = bench.derl("audit", path, "--items", "0")
        assert changed.code == 6
        assert "does not follow" in changed.text
    finally:
        chain.write_bytes(whole)


@pytest.mark.parametrize("moment", ["in an audit", "after a conviction"])
def test_kill_9_and_resume(
    bench: Workbench, reference: Reference, settled: Settled, moment: str
) -> None:
    """What was drawn is looked at after the crash; what was refused stays refused.

    (A bill that came before the verdict is paid when the dead session is cleaned up.)
    """
    fleet = bench.write("lying.yaml", LYING_FLEET)
    process = bench.start("run", bench.config, "golem.providers=2", f"golem.fleet={fleet}")
    if moment == "in an audit":
        bench.follow(process, "audits.jsonl", lambda lines: has(lines, "standing", "pending"))
    else:
        bench.follow(process, "ledger.jsonl", lambda lines: has(lines, "kind", "work_refused"))
    bench.kill(process)
    done = bench.derl("resume", "last")
    assert done.code == 0, done.text
    run = bench.run
    assert run.weights == reference.run.weights
    settled(run.spent_glm, run.books)
    assert not has(last_findings(run), "standing", "pending")
    if moment == "after a conviction":
        assert_paid(run)
    bench.assert_no_process_left()


def has(lines: list[dict[str, Any]], key: str, value: str) -> bool:
    return any(line[key] == value for line in lines)


def last_findings(run: RunFolder) -> list[dict[str, Any]]:
    found = {(one["order_sha256"], one["result_sha256"]): one for one in run.lines("audits.jsonl")}
    return list(found.values())


def test_rounds_with_fakes_in_them_are_done_again(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    fleet = bench.write("lying.yaml", LYING_FLEET)
    run = bench.train(
        *("golem.providers=2", f"golem.fleet={fleet}"),
        *("trust.audits.when=background", "trust.audits.on_fraud=redo"),
    )
    assert run.weights == reference.run.weights
    settled(run.spent_glm, run.books)
    assert {event["provider_name"] for event in run.events("provider_convicted")} == {LIAR}
    done = bench.derl("audit", "--all", "--json")
    assert done.code == 0, done.text
    assert done.document["audits"]["tainted_rounds"] == []


def audits_in(run: RunFolder) -> list[dict[str, Any]]:
    done = (entry for entry in run.lines("ledger.jsonl") if entry["kind"] == "work_done")
    return [entry for entry in done if entry["outcome"] == "audit"]


def test_a_liar_is_found_by_other_providers(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    fleet = bench.write("lying.yaml", THREE)
    run = bench.train(*BOUGHT, f"golem.fleet={fleet}")
    assert run.weights == reference.run.weights
    assert {event["provider_name"] for event in run.events("provider_convicted")} == {LIAR}
    settled(run.spent_glm, run.books)
    assert audits_in(run)
    found = last_findings(run)
    assert {one["standing"] for one in found if one["voice"] != liar_voice(run)} <= {
        "verified",
        "unaudited",
    }
    bench.assert_no_process_left()


def liar_voice(run: RunFolder) -> str:
    (voice,) = {one["voice"] for one in last_findings(run) if one["standing"] == "faked"}
    return str(voice)


def test_honest_providers_find_nobody(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    fleet = bench.write("honest.yaml", HONEST_THREE)
    done = bench.derl("run", bench.config, *BOUGHT, f"golem.fleet={fleet}", "--json")
    assert done.code == 0, done.text
    run = bench.run
    assert run.weights == reference.run.weights
    assert not run.events("provider_convicted")
    settled(run.spent_glm, run.books)
    found = last_findings(run)
    assert {one["standing"] for one in found} <= {"verified", "unaudited"}
    for one in found:  # whoever was drawn was done again, by somebody else
        is_verified = one["standing"] == "verified"
        assert bool(one["verified_by"]) == is_verified and one["voice"] not in one["verified_by"]
        assert is_verified or not one["reason"]
    bought = len(audits_in(run))
    assert bought == len(run.events("work_audited")) >= 3  # of each unknown voice, the first
    accounts = done.document["providers"]
    assert sum(account["audits_of_others"] for account in accounts) == bought
    assert sum(Decimal(account["audit_glm"]) for account in accounts) > 0
    bench.assert_no_process_left()
