"""Plays mixtures of a round's updates, for merges that look at how well models play."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from provider_image.wire import ModelMetadata, write_bundle
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.federation.merging.judged import UNPLAYABLE
from requestor.federation.seeds import held_out_seeds
from requestor.training_run.settings import RunSettings


class Trials(Protocol):
    """Says how well a model plays."""

    async def score(
        self, round_index: int, tensors: Mapping[str, NDArray[Any]], episodes: int
    ) -> float:
        """Return the mean return of a model, or `UNPLAYABLE`.

        Models of one round play the same episodes.
        """
        ...

    def tell(self, text: str) -> None:
        """Say what came of a round's trials."""
        ...


def trial_seeds(settings: RunSettings, round_index: int, episodes: int) -> Sequence[int]:
    """Return the seeds of a round's trials: none of them is one that models are published by."""
    run_seed, evaluation = settings.federation.run_seed, settings.evaluation
    published = {
        *held_out_seeds(run_seed, "evaluation", evaluation.episodes),
        *held_out_seeds(run_seed, "final evaluation", evaluation.final_episodes),
    }
    drawn = held_out_seeds(run_seed, f"merge {round_index}", episodes + len(published))
    return [seed for seed in drawn if seed not in published][:episodes]


@dataclass(frozen=True)
class JudgedTrials:
    """Trials on our own machine, with the run's own learner."""

    settings: RunSettings
    judge: Judge
    metadata: ModelMetadata
    notice: Callable[[str], None]

    async def score(
        self, round_index: int, tensors: Mapping[str, NDArray[Any]], episodes: int
    ) -> float:
        """Return the mean return of a model, or `UNPLAYABLE`."""
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            return UNPLAYABLE
        with tempfile.TemporaryDirectory(prefix="derl-trial-") as folder:
            path = Path(folder, "trial.safetensors")
            write_bundle(path, tensors, self.metadata)
            try:
                result = await self.judge.evaluate(
                    path,
                    trial_seeds(self.settings, round_index, episodes),
                    deterministic=self.settings.evaluation.deterministic,
                )
            except LocalOrderFailed:
                return UNPLAYABLE
        return result.mean_return

    def tell(self, text: str) -> None:
        """Say it as a notice of the run."""
        self.notice(text)
