"""Readers of the files that a run leaves: somebody else's, or damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from requestor.errors import PreflightError, RunFailed, UsageError
from requestor.marketplace.choice.failures import RULES
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.statement import make_statement
from requestor.quoting.record import read_quote
from requestor.training_run.auditing.canaries import Fingerprints
from requestor.training_run.auditing.findings import Findings
from requestor.training_run.auditing.provenance_log import ProvenanceFolder
from requestor.training_run.checkpoints import CheckpointStore
from requestor.training_run.json_lines import JsonLines, read_json_lines
from requestor.trust.provenance import (
    FIRST_PREVIOUS,
    ProvenanceError,
    Record,
    RedoneRecord,
    RoundRecord,
    VerdictRecord,
    WorkRecord,
    encode_record,
    record_digest,
    summarise,
)
from tests.fuzz.dice import Dice
from tests.fuzz.market_targets import NODE, PLATFORM
from tests.fuzz.target import DEEP, Target

SHA = "0" * 64
LEDGER: tuple[dict[str, Any], ...] = (
    {"kind": "allocation_intended", "amount_glm": "1", "node_id": NODE, "budget_glm": "1"},
    {"kind": "allocation_created", "amount_glm": "1", "allocation_id": "x", "platform": PLATFORM},
    {
        "kind": "agreement_approved",
        "agreement_id": "a",
        "provider_id": NODE,
        "provider_name": "p",
        "threads": 1,
        "cpu_hour_glm": "1",
        "hour_glm": "1",
        "start_glm": "0",
        "approved_unix_seconds": 1.0,
        "expires_unix_seconds": 9.0,
    },
    {"kind": "activity_created", "agreement_id": "a", "activity_id": "c"},
    {"kind": "debit_note_accepted", "agreement_id": "a", "activity_id": "c", "total_glm": "0.1"},
    {"kind": "invoice_accepted", "agreement_id": "a", "invoice_id": "i", "total_glm": "0.2"},
    {"kind": "agreement_ended", "agreement_id": "a", "reason": "done"},
    {"kind": "work_done", "agreement_id": "a", "steps": 5, "busy_seconds": 1.0},
)


def read_history(data: bytes, folder: Path) -> None:
    """Read a file as the providers' history, weigh everybody, and note a failure in it."""
    path = folder / "providers.json"
    path.write_bytes(data)
    history = ProviderHistory(path, lambda: 1e9)
    history.avoided()
    history.weights().on(Who("0xnew", "q", "0xw"))
    history.failed(Who(NODE, "p"), next(iter(RULES)), "x")
    history.worked(Who(NODE, "p"), orders=1)
    if NODE not in history.records():
        raise AssertionError("what is noted is lost")


def history_seed() -> bytes:
    """A history with all that can stand in one."""
    speed = {"useful_steps": 5.0, "busy_seconds": 1.0, "cpu_seconds": 1.0, "at_seconds": 1e9}
    record = {
        "name": "p",
        "successes": 3,
        "at_seconds": 1e9,
        "wallet": NODE,
        "faults": {kind: {"weight": 1.0, "at_seconds": 1e9} for kind in RULES},
        "speeds": {"k": speed},
        "start": {"seconds": 3.0},
    }
    return json.dumps({NODE: record, "0x" + "b" * 40: {"name": "q", "failures": 2.0}}).encode()


def read_ledgers(data: bytes, folder: Path) -> None:
    """Read a file as a ledger, and add it up."""
    path = folder / "ledger.jsonl"
    path.write_bytes(data)
    ledger = Ledger(path)
    try:
        summary = ledger.summary
        summary.owed_glm(2e9)
        summary.open_payers()
        if summary.total_glm.is_nan():
            raise AssertionError("the sum is no number")
    finally:
        ledger.close()
    make_statement(read_entries(path))


def built_ledger(data: bytes) -> bytes:
    """Lines of JSON, most of them entries."""
    dice = Dice(data)
    lines = [dice.spoilt(dice.pick(LEDGER), tuple(LEDGER[2])) for _ in range(dice.below(10))]
    return b"".join(
        json.dumps({"unix_seconds": 1.0, **line}).encode() + b"\n"
        for line in lines
        if isinstance(line, dict)
    )


