"""Reads what providers sent for orders of one round; nothing is taken on trust, nothing kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from provider_image.wire import (
    POLICY_PREFIX,
    Bundle,
    ClientStateMetadata,
    FileRef,
    TensorSpec,
    TrainResult,
    WireError,
    decode_metadata,
    feedback_count,
    read_bundle,
    restore,
    result_bytes,
    specs_of,
    work_digest,
)
from requestor.federation.client_states import (
    FeedbackAssignment,
    StateAssignment,
    screen_client_state,
)
from requestor.federation.rounds import ClientUpdate, WorkItem
from requestor.federation.screening import Assignment, UpdateRejected, screen_update
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.training_run.orders.round_files import RESULT_NAME, STATE_OUTPUT_NAME, RoundFiles


class ResultReader:
    """Checks results, and the states that come with them, against what was ordered."""

    def __init__(self, files: RoundFiles) -> None:
        """Read results of the round that `files` describe."""
        self._files = files
        self.result_bytes = result_bytes(files.model_specs, files.compression)
        self._layouts: dict[int, dict[str, TensorSpec]] = {}

    def read(
        self,
        item: WorkItem,
        order_sha256: str,
        path: Path,
        sha256: str | None,
        source: Source | None,
    ) -> Delivery:
        """Read what came in for an item: the answer to its order.

        Raises:
            WireError: the file is not what the format says.
            UpdateRejected: the content is not what was ordered.
        """
        files = self._files
        bundle = _received(path, RESULT_NAME, self.result_bytes, sha256)
        result = decode_metadata(bundle, TrainResult)
        if result.order_sha256 != order_sha256:
            raise UpdateRejected("the result belongs to another order")
        tensors = bundle.tensors
        if files.compression is not None:
            tensors = restore(tensors, files.compression, files.model_specs, source=RESULT_NAME)
        assignment = Assignment(
            files.model_specs, item.local_steps, files.environment.n_envs, item.episodes
        )
        screen_update(tensors, result.steps, assignment)
        return Delivery(
            ClientUpdate(item, tensors, source.voice if source is not None else ""),
            dict(result.metrics),
            order_sha256=order_sha256,
            result_sha256=work_digest(tensors, None),
            links=result.links,
            source=source,
        )

    def with_state(
        self,
        delivery: Delivery,
        handed_out: tuple[FileRef, Path] | None,
        path: Path,
        sha256: str | None,
    ) -> Delivery:
        """Check that a client's state is one that the learner can have left beside an update.

        Return the delivery with a digest of both. `handed_out` is the state that the order had.

        Raises:
            WireError: the file is not what the format says.
            UpdateRejected: the content is not what the learner leaves.
        """
        files, update, item = self._files, delivery.update, delivery.update.item
        bundle = _received(path, STATE_OUTPUT_NAME, files.max_state_bytes, sha256)
        assignment = StateAssignment(
            run_id=files.run_id,
            client=item.client,
            round=item.round,
            local_steps=item.local_steps,
            n_envs=files.environment.n_envs,
            learner=files.learner,
            rules=files.rules,
            model_specs=files.model_specs,
            previous=self._layout(item.client, handed_out),
            feedback=self._feedback(update),
        )
        metadata = decode_metadata(bundle, ClientStateMetadata)
        screen_client_state(bundle.tensors, metadata, assignment)
        return replace(delivery, result_sha256=work_digest(update.tensors, bundle.tensors))

    def _feedback(self, update: ClientUpdate) -> FeedbackAssignment | None:
        files = self._files
        if files.compression is None or not files.compression.feedback:
            return None
        sent = [
            float(np.abs(tensor).max(initial=0.0))
            for name, tensor in update.tensors.items()
            if name.startswith(POLICY_PREFIX)
        ]
        return FeedbackAssignment(feedback_count(files.model_specs), max(sent, default=0.0))

    def _layout(
        self, client: int, handed_out: tuple[FileRef, Path] | None
    ) -> dict[str, TensorSpec] | None:
        """Return the layout of the state that a client's order hands out."""
        if handed_out is None:
            return None
        if client not in self._layouts:
            reference, path = handed_out
            try:
                bundle = read_bundle(path, max_bytes=reference.bytes, sha256=reference.sha256)
            except WireError as error:  # our own file: no provider is to blame
                raise OSError(f"{path} is damaged: {error}") from error
            self._layouts[client] = specs_of(bundle.tensors)
        return self._layouts[client]


def _received(path: Path, name: str, max_bytes: int, sha256: str | None) -> Bundle:
    """Read what a worker sent as `name`, under which complaints about it make sense."""
    try:
        return read_bundle(path, max_bytes=max_bytes, sha256=sha256)
    except WireError as error:
        raise WireError(str(error).replace(path.name, name)) from error
