"""The desk: orders that depend on nothing but their content, results that are taken on no trust."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    ClientStateMetadata,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    decode_order,
    order_digest,
    specs_of,
    write_bundle,
)
from requestor.federation.rounds import FederationSettings, WorkItem, plan_round
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import Job
from requestor.training_run.order_desk import (
    MODEL_NAME,
    RESULT_NAME,
    STATE_NAME,
    STATE_OUTPUT_NAME,
    RoundDesk,
    RoundFiles,
    state_reference,
)

KEPT = StateRules(optimizer="reset", replay="kept")
ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]


class Office:
    """A desk over a model of two arrays, and a provider that fills its orders."""

    def __init__(self, folder: Path, rules: StateRules = StateRules()) -> None:  # noqa: B008
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.folder = folder
        model = folder / "model-00002.safetensors"
        tensors: Tensors = {
            "policy/weight": np.zeros((4, 2), np.float32),
            "normalizer/observation/mean": np.zeros(3),
            "normalizer/observation/var": np.ones(3),
            "normalizer/observation/count": np.array(1e-4),
        }
        metadata = ModelMetadata(
            algorithm="dqn", environment_id="E", observation_space="", action_space=""
        )
        self.files = RoundFiles(
            run_id="run-1",
            environment=EnvironmentSpec("E", n_envs=2, normalize=NormalizeSpec(rewards=False)),
            learner=LearnerSpec("dqn"),
            rules=rules,
            model=write_bundle(model, tensors, metadata),
            model_path=model,
            model_specs=specs_of(tensors),
            client_states={},
            inbox=self.inbox,
            order_timeout_seconds=77.0,
        )
        self.desk = RoundDesk(self.files)
        self._attempts = 0

    def job(self, item: WorkItem = ITEM) -> Job:
        """A new job for an item."""
        self._attempts += 1
        return self.desk.job(item, "lease", self._attempts)

    def deliver(
        self,
        job: Job,
        *,
        fill: float = 0.5,
        order_sha256: str | None = None,
        steps: int = 64,
        rows: int = 32,
    ) -> dict[str, str]:
        """Put what an honest provider would send in place; return the digests it claims."""
        order = decode_order(job.order)
        assert isinstance(order, TrainOrder)
        tensors: Tensors = {
            "policy/weight": np.full((4, 2), fill, np.float32),
            "moments/observation/mean": np.zeros(3),
            "moments/observation/var": np.ones(3),
            "moments/observation/count": np.array(66.0),
        }
        metadata = TrainResult(
            order_sha256=order_sha256 or order_digest(order),
            steps=steps,
            episodes=1,
            metrics={"train/loss": 0.25},
            wall_seconds=1.0,
            cpu_seconds=1.0,
        )
        claimed = {
            RESULT_NAME: write_bundle(job.outputs[RESULT_NAME].path, tensors, metadata).sha256
        }
        if STATE_OUTPUT_NAME in job.outputs:
            path = job.outputs[STATE_OUTPUT_NAME].path
            claimed[STATE_OUTPUT_NAME] = write_state(path, fill, rows).sha256
        return claimed

    def names(self) -> list[str]:
        """What is in the inbox."""
        return sorted(path.name for path in self.inbox.iterdir())


def replay(rows: int, fill: float = 0.0) -> Tensors:
    """The replay buffer of two environments, not yet full."""
    return {
        "replay/observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/next_observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/actions": np.zeros((rows, 2, 1), np.int64),
        "replay/rewards": np.full((rows, 2), fill, np.float32),
        "replay/dones": np.zeros((rows, 2), np.float32),
        "replay/timeouts": np.zeros((rows, 2), np.float32),
        "replay/position": np.array(rows),
        "replay/full": np.array(False),
    }


def write_state(path: Path, fill: float, rows: int = 32, tensors: Tensors | None = None) -> FileRef:
    """A client's state."""
    metadata = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
    return write_bundle(path, tensors or replay(rows, fill), metadata)


def with_state(office: Office, rows: int = 40) -> Office:
    """An office whose client has a state from earlier rounds."""
    path = office.folder / "client-001-00002.safetensors"
    state = write_state(path, 3.0, rows)
    office.files = replace(office.files, client_states={1: (state, path)})
    office.desk = RoundDesk(office.files)
    return office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def keeping(tmp_path: Path) -> Office:
    return Office(tmp_path, KEPT)


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


def test_a_client_with_a_state_gets_it_back(keeping: Office) -> None:
    path = keeping.folder / "client-001-00002.safetensors"
    state = write_state(path, 3.0)
    desk = RoundDesk(replace(keeping.files, client_states={1: (state, path)}))
    job = desk.job(ITEM, "lease", 1)
    order = decode_order(job.order)
    assert isinstance(order, TrainOrder)
    assert order.client_state == FileRef(STATE_NAME, state.sha256, state.bytes)
    assert order.client_state_output == STATE_OUTPUT_NAME
    assert job.inputs[STATE_NAME] == path
    assert job.input_digests[STATE_NAME] == state.sha256
    assert set(job.outputs) == {RESULT_NAME, STATE_OUTPUT_NAME}
    assert state_reference(path, path.name) == state


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


