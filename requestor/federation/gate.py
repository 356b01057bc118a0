"""May the merged model be published? A rule over returns that the requestor measured itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class GateVerdict:
    """The decision and the numbers behind it (returns, in the environment's own unit)."""

    is_published: bool
    mean_difference: float
    upper_bound: float
    reason: str


@dataclass(frozen=True)
class NotWorseGate:
    """Publish unless the candidate is worse than its parent beyond doubt.

    Both played the same held-out episodes. With d_i = candidate's minus parent's return of
    episode i, the candidate is rolled back if the upper end of the one-sided confidence interval
    of the mean difference, mean(d) + z(confidence) * stdev(d) / sqrt(E), lies below -tolerance.
    """

    confidence: float = 0.95
    tolerance: float = 0.0

    def __call__(self, parent: Sequence[float], candidate: Sequence[float]) -> GateVerdict:
        """Compare the returns `[E]` of parent and candidate, episode by episode.

        Raises:
            ValueError: the two are not of the same, positive length.
        """
        if len(parent) != len(candidate) or not parent:
            raise ValueError(f"{len(parent)} parent and {len(candidate)} candidate episodes")
        differences = [new - old for old, new in zip(parent, candidate, strict=True)]
        mean = fmean(differences)
        spread = stdev(differences) if len(differences) > 1 else 0.0
        z = NormalDist().inv_cdf(self.confidence)
        upper = mean + z * spread / len(differences) ** 0.5
        if upper < -self.tolerance:
            percent = f"{100 * self.confidence:g} %"
            return GateVerdict(
                False, mean, upper, f"worse than its parent: at best {upper:+.1f} at {percent}"
            )
        return GateVerdict(True, mean, upper, "not worse than its parent")


@dataclass(frozen=True)
class OpenGate:
    """Publish every candidate."""

    def __call__(self, parent: Sequence[float], candidate: Sequence[float]) -> GateVerdict:
        """Return a verdict that publishes; `parent` and `candidate` are returns `[E]`."""
        mean = fmean(candidate) - fmean(parent)
        return GateVerdict(True, mean, mean, "the gate is off")
