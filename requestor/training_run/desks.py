"""The desks of a run: each makes the orders of one round, out of the settings and a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provider_image.wire import FileRef, Tensors, specs_of
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import RoundFiles, state_reference
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class Desks:
    """Opens desks over the models and clients' states in `store`; results come in at `inbox`."""

    settings: RunSettings
    store: CheckpointStore
    inbox: Path

    def open(self, checkpoint: Checkpoint, model: Tensors) -> RoundDesk:
        """Return the desk of the round after `checkpoint`, whose model has these tensors."""
        states = {
            client: (file, self.store.path(file))
            for client, file in checkpoint.client_states.items()
        }
        settings = self.settings
        return RoundDesk(
            RoundFiles(
                run_id=settings.terms.run_id,
                environment=settings.environment,
                learner=settings.learner,
                rules=settings.rules,
                model=checkpoint.model,
                model_path=self.store.path(checkpoint.model),
                model_specs=specs_of(model),
                client_states=states,
                inbox=self.inbox,
                order_timeout_seconds=settings.order_timeout_seconds,
                compression=settings.compression,
            )
        )

    def keep_states(
        self, checkpoint: Checkpoint, desk: RoundDesk, deliveries: Sequence[Delivery]
    ) -> dict[int, FileRef]:
        """Move the states of a round's clients into the store; return those of all clients.

        Who delivered nothing in the round after `checkpoint` keeps the state it had.
        """
        kept = dict(checkpoint.client_states)
        for delivery in deliveries:
            item = delivery.update.item
            source = desk.client_state(item)
            if source is None:
                continue
            name = f"client-{item.client:03d}-{item.round + 1:05d}.safetensors"
            reference = state_reference(source, name)
            os.replace(source, self.store.path(reference))
            kept[item.client] = reference
        return kept
