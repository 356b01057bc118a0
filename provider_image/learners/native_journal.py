"""What a native round reports of itself, under SB3's logger names."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from native_kernels.ppo import UpdateReport
from provider_image.learners.native_choice import Stepping, stepping_of
from provider_image.learners.native_collecting import Collector
from provider_image.learners.native_plan import NativePlan
from provider_image.wire import TrainOrder

STEPPING_METRIC: dict[Stepping, float] = {"gymnasium": 0.0, "batch": 1.0, "fused": 2.0}
"""`rollout/native_stepping`: how much of the rollout was native."""


class Journal:
    """What a round reports, under SB3's logger names; the last value of each counts."""

    def __init__(self, plan: NativePlan, order: TrainOrder, epochs: int) -> None:
        """Begin with nothing but the passes over rollouts that were before, with a link's state."""
        self._plan, self._order = plan, order
        self._window: deque[tuple[float, int]] = deque(
            maxlen=plan.hyperparameters.stats_window_size
        )
        self._rows: dict[str, float] = {}
        self.episodes = 0
        self.epochs = epochs

    def note(self, collector: Collector, report: UpdateReport, number: int) -> None:
        """Take in the rollout and the update of iteration `number`, from 1."""
        lengths = collector.episode_lengths
        self.episodes += len(lengths)
        self._window.extend(zip(collector.episode_returns.tolist(), lengths.tolist(), strict=True))
        self.epochs += report.epochs
        order, given = self._order, self._plan.hyperparameters
        done = order.steps_done + number * given.n_steps * order.environment.n_envs
        self._rows |= {
            "time/iterations": number,
            "time/total_timesteps": done,
            "train/approx_kl": report.approx_kl,
            "train/clip_fraction": report.clip_fraction,
            "train/entropy_loss": report.entropy_loss,
            "train/explained_variance": report.explained_variance,
            "train/loss": report.loss,
            "train/n_updates": self.epochs,
            "train/policy_gradient_loss": report.policy_gradient_loss,
            "train/value_loss": report.value_loss,
        }
        for name, value in self._plan.scheduled_at(done / order.steps_total).items():
            self._rows[f"train/{name}"] = value

    def metrics(self, parameters: npt.NDArray[np.float32]) -> dict[str, float]:
        """All finite values; `parameters` are the trained ones."""
        rows = dict(self._rows)
        rows["rollout/native_stepping"] = STEPPING_METRIC[stepping_of(self._order.environment)]
        if self._window:
            rows["rollout/ep_rew_mean"] = sum(r for r, _ in self._window) / len(self._window)
            rows["rollout/ep_len_mean"] = sum(n for _, n in self._window) / len(self._window)
        if self._plan.shape.distribution == "gaussian":
            log_std = parameters[: self._plan.shape.action_size].astype(np.float64)
            rows["train/std"] = float(np.exp(log_std).mean())
        return {name: float(value) for name, value in rows.items() if math.isfinite(value)}
