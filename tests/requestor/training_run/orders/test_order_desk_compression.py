"""The desk where updates travel encoded: decoded, screened, found again, and the feedback kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from provider_image.wire import (
    ENCODED_NAME,
    FEEDBACK_NAME,
    ClientStateMetadata,
    CompressionSpec,
    Tensors,
    TrainOrder,
    TrainResult,
    compress,
    decode_order,
    order_digest,
    write_bundle,
)
from requestor.federation.rounds import FederationSettings, plan_round
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import Job
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import (
    RESULT_NAME,
    STATE_OUTPUT_NAME,
    state_reference,
)

if TYPE_CHECKING:
    from tests.requestor.training_run.orders.office import Office

ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]
INT8 = CompressionSpec("int8", rounding="nearest")
TOPK = CompressionSpec("topk", fraction=0.25, rounding="nearest", feedback=True)
WEIGHT = np.array([[3.0, 1.0], [-0.5, 0.25], [-2.0, 0.0], [0.125, 1.0]], np.float32)


@dataclass
class EncodedOffice:
    """An office whose provider encodes what it sends."""

    office: Office
    spec: CompressionSpec

    def __post_init__(self) -> None:
        self.files = replace(self.office.files, compression=self.spec)
        self.desk = RoundDesk(self.files)

    def job(self) -> Job:
        self.office._attempts += 1
        return self.desk.job(ITEM, "lease", self.office._attempts)

    def deliver(
        self, job: Job, *, changes: Tensors | None = None, feedback: np.ndarray | None = None
    ) -> dict[str, str]:
        """What an honest provider sends, but for `changes`; and what it says it has left out."""
        order = decode_order(job.order)
        assert isinstance(order, TrainOrder)
        tensors, residual = compress({"policy/weight": WEIGHT}, self.spec, order.seed)
        tensors |= {
            "moments/observation/mean": np.zeros(3),
            "moments/observation/var": np.ones(3),
            "moments/observation/count": np.array(66.0),
        }
        metadata = TrainResult(
            order_sha256=order_digest(order), steps=64, episodes=1, wall_seconds=1, cpu_seconds=1
        )
        path = job.outputs[RESULT_NAME].path
        claimed = {RESULT_NAME: write_bundle(path, tensors | (changes or {}), metadata).sha256}
        if residual is not None:
            kept = {FEEDBACK_NAME: residual if feedback is None else feedback}
            state = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
            path = job.outputs[STATE_OUTPUT_NAME].path
            claimed[STATE_OUTPUT_NAME] = write_bundle(path, kept, state).sha256
        return claimed

    def refuses(self, job: Job, claimed: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.desk.receive(ITEM, job, claimed)
        self.desk.discard(job)
        assert self.office.names() == []


def test_an_encoded_update_is_taken_decoded(office: Office) -> None:
    encoded = EncodedOffice(office, INT8)
    job = encoded.job()
    order = decode_order(job.order)
    assert isinstance(order, TrainOrder)
    assert order.compression == INT8
    assert order.client_state_output is None
    received = encoded.desk.receive(ITEM, job, encoded.deliver(job)).update.tensors
    assert ENCODED_NAME not in received
    np.testing.assert_allclose(received["policy/weight"], WEIGHT, atol=3.0 / 127)
    assert received["policy/weight"].dtype == np.float32
    found = RoundDesk(encoded.files).salvage(ITEM)
    assert found is not None
    np.testing.assert_array_equal(found.update.tensors["policy/weight"], received["policy/weight"])
    assert encoded.desk.client_state(ITEM) is None


def test_an_update_that_was_not_encoded_is_refused_and_the_other_way_round(office: Office) -> None:
    encoded = EncodedOffice(office, INT8)
    job = encoded.job()
    claimed = encoded.deliver(job, changes={"policy/weight": WEIGHT})
    encoded.refuses(job, claimed, r"result\.safetensors: .* policy/weight beside it")
    other = EncodedOffice(office, CompressionSpec("fp16"))
    job = encoded.job()
    sent, _ = compress({"policy/weight": WEIGHT}, other.spec, 0)
    encoded.refuses(job, encoded.deliver(job, changes=sent), "the header says")


def test_what_is_decoded_is_screened(office: Office) -> None:
    encoded = EncodedOffice(office, INT8)
    job = encoded.job()
    far, _ = compress({"policy/weight": WEIGHT * 1e4}, INT8, 0)
    encoded.refuses(job, encoded.deliver(job, changes=far), "moves a number by more than 10000")


def test_the_feedback_is_kept_and_handed_out(office: Office, tmp_path: Path) -> None:
    encoded = EncodedOffice(office, TOPK)
    job = encoded.job()
    received = encoded.desk.receive(ITEM, job, encoded.deliver(job)).update.tensors
    assert received["policy/weight"].reshape(-1).tolist() == [3, 0, 0, 0, -2, 0, 0, 0]
    state = encoded.desk.client_state(ITEM)
    assert state is not None
    path = tmp_path / "client-001.safetensors"
    path.write_bytes(state.read_bytes())
    files = replace(encoded.files, client_states={1: (state_reference(path, path.name), path)})
    order = RoundDesk(files).order(ITEM)
    assert order.client_state is not None
    assert order.client_state_output == STATE_OUTPUT_NAME
    # and after a crash both are found again
    assert RoundDesk(encoded.files).salvage(ITEM) is not None


@pytest.mark.parametrize(
    ("feedback", "message"),
    [
        (np.zeros(7, np.float32), r"feedback/update must be float32\[8\]"),
        (np.zeros(8), r"feedback/update must be float32\[8\]"),
        (np.full(8, np.nan, np.float32), "not finite"),
        (np.full(8, 3.1, np.float32), r"holds 3\.1, where an update of at most 3 can leave 3\.003"),
    ],
)
def test_feedback_that_no_codec_leaves_is_refused(
    office: Office, feedback: np.ndarray, message: str
) -> None:
    """Or it would stand in the next update, for which another provider had to answer."""
    encoded = EncodedOffice(office, TOPK)
    job = encoded.job()
    encoded.refuses(job, encoded.deliver(job, feedback=feedback), message)


def test_a_state_must_have_all_that_is_kept(keeping: Office) -> None:
    encoded = EncodedOffice(keeping, TOPK)
    job = encoded.job()
    with pytest.raises(UpdateRejected, match="lacks replay/"):
        encoded.desk.receive(ITEM, job, encoded.deliver(job))
