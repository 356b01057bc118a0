"""What an update must be like beside the others of its round, and beside what was known before it.

Pure: numbers in, verdicts out. Each check looks for one thing that honest work practically never
shows; whatever is only odd is a suspicion, for an audit to settle. Nothing here proves that work
was done: who delivers something plausible passes.

Axes: N updates of a round in client order, P parameters of one part of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MAD_TO_DEVIATION = 1.4826
"""The median absolute deviation of normal numbers times this is their standard deviation."""

LEAST_DEVIATION = 0.2
"""Cohorts whose norms are nearly equal count as spread by a factor of e^0.2 = 1.22."""

LEAST_COHORT = 4
"""Fewer updates have no median to be held against."""

NOTHING = 1e-9
"""An update that is shorter than the cohort's median times this is nothing."""

PARALLEL = 1e-6
"""Two directions are one where the cosine is closer to 1 or -1 than this."""

LEAST_NUMBERS = 16
"""Fewer numbers that are not 0 may point the same way by chance."""

LEAST_DIVERGENCE: Mapping[str, float] = {"kl": 0.05, "actions": 0.05}
"""Nats, or share of decisions; see `provider_image.wire.ProbeResult`. Less is never too far."""

LEAST_PACES = 2
"""So many other voices' paces must be known before one is held against them, each of so many
deliveries: the first on a machine takes longer."""

LEAST_SECONDS = 1.0
"""Where the fastest other voice takes less for the work, a pace says more of chance than of it."""

ODD_SHARE = 0.5
"""What goes so far of the way to being rejected, on the logarithm's scale, is suspicious."""


@dataclass(frozen=True)
class Limits:
    """Where an update is too far from the others; None: it may be at any distance.

    norm_z: robust standard deviations of the logarithms of norms above their median. divergence:
    multiples of the median divergence. speed: multiples of the fastest other voice's pace.
    """

    norm_z: float | None = 8.0
    divergence: float | None = 20.0
    copies: bool = True
    speed: float | None = 20.0


@dataclass(frozen=True)
class Entry:
    """Who delivered an update: its client, voice ("": not known), and what it took.

    arrival: the how manyth delivery of the round. sha256: the update's digest. steps: assigned.
    """

    client: int
    voice: str
    arrival: int
    sha256: str
    steps: int
    seconds: float | None = None

    @property
    def pace(self) -> float | None:
        """Assigned steps per second; None where the time is not known."""
        return self.steps / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Cohort:
    """The updates of a round.

    parts: `float32[N, P]` of each part of the model; `policy` is what is looked at for copies.
    divergences: `float64[N]` of `measure`, or None if nobody has probed.
    """

    entries: tuple[Entry, ...]
    parts: Mapping[str, Float32]
    divergences: Float64 | None = None
    measure: str = "kl"


@dataclass(frozen=True)
class Pace:
    """The most steps per second that a voice has shown, and in how many deliveries it was seen."""

    fastest: float
    deliveries: int

    def plus(self, pace: float) -> Pace:
        """Return it with another delivery."""
        return Pace(max(self.fastest, pace), self.deliveries + 1)


@dataclass(frozen=True)
class Known:
    """What was known before the round, and so to those who may copy.

    moves: `float32[M, P]`, by how much the policy moved in earlier rounds. sketches: of earlier
    updates of the policy, see `sketch`. digests: of earlier updates. paces: of voices so far.
    """

    moves: Float32 | None = None
    sketches: Float64 | None = None
    digests: frozenset[str] = frozenset()
    paces: Mapping[str, Pace] = field(default_factory=dict)


@dataclass
class Verdict:
    """Reasons by client: why an update must not be merged, and what should be audited."""

    rejected: dict[int, str] = field(default_factory=dict)
    suspicious: dict[int, str] = field(default_factory=dict)

    def reject(self, entry: Entry, reason: str) -> None:
        """Reject an update; the first reason stays."""
        self.rejected.setdefault(entry.client, reason)

    def suspect(self, entry: Entry, reason: str) -> None:
        """Find an update odd; the first reason stays."""
        self.suspicious.setdefault(entry.client, reason)


