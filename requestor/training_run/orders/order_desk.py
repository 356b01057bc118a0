"""Orders and results of one round: files out, files in, and kept until the round is closed.

Read next: `result_reading.py`, by which nothing is taken on trust.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from provider_image.wire import (
    FileRef,
    GradientSpec,
    TrainOrder,
    WireError,
    encode_order,
    order_digest,
)
from requestor.federation.rounds import WorkItem
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import Job, OutputFile
from requestor.training_run.orders.deliveries import Delivery, Rejection, Source
from requestor.training_run.orders.delivery_notes import DeliveryNotes
from requestor.training_run.orders.result_reading import ResultReader
from requestor.training_run.orders.round_files import (
    MODEL_NAME,
    RESULT_NAME,
    STATE_NAME,
    STATE_OUTPUT_NAME,
    RoundFiles,
)


class RoundDesk:
    """The `open_round.OrderDesk` of one round.

    A result that passed is kept in the inbox under its order's digest until the round is closed:
    an order is a pure function of its content, so after a crash the same round finds it again.
    """

    def __init__(self, files: RoundFiles) -> None:
        """Serve the round that `files` describe."""
        self._files = files
        self._notes = DeliveryNotes(files.inbox)
        self._reader = ResultReader(files)
        self._without_state: set[int] = set()

    @property
    def files(self) -> RoundFiles:
        """What the orders of the round have in common."""
        return self._files

    def order(self, item: WorkItem) -> TrainOrder:
        """Return the order of an item; it depends on nothing but config, model, item and state."""
        files = self._files
        state = self._state(item)
        return TrainOrder(
            run_id=files.run_id,
            round=item.round,
            client=item.client,
            seed=item.seed,
            environment=files.environment,
            learner=files.learner,
            rules=files.rules,
            compression=files.compression,
            local_steps=item.local_steps,
            steps_done=item.steps_done,
            steps_total=item.steps_total,
            model=_renamed(files.model, MODEL_NAME),
            client_state=_renamed(state[0], STATE_NAME) if state else None,
            output=RESULT_NAME,
            client_state_output=STATE_OUTPUT_NAME if files.client_has_state else None,
            gradient=(
                GradientSpec(episodes=item.episodes, is_difference=item.is_difference)
                if item.episodes
                else None
            ),
        )

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        """Return the job of an item; see `open_round.OrderDesk`."""
        files = self._files
        inputs = {MODEL_NAME: files.model_path}
        digests = {MODEL_NAME: files.model.sha256}
        if (state := self._state(item)) is not None:
            reference, path = state
            inputs[STATE_NAME], digests[STATE_NAME] = path, reference.sha256
        stem = f"in-r{item.round:05d}-c{item.client:03d}-{attempt}-{os.getpid()}"
        outputs = {
            RESULT_NAME: OutputFile(files.inbox / f"{stem}.result", self._reader.result_bytes)
        }
        if files.client_has_state:
            outputs[STATE_OUTPUT_NAME] = OutputFile(
                files.inbox / f"{stem}.state", files.max_state_bytes
            )
        return Job(
            order=encode_order(self.order(item)),
            inputs=inputs,
            input_digests=digests,
            outputs=outputs,
            deadline_seconds=files.order_timeout_seconds,
        )

    def receive(
        self,
        item: WorkItem,
        job: Job,
        claimed: Mapping[str, str],
        source: Source | None = None,
    ) -> Delivery:
        """Read, check and keep what a lease delivered; see `open_round.OrderDesk`."""
        delivery = self.inspect(item, job, claimed, source)
        digest = delivery.order_sha256
        result = job.outputs[RESULT_NAME].path
        state = job.outputs[STATE_OUTPUT_NAME].path if STATE_OUTPUT_NAME in job.outputs else None
        if self._result_path(digest).exists():
            return delivery  # a late copy: what came first stays, with the state that belongs to it
        self._notes.write_source(digest, source)
        if state is not None:
            os.replace(state, self._state_path(digest))
        os.replace(result, self._result_path(digest))
        return delivery

    def inspect(
        self,
        item: WorkItem,
        job: Job,
        claimed: Mapping[str, str],
        source: Source | None = None,
    ) -> Delivery:
        """Read and check what a lease delivered, and keep nothing; see `errands.ErrandDesk`."""
        missing = set(job.outputs) - set(claimed)
        if missing:
            raise WireError(f"the worker reports no digest of {', '.join(sorted(missing))}")
        order_sha256, result = order_digest(self.order(item)), job.outputs[RESULT_NAME].path
        reader = self._reader
        delivery = reader.read(item, order_sha256, result, claimed[RESULT_NAME], source)
        if STATE_OUTPUT_NAME in job.outputs:
            path, sha256 = job.outputs[STATE_OUTPUT_NAME].path, claimed[STATE_OUTPUT_NAME]
            delivery = reader.with_state(delivery, self._state(item), path, sha256)
        return delivery

    def discard(self, job: Job) -> None:
        """Delete what a job left behind."""
        for output in job.outputs.values():
            with contextlib.suppress(OSError):
                output.path.unlink()

    def reject(self, item: WorkItem, rejection: Rejection) -> None:
        """Drop an item's kept result; see `open_round.OrderDesk`."""
        digest = order_digest(self.order(item))
        self._notes.add_rejection(digest, rejection)
        self._drop(digest)

    def rejections(self, item: WorkItem) -> tuple[Rejection, ...]:
        """Return what was rejected of an item; see `open_round.OrderDesk`."""
        return self._notes.rejections(order_digest(self.order(item)))

    def _drop(self, digest: str) -> None:
        self._result_path(digest).unlink(missing_ok=True)
        self._state_path(digest).unlink(missing_ok=True)

    def has_state(self, item: WorkItem) -> bool:
        """Tell whether the order hands its client a state; see `open_round.OrderDesk`."""
        return self._state(item) is not None

    def leave_state_out(self, item: WorkItem) -> None:
        """Order an item without its client's state; see `open_round.OrderDesk`."""
        self._without_state.add(item.client)

    def salvage(self, item: WorkItem) -> Delivery | None:
        """Return an item's kept result, checked as if it had just come in.

        It may be that of the order without the client's state, if that was what went out last.
        """
        delivery = self._salvage(item)
        if delivery is None and self.has_state(item):
            self._without_state.add(item.client)
            delivery = self._salvage(item)
            if delivery is None:
                self._without_state.remove(item.client)
        return delivery

    def _salvage(self, item: WorkItem) -> Delivery | None:
        digest = order_digest(self.order(item))
        path = self._result_path(digest)
        if not path.exists():
            return None
        try:
            delivery = self._reader.read(item, digest, path, None, self._notes.source(digest))
            if self._files.client_has_state:
                state = self._state_path(digest)
                delivery = self._reader.with_state(delivery, self._state(item), state, None)
            rejected = {(one.result_sha256, one.voice) for one in self._notes.rejections(digest)}
            if (delivery.result_sha256, delivery.update.voice) in rejected:
                # a crash came between the note and the file
                self._drop(digest)
                return None
            return delivery
        except (WireError, UpdateRejected, OSError):
            path.unlink(missing_ok=True)
            return None

    def client_state(self, item: WorkItem) -> Path | None:
        """Return where the state that the client keeps for its next round lies."""
        if not self._files.client_has_state:
            return None
        return self._state_path(order_digest(self.order(item)))

    def clear(self) -> None:
        """Empty the inbox: the round is closed. Late copies may still be coming in; they stay."""
        arriving = f"-{os.getpid()}"
        for path in self._files.inbox.iterdir():
            if not path.stem.endswith(arriving):
                path.unlink(missing_ok=True)

    def _state(self, item: WorkItem) -> tuple[FileRef, Path] | None:
        if item.client in self._without_state:
            return None
        return self._files.client_states.get(item.client)

    def _result_path(self, digest: str) -> Path:
        return self._files.inbox / f"{digest}.result"

    def _state_path(self, digest: str) -> Path:
        return self._files.inbox / f"{digest}.state"


def _renamed(file: FileRef, name: str) -> FileRef:
    return FileRef(name=name, sha256=file.sha256, bytes=file.bytes)
