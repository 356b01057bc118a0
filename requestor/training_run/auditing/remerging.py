"""Merges a round again, from its items done again.

Where a merge was chosen by playing, the same mixtures play the same episodes once more; where the
server took steps of its own, it takes them once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from provider_image.wire import (
    MAX_FILE_BYTES,
    Bundle,
    ModelMetadata,
    WireError,
    decode_metadata,
    read_bundle,
    tensors_digest,
)
from requestor.errors import RunFailed
from requestor.evaluation.judge import Judge
from requestor.federation.merging.judged import UNPLAYABLE, Evolutionary
from requestor.federation.rounds import RoundPlan, WorkItem, plan_round
from requestor.training_run.auditing.provenance_log import ProvenanceFolder
from requestor.training_run.judging.round_closing import RoundCloser
from requestor.training_run.judging.server_steps import ServerSteps
from requestor.training_run.judging.trials import JudgedTrials, Trials
from requestor.training_run.orders.deliveries import Delivery, Harvest
from requestor.training_run.settings import RunSettings
from requestor.trust.provenance import RoundRecord

Outcome = Literal["verified", "differs", "incomparable"]
Found = tuple[Outcome, str]
"""What came of doing something again, and why where it is not `verified`."""


@dataclass(frozen=True)
class Remerging:
    """Merges rounds of the run of `settings` again; `judge` plays, and takes the server's steps.

    config_sha256: the digest of the run's config as it is now.
    plays_alike: whether play, and the server's steps, are the same bits on every honest machine.
    """

    settings: RunSettings
    folder: ProvenanceFolder
    judge: Judge
    config_sha256: str
    plays_alike: bool

    async def merge(self, record: RoundRecord, deliveries: Sequence[Delivery]) -> Found:
        """Merge what a round merged; `deliveries` are all of it, verified, in client order.

        `differs` is said only where no honest machine could have come to another candidate.
        """
        base = self.folder.file(record.base_sha256)
        try:
            began = self._read(record.base_sha256)
            metadata = decode_metadata(began, ModelMetadata)
            has_state = bool(record.merge_state_sha256)
            state = dict(self._read(record.merge_state_sha256).tensors) if has_state else {}
        except (OSError, WireError) as error:
            return "incomparable", f"what the merge began with is not there: {error}"
        plan = plan_round(self.settings.federation, record.round)
        played = JudgedTrials(self.settings, self.judge, metadata, lambda _: None)
        trials = _Watched(played)
        closer = RoundCloser(self.settings, trials, ServerSteps(self.settings, self.judge, base))
        harvest = _harvest(record, plan.items, deliveries)
        try:
            outcome = await closer.close(plan, began.tensors, harvest, state=state)
        except (RunFailed, ValueError) as error:
            return "incomparable", str(error)
        if tensors_digest(outcome.candidate) == record.candidate_sha256:
            return "verified", ""
        if doubt := self._doubt(record, plan, trials):
            return "incomparable", doubt
        return "differs", "merged again, its items make another candidate"

    def _read(self, sha256: str) -> Bundle:
        return read_bundle(self.folder.file(sha256), max_bytes=MAX_FILE_BYTES, sha256=sha256)

    def _doubt(self, record: RoundRecord, plan: RoundPlan, trials: _Watched) -> str:
        """Return why an honest merge may have come out otherwise; empty where it cannot have."""
        judged = self.settings.merger.judged
        is_other_config = record.config_sha256 != self.config_sha256
        if is_other_config and record.merge != repr(self.settings.merger)[:2000]:
            return "the run's config was changed since, and says another merge"
        if judged is None and plan.gradient is None:
            return ""
        if is_other_config:
            return "the run's config was changed since: other episodes may have been played"
        if trials.unplayable:
            return f"nothing could be played here with {trials.unplayable} of its mixtures"
        if not self.plays_alike:
            what = "it was chosen by playing" if judged else "the server's own steps follow it"
            return f"{what}, and another kind of machine may make other bits of that"
        if isinstance(judged, Evolutionary):
            return _search_doubt(judged, record)
        return ""


@dataclass
class _Watched:
    """Trials that count the models with which nothing could be played."""

    trials: Trials
    unplayable: int = field(default=0)

    async def score(
        self, round_index: int, tensors: Mapping[str, NDArray[Any]], episodes: int
    ) -> float:
        """Return the mean return of a model; see `Trials`."""
        score = await self.trials.score(round_index, tensors, episodes)
        is_finite = all(np.isfinite(tensor).all() for tensor in tensors.values())
        self.unplayable += score == UNPLAYABLE and is_finite
        return score

    def tell(self, text: str) -> None:
        """Tell nobody."""


def _search_doubt(judged: Evolutionary, record: RoundRecord) -> str:
    """Return why a search may have asked for other mixtures."""
    if judged.search == "cma":
        return "its search is CMA-ES, which may ask for other mixtures on another kind of machine"
    for package in ("numpy", "scipy"):
        then, now = record.packages.get(package, ""), _version(package)
        if then != now:
            return f"its search ran with {package} {then or '(not recorded)'}, here it is {now}"
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _harvest(
    record: RoundRecord, items: Sequence[WorkItem], deliveries: Sequence[Delivery]
) -> Harvest:
    refused = {one.client for one in record.refused}
    return Harvest(tuple(deliveries), {item: () for item in items if item.client in refused})