def screen_cohort(cohort: Cohort, known: Known, limits: Limits) -> Verdict:
    """Return which updates of a round are rejected, and which are suspicious besides."""
    verdict = Verdict()
    if limits.copies and "policy" in cohort.parts:
        _look_for_copies(cohort, known, verdict)
    if limits.norm_z is not None:
        for name, updates in cohort.parts.items():
            _look_at_norms(cohort.entries, name, row_norms(updates), limits.norm_z, verdict)
    if limits.divergence is not None and cohort.divergences is not None:
        _look_at_divergences(cohort, cohort.divergences, limits.divergence, verdict)
    if limits.speed is not None:
        _look_at_paces(cohort.entries, known, limits.speed, verdict)
    for client in verdict.rejected:
        verdict.suspicious.pop(client, None)
    return verdict


def row_norms(updates: Float32) -> Float64:
    """Return the Euclidean norms `float64[N]` of the rows of `float32[N, P]`."""
    # row by row: all at once would take twice the memory of the updates
    return np.array([np.sqrt(np.einsum("p,p->", row, row)) for row in map(np.float64, updates)])


def norm_scores(norms: Float64) -> Float64:
    """Return by how many robust standard deviations the log of each norm is above the median.

    Median and MAD of the positive norms (Leys et al. 2013); the deviation is at least
    `LEAST_DEVIATION`. A norm of 0 scores 0, as do all of fewer than `LEAST_COHORT` positive ones.
    """
    scores = np.zeros(len(norms))
    positive = norms > 0
    if int(positive.sum()) < LEAST_COHORT:
        return scores
    logs = np.log(norms[positive])
    apart = logs - np.median(logs)
    deviation = max(MAD_TO_DEVIATION * float(np.median(np.abs(apart))), LEAST_DEVIATION)
    scores[positive] = apart / deviation
    return scores


def _look_at_norms(
    entries: Sequence[Entry], part: str, norms: Float64, most: float, verdict: Verdict
) -> None:
    """Too long is rejected; too short harms nobody, but may be no work."""
    scores = norm_scores(norms)
    median = float(np.median(norms[norms > 0])) if np.any(norms > 0) else 1.0
    for entry, score, norm in zip(entries, scores, norms, strict=True):
        if score > most:
            verdict.reject(
                entry,
                f"its {part} update is {norm / median:.3g} times as long as the median "
                f"({score:.1f} robust deviations)",
            )
        elif abs(score) > ODD_SHARE * most:
            verdict.suspect(entry, f"its {part} update is {norm / median:.2g} times the median's")


def _look_at_divergences(
    cohort: Cohort, divergences: Float64, most: float, verdict: Verdict
) -> None:
    if len(divergences) < LEAST_COHORT:
        return
    usual = max(float(np.median(divergences)), LEAST_DIVERGENCE[cohort.measure] / most)
    for entry, divergence in zip(cohort.entries, divergences, strict=True):
        times = float(divergence) / usual
        if times > most:
            verdict.reject(
                entry,
                f"it moves the policy by {divergence:.3g}, {times:.3g} times what is usual in the "
                "round",
            )
        elif times > most**ODD_SHARE:
            verdict.suspect(entry, f"it moves the policy {times:.2g} times as far as is usual")


def _look_at_paces(
    entries: Sequence[Entry], known: Known, most: float, verdict: Verdict
) -> None:
    """Hold each pace against the fastest that any other voice has ever shown."""
    paces = paces_with(known.paces, entries)
    for entry in entries:
        others = [
            pace.fastest
            for voice, pace in paces.items()
            if voice != entry.voice and pace.deliveries >= LEAST_PACES
        ]
        if entry.pace is None or len(others) < LEAST_PACES:
            continue
        times = entry.pace / max(others)
        if times > most and entry.steps / max(others) >= LEAST_SECONDS:
            verdict.reject(
                entry,
                f"{entry.steps} steps in {entry.seconds:.3g} s are {times:.3g} times the pace of "
                "the fastest other provider",
            )
        elif times > most**ODD_SHARE:
            verdict.suspect(entry, f"it is {times:.2g} times as fast as any other provider")


def paces_with(paces: Mapping[str, Pace], entries: Sequence[Entry]) -> dict[str, Pace]:
    """Return the paces of voices with those of a round's deliveries added."""
    result = dict(paces)
    for entry in entries:
        if entry.pace is not None and entry.voice:
            result[entry.voice] = result.get(entry.voice, Pace(0.0, 0)).plus(entry.pace)
    return result


