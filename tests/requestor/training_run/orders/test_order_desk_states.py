"""The desk and the states that clients keep: handed out, screened, left out, found again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from provider_image.wire import (
    ClientStateMetadata,
    FileRef,
    Tensors,
    TrainOrder,
    decode_order,
    order_digest,
    write_bundle,
)
from requestor.federation.rounds import FederationSettings, plan_round
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import (
    RESULT_NAME,
    STATE_NAME,
    STATE_OUTPUT_NAME,
    state_reference,
)

if TYPE_CHECKING:
    from tests.requestor.training_run.orders.office import Office

ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]


def test_a_client_with_a_state_gets_it_back(keeping: Office) -> None:
    job = keeping.with_state(rows=40).job()
    state, path = keeping.files.client_states[1]
    order = decode_order(job.order)
    assert isinstance(order, TrainOrder)
    assert order.client_state == FileRef(STATE_NAME, state.sha256, state.bytes)
    assert order.client_state_output == STATE_OUTPUT_NAME
    assert job.inputs[STATE_NAME] == path
    assert job.input_digests[STATE_NAME] == state.sha256
    assert set(job.outputs) == {RESULT_NAME, STATE_OUTPUT_NAME}
    assert state_reference(path, path.name) == state


def test_a_kept_result_without_its_state_is_ordered_again(keeping: Office) -> None:
    job = keeping.job()
    keeping.desk.receive(ITEM, job, keeping.deliver(job))
    state = keeping.desk.client_state(ITEM)
    assert state is not None
    assert keeping.desk.salvage(ITEM) is not None
    state.unlink()
    assert keeping.desk.salvage(ITEM) is None
    assert keeping.names() == []


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"not a bundle" * 9])
def test_a_state_that_is_no_bundle_is_refused_with_its_result(
    keeping: Office, content: bytes
) -> None:
    job = keeping.job()
    claimed = keeping.deliver(job)
    job.outputs[STATE_OUTPUT_NAME].path.write_bytes(content)
    keeping.refuses(job, claimed, r"state-out\.safetensors: SHA-256")


@pytest.mark.parametrize(
    "tensors",
    [{}, {"x": np.zeros(3, np.float32)}, {"replay/rewards": np.zeros((9, 2), np.float32)}],
)
def test_a_state_that_no_learner_can_have_left_is_refused(
    keeping: Office, tensors: Tensors
) -> None:
    job = keeping.job()
    claimed = keeping.deliver(job)
    path = job.outputs[STATE_OUTPUT_NAME].path
    metadata = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
    claimed[STATE_OUTPUT_NAME] = write_bundle(path, tensors, metadata).sha256
    keeping.refuses(job, claimed, "the client's state")


def test_a_state_goes_on_from_the_one_that_was_handed_out(keeping: Office) -> None:
    office = keeping.with_state(rows=40)
    job = office.job()
    office.refuses(job, office.deliver(job, rows=32), "has 32 rows of replay after 40")
    job = office.job()
    office.desk.receive(ITEM, job, office.deliver(job, rows=72))


def test_a_damaged_file_of_our_own_is_blamed_on_no_provider(keeping: Office) -> None:
    office = keeping.with_state(rows=40)
    job = office.job()
    claimed = office.deliver(job, rows=72)
    office.files.client_states[1][1].write_bytes(b"damaged")
    with pytest.raises(OSError, match="is damaged"):
        office.desk.receive(ITEM, job, claimed)


def test_an_order_without_the_state_is_a_clients_first_once_more(keeping: Office) -> None:
    office = keeping.with_state(rows=40)
    whole = decode_order(office.job().order)
    assert office.desk.has_state(ITEM)
    office.desk.leave_state_out(ITEM)
    assert not office.desk.has_state(ITEM)
    job = office.job()
    order = decode_order(job.order)
    assert isinstance(order, TrainOrder)
    assert (order.client_state, order.client_state_output) == (None, STATE_OUTPUT_NAME)
    assert order_digest(order) != order_digest(whole)
    assert STATE_NAME not in job.inputs
    office.desk.receive(ITEM, job, office.deliver(job, rows=32))
    kept = office.desk.client_state(ITEM)
    assert kept is not None
    assert kept.name == f"{order_digest(order)}.state"


def test_a_client_without_a_state_has_none_to_leave_out(keeping: Office) -> None:
    assert not keeping.desk.has_state(ITEM)


@pytest.mark.parametrize("is_left_out", [False, True])
def test_after_a_crash_the_result_is_found_with_and_without_the_state(
    keeping: Office, is_left_out: bool
) -> None:
    office = keeping.with_state(rows=40)
    if is_left_out:
        office.desk.leave_state_out(ITEM)
    job = office.job()
    office.desk.receive(ITEM, job, office.deliver(job, rows=32 if is_left_out else 72))
    expected = office.desk.client_state(ITEM)
    again = RoundDesk(office.files)
    assert again.salvage(ITEM) is not None
    assert again.client_state(ITEM) == expected
    assert again.has_state(ITEM) is not is_left_out


def test_a_search_that_finds_nothing_leaves_the_state_in(keeping: Office) -> None:
    office = keeping.with_state(rows=40)
    assert office.desk.salvage(ITEM) is None
    assert office.desk.has_state(ITEM)


def test_a_state_above_its_bound_is_refused(keeping: Office) -> None:
    keeping.desk = RoundDesk(replace(keeping.files, max_state_bytes=100))
    job = keeping.job()
    assert job.outputs[STATE_OUTPUT_NAME].max_bytes == 100
    keeping.refuses(job, keeping.deliver(job), "the limit is 100")