def test_a_kept_result_without_its_state_is_ordered_again(keeping: Office) -> None:
    job = keeping.job()
    keeping.desk.receive(ITEM, job, keeping.deliver(job))
    state = keeping.desk.client_state(ITEM)
    assert state is not None
    assert keeping.desk.salvage(ITEM) is not None
    state.unlink()
    assert keeping.desk.salvage(ITEM) is None
    assert keeping.names() == []


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


def refused(office: Office, job: Job, claimed: dict[str, str], message: str) -> None:
    """The desk refuses what was delivered, and nothing of it is kept."""
    with pytest.raises((WireError, UpdateRejected), match=message):
        office.desk.receive(ITEM, job, claimed)
    office.desk.discard(job)
    assert office.names() == []
    assert office.desk.salvage(ITEM) is None


def test_a_digest_that_does_not_fit_is_refused(office: Office) -> None:
    job = office.job()
    office.deliver(job)
    refused(office, job, {RESULT_NAME: "0" * 64}, "SHA-256")


@pytest.mark.parametrize("rules", [StateRules(), KEPT])
def test_a_missing_digest_is_refused_by_name(tmp_path: Path, rules: StateRules) -> None:
    office = Office(tmp_path, rules)
    job = office.job()
    office.deliver(job)
    refused(office, job, {}, f"no digest of {', '.join(sorted(job.outputs))}")


def test_a_result_of_another_order_is_refused(office: Office) -> None:
    job = office.job()
    claimed = office.deliver(job, order_sha256="0" * 64)
    refused(office, job, claimed, "belongs to another order")


def test_other_steps_than_ordered_are_refused(office: Office) -> None:
    job = office.job()
    refused(office, job, office.deliver(job, steps=63), "63 steps were done where 64")


def test_values_that_are_not_finite_are_refused(office: Office) -> None:
    job = office.job()
    refused(office, job, office.deliver(job, fill=float("nan")), "policy/weight")


def test_a_result_that_never_came_is_refused(office: Office) -> None:
    job = office.job()
    refused(office, job, {RESULT_NAME: "0" * 64}, "cannot be opened")


def test_a_result_above_its_bound_is_refused_unread(office: Office) -> None:
    job = office.job()
    output = job.outputs[RESULT_NAME]
    with output.path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk, but reading it would take a terabyte
    refused(office, job, {RESULT_NAME: "0" * 64}, f"the limit is {output.max_bytes}")


def test_a_link_in_place_of_a_result_is_refused(office: Office) -> None:
    job, other = office.job(), office.job()
    claimed = office.deliver(other)
    real = office.folder / "real"
    other.outputs[RESULT_NAME].path.rename(real)
    job.outputs[RESULT_NAME].path.symlink_to(real)
    refused(office, job, claimed, "cannot be opened")


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"not a bundle" * 9])
def test_a_state_that_is_no_bundle_is_refused_with_its_result(
    keeping: Office, content: bytes
) -> None:
    job = keeping.job()
    claimed = keeping.deliver(job)
    job.outputs[STATE_OUTPUT_NAME].path.write_bytes(content)
    refused(keeping, job, claimed, r"\.state")


@pytest.mark.parametrize("tensors", [{"x": np.zeros(3, np.float32)}, replay(33), {}])
def test_a_state_that_no_learner_can_have_left_is_refused(
    keeping: Office, tensors: Tensors
) -> None:
    job = keeping.job()
    claimed = keeping.deliver(job)
    path = job.outputs[STATE_OUTPUT_NAME].path
    metadata = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
    claimed[STATE_OUTPUT_NAME] = write_bundle(path, tensors, metadata).sha256
    refused(keeping, job, claimed, "the client's state")


def test_a_state_goes_on_from_the_one_that_was_handed_out(keeping: Office) -> None:
    office = with_state(keeping, rows=40)
    job = office.job()
    refused(office, job, office.deliver(job, rows=32), "has 32 rows of replay after 40")
    job = office.job()
    office.desk.receive(ITEM, job, office.deliver(job, rows=72))


def test_a_damaged_file_of_our_own_is_blamed_on_no_provider(keeping: Office) -> None:
    office = with_state(keeping)
    job = office.job()
    claimed = office.deliver(job, rows=72)
    office.files.client_states[1][1].write_bytes(b"damaged")
    with pytest.raises(OSError, match="is damaged"):
        office.desk.receive(ITEM, job, claimed)


def test_an_order_without_the_state_is_a_clients_first_once_more(keeping: Office) -> None:
    office = with_state(keeping, rows=40)
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
    office = with_state(keeping, rows=40)
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
    office = with_state(keeping)
    assert office.desk.salvage(ITEM) is None
    assert office.desk.has_state(ITEM)


def test_a_state_above_its_bound_is_refused(keeping: Office) -> None:
    small = Office.__new__(Office)
    small.__dict__.update(keeping.__dict__)
    small.desk = RoundDesk(replace(keeping.files, max_state_bytes=100))
    job = small.job()
    assert job.outputs[STATE_OUTPUT_NAME].max_bytes == 100
    refused(small, job, small.deliver(job), "the limit is 100")


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