def _look_for_copies(cohort: Cohort, known: Known, verdict: Verdict) -> None:
    """Reject what is nothing, an echo of the model's moves, or what somebody has sent before.

    Of several equal updates of one round the first to arrive stays, and is suspicious: whoever
    sent it may have been copied. The others were copied for sure, since every client's seed is its
    own. If one voice sent several of them, all of its copies go: there is no victim among them.
    """
    updates = cohort.parts["policy"]
    norms = row_norms(updates)
    usual = float(np.median(norms))
    if usual > 0:  # where most learn nothing, as before `learning_starts`, so may all
        for entry, norm in zip(cohort.entries, norms, strict=True):
            if norm <= NOTHING * usual:
                verdict.reject(entry, "it changes nothing, where the others' updates do")
    is_dense = np.count_nonzero(updates, axis=1) >= LEAST_NUMBERS
    directions = _directions(sketch(updates))
    if known.moves is not None and len(known.moves):
        moves = _directions(sketch(known.moves))
        is_echo = _are_parallel(directions, moves).any(axis=1) & is_dense
        for entry, echo in zip(cohort.entries, is_echo, strict=True):
            if echo:
                verdict.reject(entry, "it repeats how the model moved in an earlier round")
    is_old = is_dense & _were_sent_before(directions, known)
    for index, entry in enumerate(cohort.entries):
        is_same = is_dense[index] and entry.sha256 in known.digests
        if is_old[index] or is_same:
            verdict.reject(entry, "it repeats an update of an earlier round")
    _look_for_duplicates(cohort, directions, is_dense, verdict)


def _look_for_duplicates(
    cohort: Cohort, directions: Float64, is_dense: NDArray[np.bool_], verdict: Verdict
) -> None:
    alike = _are_parallel(directions, directions) & is_dense[:, None] & is_dense[None, :]
    np.fill_diagonal(alike, False)
    for index, entry in enumerate(cohort.entries):
        twins = [cohort.entries[other] for other in np.flatnonzero(alike[index])]
        if not twins:
            continue
        first = min([entry, *twins], key=lambda twin: twin.arrival)
        names = ", ".join(str(twin.client) for twin in twins)
        is_own = bool(entry.voice) and any(twin.voice == entry.voice for twin in twins)
        if entry is not first or is_own:
            verdict.reject(entry, f"it is the same as the update of client {names}")
        else:
            verdict.suspect(entry, f"client {names} got the same update later")


SKETCH_SIZE = 1024


def sketch(updates: Float32) -> Float64:
    """Return linear sketches `float64[N, min(P, 1024)]` of `float32[N, P]` (count sketches).

    Parallel vectors have parallel sketches, and hardly any others have (Charikar et al. 2002).
    """
    size = updates.shape[1]
    if size <= SKETCH_SIZE:
        return updates.astype(np.float64)
    generator = np.random.default_rng(size)
    buckets = generator.integers(0, SKETCH_SIZE, size)
    signs = generator.choice(np.array([-1.0, 1.0]), size)
    return np.stack(
        [np.bincount(buckets, weights=signs * row, minlength=SKETCH_SIZE) for row in updates]
    )


def _were_sent_before(directions: Float64, known: Known) -> NDArray[np.bool_]:
    if known.sketches is None or not len(known.sketches):
        return np.zeros(len(directions), np.bool_)
    found = _are_parallel(directions, _directions(known.sketches))
    return np.asarray(found.any(axis=1), np.bool_)


def _directions(sketches: Float64) -> Float64:
    """Return the rows divided by their norms; rows of zeros stay."""
    norms = np.sqrt(np.einsum("np,np->n", sketches, sketches))
    return np.asarray(sketches / np.where(norms > 0, norms, 1.0)[:, None], np.float64)


def _are_parallel(directions: Float64, others: Float64) -> NDArray[np.bool_]:
    """Tell of each pair of unit rows whether the angle between them, or its supplement, is 0."""
    # by einsum: the threads of BLAS would cost more than they bring
    cosines = np.einsum("np,mp->nm", directions, others)
    return np.asarray(np.abs(cosines) > 1 - PARALLEL, np.bool_)
