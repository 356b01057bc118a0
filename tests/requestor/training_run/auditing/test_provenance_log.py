"""The file of records: crashes, broken chains, what is kept, and the way back."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from provider_image.wire import ModelMetadata
from requestor.errors import RunFailed
from requestor.training_run.auditing.findings import ROUNDS_AT_HAND, Finding, Findings
from requestor.training_run.auditing.provenance_log import ProvenanceFolder, ProvenanceLog
from requestor.training_run.auditing.way_back import WayBack
from requestor.training_run.checkpoints import BestModel, Checkpoint, CheckpointStore
from requestor.trust.provenance import (
    FIRST_PREVIOUS,
    RoundRecord,
    Standing,
    WorkRecord,
    summarise,
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    number: int,
    standing: Standing = "unaudited",
    voice: str = "0xa",
    wallet: str | None = None,
    verified_by: tuple[str, ...] = (),
) -> RoundRecord:
    work = WorkRecord(
        client=0,
        seed=0,
        order_sha256=sha(f"order {number}"),
        result_sha256=sha(f"result {number}"),
        provider_id=voice,
        wallet=wallet,
        standing=standing,
        verified_by=verified_by,
    )
    return RoundRecord(
        previous=FIRST_PREVIOUS,
        run_id="",
        round=number,
        config_sha256="",
        base_sha256=sha(f"model {number}"),
        work=(work,),
        candidate_sha256=sha("candidate"),
        decision="published",
        model_sha256=sha(f"model {number + 1}"),
    )


def finding(number: int, standing: Standing) -> Finding:
    order, result = sha(f"order {number}"), sha(f"result {number}")
    return Finding(order, result, number, 0, "0xa", 1.0, standing, reason="it lied")


def opened(path: Path, rounds: int, keep: int | None = None) -> ProvenanceLog:
    log = ProvenanceLog(ProvenanceFolder(path), "run", keep)
    assert log.open(rounds) is None
    return log


def rounds_of(path: Path) -> list[int]:
    return [one.round for one in summarise(ProvenanceFolder(path).read()).rounds]


def test_records_are_chained_and_go_on_after_a_restart(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    log.append(record(0))
    opened(tmp_path, 1).append(record(1))
    assert rounds_of(tmp_path) == [0, 1]


def test_what_a_crash_left_beyond_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    for number in range(3):
        log.append(record(number))
    with (tmp_path / "chain.jsonl").open("ab") as file:
        file.write(b'{"torn')
    log = opened(tmp_path, 2)
    log.append(record(2))
    assert rounds_of(tmp_path) == [0, 1, 2]


def test_a_broken_chain_is_told_of_and_put_aside(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    log.append(record(0))
    chain = tmp_path / "chain.jsonl"
    chain.write_bytes(chain.read_bytes().replace(b"published", b"kept"[:0] + b"rolled_up"))
    said = ProvenanceLog(ProvenanceFolder(tmp_path), "run", None).open(1)
    assert said is not None and "broken" in said
    assert (tmp_path / "chain.broken.jsonl").exists()


def test_a_run_that_an_older_version_began_has_records_from_then_on(tmp_path: Path) -> None:
    log = opened(tmp_path, 5)
    log.append(record(5))
    log.append(record(6))
    opened(tmp_path, 6).append(record(6))
    assert opened(tmp_path, 7) is not None
    assert rounds_of(tmp_path) == [5, 6]


def test_a_verdict_on_merged_work_is_a_record_of_its_own(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    log.found(finding(0, "verified"))  # not merged yet: its round's record will say it
    log.append(record(0, "pending"))
    log.found(finding(0, "faked"))
    log.found(finding(0, "faked"))
    (one,) = summarise(ProvenanceFolder(tmp_path).read()).rounds
    assert one.work[0].standing == "faked"
    assert len((tmp_path / "chain.jsonl").read_bytes().splitlines()) == 2


def test_files_of_the_last_rounds_are_kept(tmp_path: Path) -> None:
    log = opened(tmp_path, 0, keep=2)
    for number in range(4):
        source = tmp_path / f"source-{number}"
        source.write_bytes(b"model")
        log.keep(number, {sha(f"model {number}"): source})
    kept = {path.name for path in (tmp_path / "files").iterdir()}
    assert kept == {sha("model 2"), sha("model 3")}


def test_no_more_of_the_disk_is_taken_than_is_granted(tmp_path: Path) -> None:
    """Models of 5 bytes, and one client's state of 100 bytes that all rounds have: room for 3."""
    shared = tmp_path / "shared"
    shared.write_bytes(b"s" * 100)
    for number in range(10):
        if number in (0, 6):  # a restart
            log = ProvenanceLog(ProvenanceFolder(tmp_path), "run", None, 119)
            log.open(number)
        source = tmp_path / f"source-{number}"
        source.write_bytes(b"model")
        log.keep(number, {sha(f"model {number}"): source, sha("state"): shared})
        log.append(record(number))
    kept = {path.name for path in (tmp_path / "files").iterdir()}
    assert kept == {sha("state"), *(sha(f"model {number}") for number in (7, 8, 9))}


def test_suspect_is_what_nobody_verified_of_a_voice_whose_fakes_were_merged(
    tmp_path: Path,
) -> None:
    log = opened(tmp_path, 0)
    standings: list[Standing] = ["verified", "unaudited", "pending"]
    for number, standing in enumerate(standings):
        log.append(record(number, standing))
    log.append(record(3, "unaudited", voice="0xb"))
    assert log.suspect_round() is None
    log.found(finding(2, "faked"))
    assert log.suspect_round() == 1
    assert opened(tmp_path, 4).suspect_round() == 1  # a resumed run knows it too
    log = opened(tmp_path, 4)
    log.void(1, "a fake")
    assert log.suspect_round() is None
    log.append(record(1, voice="0xb"))
    assert rounds_of(tmp_path) == [0, 1]
    assert opened(tmp_path, 2).suspect_round() is None