def read_run_files(data: bytes, folder: Path) -> None:
    """Read a file as events of a run, as its leases' fingerprints and as a checkpoint."""
    path = folder / "events.jsonl"
    path.write_bytes(data)
    list(read_json_lines(path))
    JsonLines(path).close()
    Fingerprints(path, SHA).close()
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "round-00001.json").write_bytes(data)
    CheckpointStore(folder / "checkpoints").latest()


def read_quotes(data: bytes, folder: Path) -> None:
    """Read a file as a quote."""
    (folder / "quote.json").write_bytes(data)
    read_quote(folder / "quote.json")


def read_provenance(data: bytes, folder: Path) -> None:
    """Read a file as a run's chain of records, and as its findings."""
    (folder / "chain.jsonl").write_bytes(data)
    (folder / "findings.jsonl").write_bytes(data)
    Findings(folder / "findings.jsonl")
    summarise(ProvenanceFolder(folder).read())


def built_chain(data: bytes) -> bytes:
    """Records that follow from each other, mostly, of which some are spoilt."""
    dice = Dice(data)
    lines, previous = [], FIRST_PREVIOUS
    work = WorkRecord(client=0, seed=1, order_sha256=SHA, result_sha256=SHA)
    for number in range(dice.below(5)):
        choices: tuple[Record, ...] = (
            RoundRecord(
                previous=previous,
                run_id="r",
                round=number,
                config_sha256=SHA,
                base_sha256=SHA,
                work=(work,),
                candidate_sha256=SHA,
                decision="published",
                model_sha256=SHA,
            ),
            VerdictRecord(
                previous=previous,
                run_id="r",
                round=dice.below(4),
                client=0,
                order_sha256=SHA,
                result_sha256=SHA,
                standing="faked",
            ),
            RedoneRecord(previous=previous, run_id="r", round=dice.below(4), reason="x"),
        )
        record = dice.pick(choices)
        line = encode_record(record)
        if not dice.below(4):
            spoilt = dice.spoilt(json.loads(line), ("verified", "faked", "round", SHA))
            line = json.dumps(spoilt, sort_keys=True, separators=(",", ":")).encode()
        lines.append(line)
        previous = record_digest(line)
    return b"".join(line + b"\n" for line in lines)


def canary_seed() -> bytes:
    """What a lease made of a canary."""
    line = {"canary": SHA, "provider_id": NODE, "agreement_id": "a", "fingerprint": SHA}
    return json.dumps(line).encode() + b"\n"


def checkpoint_seed() -> bytes:
    """A checkpoint whose files are not there."""
    file = {"name": "model", "sha256": "0" * 64, "bytes": 1}
    checkpoint = {
        "format": 1,
        "round": 1,
        "total_steps": 1,
        "model": file,
        "judged": file,
        "judged_returns": [1.0],
        "best": {"model": file, "mean_return": 1.0, "round": 1},
        "client_states": {"0": file},
    }
    return msgspec.json.encode(checkpoint) + b"\n"


TARGETS = (
    Target("history", read_history, (), lambda: [history_seed(), *DEEP]),
    Target(
        "ledger", read_ledgers, (PreflightError,), lambda: [built_ledger(bytes(range(64))), *DEEP]
    ),
    Target(
        "built-ledger",
        lambda data, folder: read_ledgers(built_ledger(data), folder),
        (PreflightError,),
        max_bytes=1024,
    ),
    Target(
        "run-files",
        read_run_files,
        (RunFailed,),
        lambda: [checkpoint_seed(), canary_seed(), *DEEP],
    ),
    Target("quote", read_quotes, (UsageError,), lambda: [*DEEP]),
    Target("provenance", read_provenance, (ProvenanceError,), lambda: [built_chain(b""), *DEEP]),
    Target(
        "built-provenance",
        lambda data, folder: read_provenance(built_chain(data), folder),
        (ProvenanceError,),
        max_bytes=512,
    ),
)
