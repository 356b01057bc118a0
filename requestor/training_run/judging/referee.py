"""The referee judges models on held-out episodes and says which one is the global model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from provider_image.wire import FileRef, ModelMetadata, decode_metadata
from requestor.errors import PreflightError
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorkerError
from requestor.federation.seeds import derive_seed, held_out_seeds
from requestor.training_run import events
from requestor.training_run.checkpoints import BestModel, Checkpoint, CheckpointStore
from requestor.training_run.judging.server_steps import ServerSteps
from requestor.training_run.judging.trials import JudgedTrials
from requestor.training_run.run_directory import RunDirectory, write_whole
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class Candidate:
    """A merged model that wants to be the global one, after `round` rounds.

    `merge_state` is what its merge left for the next one.
    """

    round: int
    total_steps: int
    tensors: Mapping[str, NDArray[Any]]
    merge_state: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Referee:
    """Evaluates, publishes, rolls back and exports the models of one run."""

    def __init__(
        self,
        settings: RunSettings,
        judge: Judge,
        store: CheckpointStore,
        *,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float],
    ) -> None:
        """Judge with `judge`, keep models in `store`."""
        self._settings = settings
        self._judge = judge
        self._store = store
        self._emit = emit
        self._clock = clock
        run_seed = settings.federation.run_seed
        evaluation = settings.evaluation
        self._model_seed = derive_seed(run_seed, "model")
        self._held_out = held_out_seeds(run_seed, "evaluation", evaluation.episodes)
        self._final = held_out_seeds(run_seed, "final evaluation", evaluation.final_episodes)

    async def first_checkpoint(self) -> Checkpoint:
        """Make the untrained model and judge it.

        Raises:
            PreflightError: environment or hyperparameters do not work on this machine.
        """
        try:
            bundle = await self._judge.initialise(self._settings.terms.run_id, self._model_seed)
        except LocalWorkerError as error:
            raise PreflightError(
                f"the model can't be made on this machine: {error.message}",
                fix="correct env and algo in the config, or install what they need",
            ) from error
        metadata = decode_metadata(bundle, ModelMetadata)
        model = self._store.save_model(_model_name(0), bundle.tensors, metadata)
        result = await self._evaluate(model, 0, "initial")
        return Checkpoint(
            round=0,
            total_steps=0,
            model=model,
            judged=model,
            judged_returns=result.returns,
            best=BestModel(model, result.mean_return, 0),
        )

    async def decide(self, parent: Checkpoint, candidate: Candidate) -> Checkpoint:
        """Return the checkpoint after the round: with the candidate, or with its last judged
        ancestor if the candidate cannot play or is worse than that beyond doubt.

        The merge's state goes with the model: momentum that led to a model that is rolled back is
        rolled back too, to what it was when the ancestor was merged.
        """
        metadata = decode_metadata(self._store.load(parent.model), ModelMetadata)
        name = _model_name(candidate.round)
        model = self._store.save_model(name, dict(candidate.tensors), metadata)
        after = replace(
            parent,
            round=candidate.round,
            total_steps=candidate.total_steps,
            model=model,
            merge_state=self._store.save_merge_state(candidate.round, dict(candidate.merge_state)),
        )
        back = replace(after, model=parent.judged, merge_state=parent.judged_merge_state)
        number = candidate.round - 1
        arrays = (*candidate.tensors.values(), *candidate.merge_state.values())
        if not all(np.isfinite(array).all() for array in arrays):
            self._emit(events.ModelRolledBack(number, None, "it has values that are not finite"))
            return back
        if not self._is_judged(candidate.round):
            return after
        try:
            result = await self._evaluate(model, candidate.round, "candidate")
        except LocalOrderFailed as error:
            # updates may be finite each and yet make a model that nothing can be played with
            self._emit(events.ModelRolledBack(number, None, f"it can't play: {error.message}"))
            return back
        verdict = self._settings.evaluation.gate(parent.judged_returns, result.returns)
        if not verdict.is_published:
            self._emit(events.ModelRolledBack(number, verdict.mean_difference, verdict.reason))
            return back
        is_best = result.mean_return >= parent.best.mean_return
        self._emit(events.ModelPublished(number, verdict.mean_difference, is_best))
        best = BestModel(model, result.mean_return, candidate.round) if is_best else parent.best
        after = replace(
            after,
            judged=model,
            judged_returns=result.returns,
            judged_merge_state=after.merge_state,
            best=best,
        )
        return await self._with_target(after, result)

    def server_steps(self, model: FileRef) -> ServerSteps:
        """Return what takes the server's own steps from `model`."""
        return ServerSteps(self._settings, self._judge, self._store.path(model))

    def trials(self, model: FileRef) -> JudgedTrials:
        """Return trials of models like `model`."""
        metadata = decode_metadata(self._store.load(model), ModelMetadata)
        return JudgedTrials(
            self._settings, self._judge, metadata, lambda text: self._emit(events.Notice(text))
        )

    async def final(self, checkpoint: Checkpoint) -> Evaluation:
        """Judge the run's last model on episodes that no round was judged on."""
        if checkpoint.final_returns is not None and checkpoint.final_lengths is not None:
            return Evaluation(checkpoint.final_returns, checkpoint.final_lengths)
        return await self._evaluate(checkpoint.model, checkpoint.round, "final")

    async def export(self, checkpoint: Checkpoint, folder: RunDirectory) -> None:
        """Write the last and the best model in Stable-Baselines3's own format.

        A model that has none (algorithm `pg`) is copied as the bundle that it is.
        """
        if self._settings.learner.algorithm == "pg":
            for model, bundle in (
                (checkpoint.model, folder.model_bundle),
                (checkpoint.best.model, folder.best_model_bundle),
            ):
                write_whole(bundle, self._store.path(model).read_bytes())
            return
        for model, archive, normalizer in (
            (checkpoint.model, folder.model, folder.normalizer),
            (checkpoint.best.model, folder.best_model, folder.best_normalizer),
        ):
            await self._judge.export(self._store.path(model), self._model_seed, archive, normalizer)

    def _is_judged(self, done: int) -> bool:
        every = self._settings.evaluation.every_rounds
        return done % every == 0 or done == self._settings.federation.rounds

    async def _with_target(self, checkpoint: Checkpoint, result: Evaluation) -> Checkpoint:
        """Mark the target as reached, once the final episodes confirm it."""
        target = self._settings.evaluation.target_return
        if target is None or result.mean_return < target:
            return checkpoint
        try:
            final = await self._evaluate(checkpoint.model, checkpoint.round, "final")
        except LocalOrderFailed:
            return checkpoint  # it plays the episodes of a round, and fails in others
        if final.mean_return < target:
            return checkpoint
        return replace(
            checkpoint,
            is_target_reached=True,
            final_returns=final.returns,
            final_lengths=final.lengths,
        )

    async def _evaluate(self, model: FileRef, done: int, purpose: str) -> Evaluation:
        seeds = self._final if purpose == "final" else self._held_out
        started = self._clock()
        result = await self._judge.evaluate(
            self._store.path(model),
            seeds,
            deterministic=self._settings.evaluation.deterministic,
        )
        self._emit(
            events.Evaluated(
                round=done,
                purpose=purpose,
                episodes=len(result.returns),
                mean_return=result.mean_return,
                std_return=result.std_return,
                mean_length=result.mean_length,
                seconds=self._clock() - started,
            )
        )
        return result


def _model_name(done: int) -> str:
    return f"model-{done:05d}.safetensors"
