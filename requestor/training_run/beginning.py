"""How a run begins, or goes on: from its newest checkpoint, with the learner of its first model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from provider_image.wire import ModelMetadata, decode_metadata, settled
from requestor.training_run import events
from requestor.training_run.checkpoints import CheckpointStore
from requestor.training_run.judging.referee import Referee
from requestor.training_run.progress import Progress
from requestor.training_run.settings import RunSettings


async def begin(
    settings: RunSettings,
    store: CheckpointStore,
    referee: Referee,
    emit: Callable[[events.Event], None],
) -> tuple[RunSettings, Progress]:
    """Return the settings that hold for every order of the run, and where it stands.

    Raises:
        PreflightError: environment or hyperparameters do not work on this machine.
    """
    rounds = settings.federation.rounds
    newest = store.latest()
    if newest is None:
        progress = Progress(await referee.first_checkpoint(), rounds, store, emit)
        progress.write(progress.checkpoint)
    else:
        progress = Progress(newest, rounds, store, emit)
    bundle = store.load(progress.checkpoint.model)
    policy = [tensor for name, tensor in bundle.tensors.items() if name.startswith("policy/")]
    metadata = decode_metadata(bundle, ModelMetadata)
    settings = _settled(settings, metadata)
    fed, learner = settings.federation, settings.learner.learner
    emit(
        events.RunStarted(
            run_id=settings.terms.run_id,
            name=settings.name,
            rounds=fed.rounds,
            clients=fed.clients,
            local_steps=fed.local_steps,
            budget_glm=f"{settings.terms.budget_glm:f}",
            round=progress.checkpoint.round,
            is_resumed=newest is not None,
            parameters=sum(tensor.size for tensor in policy),
            target_return=settings.evaluation.target_return,
            learner=learner,
            learner_reason=metadata.learner_reason,
        )
    )
    emit(events.Notice(f"learner {learner}: {metadata.learner_reason}"))
    return settings, progress


def _settled(settings: RunSettings, metadata: ModelMetadata) -> RunSettings:
    """Let every order of the run be executed by the learner that made its first model."""
    learner = settled(settings.learner, metadata)
    terms = dataclasses.replace(settings.terms, learner=learner.learner)
    return dataclasses.replace(settings, learner=learner, terms=terms)
