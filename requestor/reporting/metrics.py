"""Metrics: one flat row for each round, under the names that Stable-Baselines3 uses.

`rollout/...` and `train/...` are the means of what the workers claim, for curves only; nothing is
decided by them. `eval/...` is measured on our own machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.provider_view import ProviderView, RoundView
from requestor.reporting.run_view import RunView
from requestor.training_run.events import CheckpointWritten, Event, RunStarted
from requestor.training_run.json_lines import JsonLines, read_json_lines

MetricsRow = dict[str, float]
"""Values by name. `fed/round` counts from 1; `unix_seconds` is when the round was safe."""

MAX_CLAIMED_NAMES = 64
MAX_CLAIMED_VALUE = 1e30
_CLAIMED_NAME = re.compile(r"(rollout|train)/[A-Za-z0-9_.-]{1,48}")
_UNSAFE_IN_TAG = re.compile(r"[^A-Za-z0-9._-]+")


class RoundMetrics:
    """Makes rows of events; pure."""

    def __init__(self) -> None:
        """Start before the first event."""
        self._view = RunView()

    def apply(self, event: Event, unix_seconds: float) -> list[MetricsRow]:
        """Take in an event; return the rows that it completes.

        A round counts once its checkpoint is written. Where a crash came between the checkpoint
        and its event, the next session's start completes the row.
        """
        at = unix_seconds
        open_before: list[int] = []
        if isinstance(event, RunStarted):
            at = self._view.last_unix_seconds
            open_before = [
                number
                for number, entry in self._view.rounds.items()
                if entry.merged_clients is not None and not entry.is_checkpointed
            ]
            open_before = [number for number in open_before if number <= event.round]
            elapsed = self._view.elapsed_seconds()
        self._view.apply(event, unix_seconds)
        if isinstance(event, RunStarted):
            return [self._row(number, at, elapsed) for number in open_before]
        if isinstance(event, CheckpointWritten):
            entry = self._view.rounds.get(event.round)
            if entry is not None and entry.merged_clients is not None:
                return [self._row(event.round, at, self._view.elapsed_seconds())]
        return []

    def _row(self, number: int, unix_seconds: float, elapsed_seconds: float) -> MetricsRow:
        view, entry = self._view, self._view.rounds[number]
        merged = entry.merged_clients or ()
        row: MetricsRow = {
            "unix_seconds": round(unix_seconds, 3),
            "time/total_timesteps": entry.total_steps,
            "time/time_elapsed": round(elapsed_seconds, 3),
            "time/fps": int(entry.total_steps / elapsed_seconds) if elapsed_seconds > 0 else 0,
            "fed/round": number,
            "fed/workers_ok": len(merged),
            "fed/rejected": entry.rejected,
            "fed/screened": entry.screened,
            "fed/failed_orders": entry.failed_orders,
            "fed/copies": entry.copies,
            "fed/seconds": round(entry.seconds, 3),
            "cost/glm_total": float(view.cost_glm),
        }
        if entry.total_steps:
            row["cost/glm_per_million_steps"] = float(
                view.cost_glm * 1_000_000 / entry.total_steps
            )
        if (price := view.glm_per_return_point()) is not None:
            row["cost/glm_per_return_point"] = float(price)
        if entry.is_published is not None:
            row["fed/published"] = int(entry.is_published)
        if entry.evaluation is not None:
            row["eval/mean_reward"] = entry.evaluation.mean_return
            row["eval/mean_ep_length"] = entry.evaluation.mean_length
        row |= mean_of_claims([entry.claimed[c] for c in merged if c in entry.claimed])
        row |= self._provider_speeds(entry)
        row |= self._provider_costs(entry)
        return {name: value for name, value in row.items() if _is_finite(value)}

    def _provider_speeds(self, entry: RoundView) -> MetricsRow:
        speeds: MetricsRow = {}
        for provider_id, seconds in sorted(entry.provider_seconds.items()):
            if seconds > 0:
                tag = _tag(self._view, self._view.providers[provider_id])
                speed = entry.provider_steps[provider_id] / seconds
                speeds[f"provider/{tag}/steps_per_s"] = round(speed, 3)
        return speeds

    def _provider_costs(self, entry: RoundView) -> MetricsRow:
        """What those who worked in this round have cost and done in the whole run so far."""
        view = self._view
        costs: MetricsRow = {}
        for provider_id in sorted(entry.provider_steps.keys() & view.provider_glm.keys()):
            provider = view.providers[provider_id]
            tag = f"cost/provider/{_tag(view, provider)}"
            glm = view.provider_cost_glm(provider)
            costs[f"{tag}/glm"] = float(glm)
            costs[f"{tag}/steps"] = provider.useful_steps
            if provider.useful_steps:
                costs[f"{tag}/glm_per_million_steps"] = float(
                    glm * 1_000_000 / provider.useful_steps
                )
        return costs


def _tag(view: RunView, provider: ProviderView) -> str:
    return _UNSAFE_IN_TAG.sub("_", view.label(provider))


def mean_of_claims(claims: Iterable[Mapping[str, float]]) -> MetricsRow:
    """Return the mean of each metric over the clients that claim it.

    Only `rollout/` and `train/` names, at most `MAX_CLAIMED_NAMES` of them, and only finite values
    of a credible size: the names and numbers are strangers' words.
    """
    values: dict[str, list[float]] = {}
    for metrics in claims:
        for name, value in metrics.items():
            if not _CLAIMED_NAME.fullmatch(name) or not _is_finite(value):
                continue
            if abs(value) <= MAX_CLAIMED_VALUE and (
                name in values or len(values) < MAX_CLAIMED_NAMES
            ):
                values.setdefault(name, []).append(value)
    return {name: fmean(values[name]) for name in sorted(values)}


class MetricsWriter:
    """An `Observer` that appends the rows to `metrics.jsonl`, never twice for a round."""

    def __init__(self, path: Path, history: Iterable[TimedEvent] = ()) -> None:
        """Continue the file at `path`; rows that `history` has and the file lacks are added."""
        self._lines: JsonLines | None = JsonLines(path)
        self._written = {row["fed/round"] for row in read_metrics(path)}
        self._metrics = RoundMetrics()
        for unix_seconds, event in history:
            self.on_event(event, unix_seconds)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Write the row of a round that is complete."""
        for row in self._metrics.apply(event, unix_seconds):
            if row["fed/round"] not in self._written and self._lines is not None:
                self._lines.append(row)
                self._written.add(row["fed/round"])

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None


def read_metrics(path: Path) -> list[MetricsRow]:
    """Return the rows of a metrics file; none if it does not exist."""
    return [row for row in read_json_lines(path) if "fed/round" in row]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
