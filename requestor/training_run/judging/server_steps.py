"""The server's own training in a round of gradient estimates, by the worker on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from provider_image.wire import FileRef, GradientSpec, InnerSteps, Tensors, TrainOrder
from requestor.evaluation.judge import Judge, Refinement
from requestor.federation.gradient_merging import is_alone
from requestor.federation.rounds import RoundOutcome, RoundPlan
from requestor.federation.seeds import derive_seed
from requestor.training_run.settings import RunSettings

_UNNAMED = FileRef(name="model", sha256="0" * 64, bytes=0)


@dataclass(frozen=True)
class ServerSteps:
    """Takes the steps that follow a merge of what was learned of the model at `model_path`.

    The same seeds give the same model.
    """

    settings: RunSettings
    judge: Judge
    model_path: Path

    async def take(self, plan: RoundPlan, outcome: RoundOutcome) -> dict[str, np.ndarray]:
        """Return the model after the steps along the merged direction.

        Where the rule kept nobody's estimate, the direction is one of our own.

        Raises:
            LocalWorkerError: the worker on this machine failed.
        """
        assert plan.gradient is not None
        direction: Tensors = outcome.candidate
        federation, run_id = self.settings.federation, self.settings.terms.run_id
        if is_alone(outcome):
            direction = await self.judge.estimate(self.model_path, self._own_order(plan))
        inner = plan.gradient.inner
        refinement = Refinement(
            run_id=run_id,
            round=plan.round,
            seed=derive_seed(federation.run_seed, "server", plan.round),
            progress=plan.round / federation.rounds,
            inner=None
            if inner is None
            else InnerSteps(
                most=inner.most, episodes=inner.episodes, ratio_bound=inner.ratio_bound
            ),
        )
        return dict(await self.judge.refine(self.model_path, direction, refinement))

    def _own_order(self, plan: RoundPlan) -> TrainOrder:
        """The round's order, as if this machine were one client more."""
        assert plan.gradient is not None
        steps = plan.gradient.local_steps
        return TrainOrder(
            run_id=self.settings.terms.run_id,
            round=plan.round,
            client=len(plan.items),
            seed=derive_seed(
                self.settings.federation.run_seed, "client", plan.round, len(plan.items)
            ),
            environment=self.settings.environment,
            learner=self.settings.learner,
            rules=self.settings.rules,
            local_steps=steps,
            steps_done=0,
            steps_total=steps,
            model=_UNNAMED,
            output="estimate",
            gradient=GradientSpec(episodes=plan.gradient.episodes),
        )
