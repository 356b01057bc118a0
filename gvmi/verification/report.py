"""The report of a verification: plain data, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gvmi.verification.deviations import CHECKS, RUN_CHECKS, Deviation


@dataclass(frozen=True)
class ImageFacts:
    """What an image is, without a judgement. `variant` and the rest of the labels may be lies."""

    path: str
    sha3: str
    size_bytes: int
    variant: str | None
    sources: str | None
    cuda: str | None
    compression: str
    block_bytes: int
    names: int
    unpacked_bytes: int
    packages: int
    largest: tuple[tuple[str, int], ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Timings:
    """What running something in the image took; CPU seconds count every process in it."""

    what: str
    wall_seconds: float
    cpu_seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """What was found out about an image.

    `deviations` are told worst first; `passed` and `skipped` name checks (the latter with the
    reason). `notes` are no deviations.
    """

    facts: ImageFacts
    deviations: tuple[Deviation, ...]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    timings: tuple[Timings, ...]

    @property
    def verdict(self) -> str:
        """`good`, `bad`, or `not run` where nothing is wrong but not all was looked at."""
        if self.deviations:
            return "bad"
        return "not run" if any(name in RUN_CHECKS for name in self.skipped) else "good"

    def state(self, check: str) -> str:
        """Return `failed`, `skipped` or `passed` for a check."""
        if any(deviation.check == check for deviation in self.deviations):
            return "failed"
        return "skipped" if check in self.skipped else "passed"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data."""
        return {
            "verdict": self.verdict,
            "image": asdict(self.facts) | {"labels": dict(self.facts.labels)},
            "checks": {name: self.state(name) for name in (*CHECKS, *RUN_CHECKS)},
            "deviations": [asdict(deviation) for deviation in self.deviations],
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
            "timings": [asdict(timing) for timing in self.timings],
        }
