"""The desk: orders that depend on nothing but their content, results that are taken on no trust."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from provider_image.wire import (
    FileRef,
    TrainOrder,
    decode_order,
    order_digest,
    tensors_digest,
)
from requestor.federation.rounds import FederationSettings, plan_round
from requestor.training_run.orders.deliveries import Rejection, Source
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import MODEL_NAME, RESULT_NAME

if TYPE_CHECKING:
    from tests.requestor.training_run.orders.office import Office

ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]


def test_an_order_says_all_there_is_to_know(office: Office) -> None:
    job = office.job()
    order = decode_order(job.order)
    assert isinstance(order, TrainOrder)
    assert (order.run_id, order.round, order.client, order.seed) == ("run-1", 2, 1, ITEM.seed)
    assert (order.local_steps, order.steps_done, order.steps_total) == (64, 128, 640)
    assert order.model == FileRef(MODEL_NAME, office.files.model.sha256, office.files.model.bytes)
    assert (order.output, order.client_state, order.client_state_output) == (
        RESULT_NAME,
        None,
        None,
    )
    assert job.inputs == {MODEL_NAME: office.files.model_path}
    assert job.input_digests == {MODEL_NAME: office.files.model.sha256}
    assert job.deadline_seconds == 77.0


def test_attempts_differ_in_their_files_alone(office: Office) -> None:
    first, second = office.job(), office.job()
    assert first.order == second.order
    assert first.outputs[RESULT_NAME].path != second.outputs[RESULT_NAME].path


def test_the_bound_of_a_result_lets_an_honest_one_through_and_little_more(office: Office) -> None:
    job = office.job()
    office.deliver(job)
    size = job.outputs[RESULT_NAME].path.stat().st_size
    # 4 x 2 float32, 2 x 3 and 1 float64: 88 bytes; the rest is metadata, at most 64 KiB escaped
    assert size <= job.outputs[RESULT_NAME].max_bytes < 88 + 2 * 65536 + 4096


def test_a_sound_result_is_taken_and_kept(office: Office) -> None:
    job = office.job()
    delivery = office.desk.receive(ITEM, job, office.deliver(job))
    office.desk.discard(job)
    assert delivery.update.item == ITEM
    assert delivery.update.tensors["policy/weight"].tolist() == [[0.5, 0.5]] * 4
    assert delivery.metrics == {"train/loss": 0.25}
    digest = order_digest(decode_order(job.order))
    assert (delivery.order_sha256, delivery.source) == (digest, None)
    assert delivery.result_sha256 == tensors_digest(delivery.update.tensors)
    assert office.names() == [f"{digest}.result"]
    assert office.desk.client_state(ITEM) is None


def test_after_a_crash_the_kept_result_is_found_by_the_same_order_alone(office: Office) -> None:
    job = office.job()
    first = office.desk.receive(ITEM, job, office.deliver(job))
    again = RoundDesk(office.files)
    found = again.salvage(ITEM)
    assert found is not None
    assert (
        found.update.tensors["policy/weight"].tobytes()
        == first.update.tensors["policy/weight"].tobytes()
    )
    assert again.salvage(replace(ITEM, client=0)) is None
    other_model = FileRef("model-00003.safetensors", "0" * 64, office.files.model.bytes)
    assert RoundDesk(replace(office.files, model=other_model)).salvage(ITEM) is None


def test_a_kept_result_that_was_damaged_is_ordered_again(office: Office) -> None:
    job = office.job()
    office.desk.receive(ITEM, job, office.deliver(job))
    kept = office.inbox / office.names()[0]
    kept.write_bytes(kept.read_bytes()[:-1])
    assert office.desk.salvage(ITEM) is None
    assert office.names() == []


def test_a_late_copy_does_not_replace_what_came_first(keeping: Office) -> None:
    first, copy = keeping.job(), keeping.job()
    keeping.desk.receive(ITEM, first, keeping.deliver(first, fill=0.5))
    state = keeping.desk.client_state(ITEM)
    assert state is not None
    kept = state.read_bytes()
    keeping.desk.receive(ITEM, copy, keeping.deliver(copy, fill=0.75))
    keeping.desk.discard(copy)
    assert state.read_bytes() == kept
    found = keeping.desk.salvage(ITEM)
    assert found is not None
    assert float(found.update.tensors["policy/weight"][0, 0]) == 0.5
    assert len(keeping.names()) == 2


def test_a_digest_that_does_not_fit_is_refused(office: Office) -> None:
    job = office.job()
    office.deliver(job)
    office.refuses(job, {RESULT_NAME: "0" * 64}, "SHA-256")


@pytest.mark.parametrize("name", ["office", "keeping"])
def test_a_missing_digest_is_refused_by_name(name: str, request: pytest.FixtureRequest) -> None:
    office: Office = request.getfixturevalue(name)
    job = office.job()
    office.deliver(job)
    office.refuses(job, {}, f"no digest of {', '.join(sorted(job.outputs))}")


def test_a_result_of_another_order_is_refused(office: Office) -> None:
    job = office.job()
    claimed = office.deliver(job, order_sha256="0" * 64)
    office.refuses(job, claimed, "belongs to another order")


def test_other_steps_than_ordered_are_refused(office: Office) -> None:
    job = office.job()
    office.refuses(job, office.deliver(job, steps=63), "63 steps were done where 64")


def test_values_that_are_not_finite_are_refused(office: Office) -> None:
    job = office.job()
    office.refuses(job, office.deliver(job, fill=float("nan")), "policy/weight")


def test_a_result_that_never_came_is_refused(office: Office) -> None:
    job = office.job()
    office.refuses(job, {RESULT_NAME: "0" * 64}, "cannot be opened")


def test_a_result_above_its_bound_is_refused_unread(office: Office) -> None:
    job = office.job()
    output = job.outputs[RESULT_NAME]
    with output.path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk, but reading it would take a terabyte
    office.refuses(job, {RESULT_NAME: "0" * 64}, f"the limit is {output.max_bytes}")


def test_a_link_in_place_of_a_result_is_refused(office: Office) -> None:
    job, other = office.job(), office.job()
    claimed = office.deliver(other)
    real = office.folder / "real"
    other.outputs[RESULT_NAME].path.rename(real)
    job.outputs[RESULT_NAME].path.symlink_to(real)
    office.refuses(job, claimed, "cannot be opened")


def test_a_closed_round_leaves_nothing_but_what_is_still_coming_in(office: Office) -> None:
    done, late = office.job(), office.job()
    office.desk.receive(ITEM, done, office.deliver(done))
    claimed = office.deliver(late)
    dead = office.inbox / f"in-r00002-c001-1-{os.getpid() + 1}.result"
    dead.write_bytes(b"left by a process that was killed")
    office.desk.clear()
    assert office.names() == [late.outputs[RESULT_NAME].path.name]
    office.desk.receive(ITEM, late, claimed)
    office.desk.discard(late)
    office.desk.clear()
    assert office.names() == []


SOURCE = Source("lease", "0xnode", "alder", "agreement", "0xwallet", 1.25)


def test_who_delivered_is_known_after_a_crash(keeping: Office) -> None:
    job = keeping.job()
    delivery = keeping.desk.receive(ITEM, job, keeping.deliver(job), SOURCE)
    assert (delivery.source, delivery.update.voice) == (SOURCE, "0xwallet")
    found = RoundDesk(keeping.files).salvage(ITEM)
    assert found is not None
    assert (found.source, found.update.voice) == (SOURCE, "0xwallet")
    assert found.result_sha256 == delivery.result_sha256


@pytest.mark.parametrize("content", [None, b"", b"\xff", b'{"lease": 1}', b"{}"])
def test_a_result_of_which_nobody_knows_the_sender_is_usable(
    office: Office, content: bytes | None
) -> None:
    job = office.job()
    delivery = office.desk.receive(ITEM, job, office.deliver(job), SOURCE)
    note = office.inbox / f"{delivery.order_sha256}.source"
    if content is None:
        note.unlink()
    else:
        note.write_bytes(content)
    found = RoundDesk(office.files).salvage(ITEM)
    assert found is not None
    assert (found.source, found.update.voice) == (None, "")


def test_what_was_rejected_is_not_found_again(keeping: Office) -> None:
    job = keeping.job()
    delivery = keeping.desk.receive(ITEM, job, keeping.deliver(job), SOURCE)
    rejection = Rejection("screened", "too long", delivery.result_sha256, SOURCE)
    kept = {path: path.read_bytes() for path in keeping.inbox.iterdir()}
    keeping.desk.reject(ITEM, rejection)
    again = RoundDesk(keeping.files)
    assert again.salvage(ITEM) is None
    assert again.rejections(ITEM) == (rejection,)
    for path, content in kept.items():  # killed between the note and the deletion
        path.write_bytes(content)
    assert again.salvage(ITEM) is None
    better = keeping.job()
    keeping.desk.receive(ITEM, better, keeping.deliver(better, fill=0.25))
    found = again.salvage(ITEM)
    assert found is not None
    assert float(found.update.tensors["policy/weight"][0, 0]) == 0.25
    keeping.desk.clear()
    assert keeping.desk.rejections(ITEM) == ()


def test_what_one_was_refused_for_another_may_have_sent_too(keeping: Office) -> None:
    """A liar's work goes with the liar; honest work of the same order has the same bits."""
    job = keeping.job()
    delivery = keeping.desk.receive(ITEM, job, keeping.deliver(job), SOURCE)
    keeping.desk.reject(ITEM, Rejection("fraud", "convicted", delivery.result_sha256, SOURCE))
    job = keeping.job()
    honest = replace(SOURCE, wallet="0xhonest")
    keeping.desk.receive(ITEM, job, keeping.deliver(job), honest)
    found = RoundDesk(keeping.files).salvage(ITEM)
    assert found is not None
    assert found.update.voice == "0xhonest"


def test_a_copy_s_sender_is_not_noted(office: Office) -> None:
    first, copy = office.job(), office.job()
    office.desk.receive(ITEM, first, office.deliver(first), SOURCE)
    late = office.desk.receive(ITEM, copy, office.deliver(copy), replace(SOURCE, lease="late"))
    assert late.source is not None
    assert late.source.lease == "late"
    found = office.desk.salvage(ITEM)
    assert found is not None
    assert found.source == SOURCE