def test_who_names_the_wallet_of_another_leads_back_to_its_own_work_only(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    for number in range(3):
        log.append(record(number, voice="0xhonest", wallet="0xpurse"))
    log.append(record(3, "pending", voice="0xliar", wallet="0xpurse"))
    lie = replace(finding(3, "faked"), voice="0xpurse", provider_id="0xliar")
    log.found(replace(lie, provider_id="0xhonest"))  # its own, of the same bits
    assert log.suspect_round() is None
    log.found(lie)
    assert log.suspect_round() == 3
    assert opened(tmp_path, 4).suspect_round() == 3


def test_who_names_another_wallet_is_the_same_and_its_voices_vouch_for_nothing(
    tmp_path: Path,
) -> None:
    log = opened(tmp_path, 0)
    log.append(record(0, "verified", "0xliar", "0xfirst", verified_by=("0xb",)))
    log.append(record(1, "verified", "0xliar", "0xfirst", verified_by=("0xsecond",)))
    log.append(record(2, voice="0xliar", wallet="0xfirst"))
    log.append(record(3, "faked", voice="0xliar", wallet="0xsecond"))
    assert log.suspect_round() == 1
    log.void(1, "a fake")
    log.append(record(1, "verified", "0xliar", "0xfirst", verified_by=("0xsecond",)))
    assert log.suspect_round() is None


def test_a_fake_found_out_late_leads_back_to_what_is_no_more_in_memory(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    log.append(record(0))
    log.append(record(1, "pending"))  # its audit goes on for all those rounds
    last = 3 * ROUNDS_AT_HAND
    for number in range(2, last):
        log.append(record(number, "verified", voice="0xb"))
    assert log.suspect_round() is None
    log.found(finding(1, "faked"))
    assert log.suspect_round() == 0
    assert opened(tmp_path, last).suspect_round() == 0
    log.void(0, "a fake")
    assert log.suspect_round() is None and log.faked_by == set()


def test_a_fake_that_was_found_out_before_its_round_was_written_counts(tmp_path: Path) -> None:
    log = opened(tmp_path, 0)
    log.found(finding(0, "faked"))
    log.append(record(0, "faked"))
    assert log.suspect_round() == 0


def test_memory_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    def grown(rounds: int) -> int:
        """Bytes that a log and findings of so many rounds hold."""
        folder = tmp_path / str(rounds)
        folder.mkdir()
        tracemalloc.start()
        log, findings = opened(folder, 0), Findings(folder / "audits.jsonl")
        for number in range(rounds):
            findings.write(finding(number, "verified"))
            log.append(record(number, "verified"))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        findings.close()
        return held

    # 240 rounds of 500 bytes and more would be another 120 kB
    assert grown(ROUNDS_AT_HAND + 240) - grown(ROUNDS_AT_HAND) < 60_000


def test_what_is_known_of_old_work_is_read_again_where_its_round_is_done_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audits.jsonl"
    findings = Findings(path)
    one = finding(0, "verified")
    lasting = finding(1, "pending")
    for each in (finding(0, "pending"), one, lasting, finding(2, "faked")):
        findings.write(each)
    for number in range(3, 3 + ROUNDS_AT_HAND):
        findings.write(finding(number, "unaudited"))
    for known in (findings, Findings(path)):
        assert known.get(one.key) is None
        assert known.get(lasting.key) == lasting
        assert known.convicted == {"0xa"}
        known.go_back(0)
        assert known.get(one.key) == one
        known.close()


def saved(store: CheckpointStore, number: int) -> Checkpoint:
    metadata = ModelMetadata(
        algorithm="ppo", environment_id="x", observation_space="", action_space=""
    )
    tensors = {"policy/w": np.full(2, number, dtype=np.float32)}
    model = store.save_model(f"model-{number:05d}.safetensors", tensors, metadata)
    return Checkpoint(
        round=number,
        total_steps=number,
        model=model,
        judged=model,
        judged_returns=(1.0,),
        best=BestModel(model, 1.0, number),
    )


def test_the_way_back_leads_to_the_checkpoint_of_any_round(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.folder.mkdir()
    folder = ProvenanceFolder(tmp_path / "provenance")
    log = opened(folder.path, 0)
    way = WayBack(folder, store)
    checkpoints = []
    for number in range(5):
        checkpoint = saved(store, number)
        store.write(checkpoint)
        way.keep(checkpoint)
        log.keep(number, way.files(checkpoint))
        checkpoints.append(checkpoint)
    assert not store.path(checkpoints[1].model).exists()  # only two checkpoints stay
    assert way.take(1) == checkpoints[1]
    assert store.latest() == checkpoints[1]
    assert store.load(checkpoints[1].model).tensors["policy/w"][0] == 1
    with pytest.raises(RunFailed, match="not there any more"):
        way.take(7)


def test_checkpoints_that_are_kept_are_plain_json(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    way = WayBack(ProvenanceFolder(tmp_path / "provenance"), store)
    (tmp_path / "provenance").mkdir()
    checkpoint = saved(store, 3)
    way.keep(checkpoint)
    (kept,) = (tmp_path / "provenance" / "checkpoints").iterdir()
    assert msgspec.json.decode(kept.read_bytes(), type=Checkpoint) == checkpoint
