"""Screening: what it rejects of honest and of made-up work, and its CPU time."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from requestor.attacks.vectors import (
    Lie,
    View,
    alie,
    avg_zero,
    echo,
    ipm,
    just_outside,
    large_noise,
    mimic,
    noise,
    normalized,
    scaling,
    sign_flip,
    zero,
)
from requestor.federation.cohort_screening import Cohort as PacedCohort
from requestor.federation.cohort_screening import (
    Entry,
    Known,
    Limits,
    Pace,
    paces_with,
    screen_cohort,
)
from requestor.federation.model import Float32, flatten, unflatten
from requestor.federation.seeds import held_out_seeds
from requestor.federation.voices import plan_voices
from requestor.training_run.dispatching.cohort_reviewer import CohortReviewer, ProbeSet
from requestor.training_run.orders.deliveries import Delivery
from tests.benchmarks.honest_rounds import KINDS, HonestRound, honest_rounds

LIES: tuple[Lie, ...] = (
    noise,
    sign_flip,
    scaling,
    zero,
    echo,
    large_noise,
    avg_zero,
    alie,
    ipm,
    mimic,
    just_outside,
    normalized,
)


@dataclass
class Tally:
    """What became of so many updates."""

    updates: int = 0
    rejected: int = 0
    suspicious: int = 0

    def __str__(self) -> str:
        """Shares in per cent."""
        if not self.updates:
            return "-"
        return (
            f"{self.rejected} of {self.updates} rejected "
            f"({100 * self.rejected / self.updates:.2f} %), {self.suspicious} suspicious"
        )


@dataclass
class Findings:
    """Of one kind of run."""

    rounds: int = 0
    honest: Tally = field(default_factory=Tally)
    beside_liars: Tally = field(default_factory=Tally)
    lies: dict[str, Tally] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    work_seconds: float = 0.0
    screening_seconds: float = 0.0


class Screener:
    """A reviewer that sees the rounds of one run, honest ones and made-up ones of them."""

    def __init__(self, samples: int) -> None:
        """Probe with `samples` observations."""
        self._samples = samples
        self._reviewer: CohortReviewer | None = None
        self._suspects: set[int] = set()

    def begin(self, made: HonestRound) -> None:
        """Begin a round."""
        if self._reviewer is None:
            seeds = held_out_seeds(made.prober.settings.federation.run_seed, "probe", 4)
            self._reviewer = CohortReviewer(
                Limits(),
                ProbeSet(made.prober, seeds, self._samples),
                notice=print,
                suspect=lambda delivery, _: self._suspects.add(delivery.update.item.client),
            )
        self._reviewer.begin(made.plan, made.files)

    def review(
        self, made: HonestRound, deliveries: Sequence[Delivery]
    ) -> tuple[dict[int, str], set[int]]:
        """Return who is rejected, why, and who is suspicious besides."""
        assert self._reviewer is not None
        self._suspects.clear()
        for delivery in deliveries:
            self._reviewer.note(delivery)
        found = asyncio.run(self._reviewer.review(made.plan, deliveries))
        rejected = {objection.delivery.update.item.client: objection.reason for objection in found}
        return rejected, set(self._suspects)


def with_lies(made: HonestRound, lie: Lie, liars: int, last: Float32) -> list[Delivery]:
    """Return the round with the last clients' updates of the policy made up."""
    names = sorted(name for name in made.model if name.startswith("policy/"))
    honest = np.stack([flatten(delivery.update.tensors, names) for delivery in made.deliveries])
    count = len(honest)
    deliveries = list(made.deliveries)
    for number in range(liars):
        index = count - liars + number
        delivery = deliveries[index]
        view = View(
            own=honest[index],
            seen=honest[: count - liars],
            last=last,
            clients=count,
            liars=liars,
            item=number,
            seed=delivery.update.item.seed,
            round_seed=made.plan.round,
        )
        tensors = dict(delivery.update.tensors) | unflatten(lie(view), made.model, names)
        deliveries[index] = replace(
            delivery,
            update=replace(delivery.update, tensors=tensors),
            result_sha256=f"{lie.__name__} {made.plan.round} {index}",
        )
    return deliveries


def measure(runs: Iterable[Iterable[HonestRound]], samples: int) -> Findings:
    """Screen the rounds of runs of one kind."""
    found = Findings()
    for run in runs:
        screener, before = Screener(samples), None
        for made in run:
            found.rounds += 1
            found.work_seconds += sum(made.cpu_seconds)
            names = sorted(name for name in made.model if name.startswith("policy/"))
            model = flatten(made.model, names)
            last = np.zeros_like(model) if before is None else model - before
            before = model
            screener.begin(made)
            count = len(made.deliveries)
            liars = max(1, plan_voices(count, count, None).faulty_items)
            for lie in LIES:
                if lie is echo and not last.any():
                    continue
                rejected, odd = screener.review(made, with_lies(made, lie, liars, last))
                tally = found.lies.setdefault(lie.__name__, Tally())
                bad = range(count - liars, count)
                _count(tally, bad, rejected, odd)
                _count(found.beside_liars, range(count - liars), rejected, odd)
            started = time.process_time()
            rejected, odd = screener.review(made, made.deliveries)
            found.screening_seconds += time.process_time() - started
            _count(found.honest, range(count), rejected, odd)
            found.reasons.update(rejected.values())
    return found


def _count(tally: Tally, clients: range, rejected: dict[int, str], odd: set[int]) -> None:
    tally.updates += len(clients)
    tally.rejected += len(rejected.keys() & set(clients))
    tally.suspicious += len(odd & set(clients))


def simulated_paces(fleets: int, rounds: int, clients: int) -> Tally:
    """Screen the paces of fleets whose speeds differ as on a market, with jitter and hiccups.

    Eight providers, speeds log-normal with a spread of e^0.5 at one deviation; each order's time
    varies by 15 %, one in fifty takes eight times as long, a provider's first five times.
    """
    tally, only_speed = Tally(), Limits(None, None, copies=False, speed=Limits().speed)
    for fleet in range(fleets):
        generator = np.random.default_rng(fleet)
        speeds = 1000 * np.exp(0.5 * generator.normal(size=8))
        paces: dict[str, Pace] = {}
        for _ in range(rounds):
            entries = []
            for client in range(clients):
                provider = int(generator.integers(8))
                seconds = 5000 / speeds[provider] * max(0.3, 1 + 0.15 * generator.normal())
                seconds *= 8 if generator.random() < 0.02 else 1
                seconds *= 1 if f"v{provider}" in paces else 5
                entries.append(Entry(client, f"v{provider}", client, "", 5000, seconds))
            verdict = screen_cohort(PacedCohort(tuple(entries), {}), Known(paces=paces), only_speed)
            _count(tally, range(clients), verdict.rejected, set(verdict.suspicious))
            paces = paces_with(paces, entries)
    return tally


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/bench screening", description=__doc__)
    parser.add_argument("--only", default="", help="only kinds of runs whose names have this")
    parser.add_argument("--samples", type=int, default=256, help="observations of the probe")
    given = parser.parse_args(arguments)
    total, lies = Findings(), dict[str, Tally]()
    for kind in KINDS:
        if given.only not in kind.name:
            continue
        runs = [honest_rounds(kind, seed) for seed in range(kind.seeds)]
        found = measure(runs, given.samples)
        share = 100 * found.screening_seconds / found.work_seconds
        print(
            f"{kind.name}: {found.rounds} rounds; honest: {found.honest}; beside liars: "
            f"{found.beside_liars}; CPU of screening: "
            f"{1000 * found.screening_seconds / found.rounds:.1f} ms a round, {share:.1f} % of "
            "the clients' work",
            flush=True,
        )
        for reason, times in found.reasons.items():
            print(f"  {times} times: {reason}")
        total.rounds += found.rounds
        for tally, more in ((total.honest, found.honest), (total.beside_liars, found.beside_liars)):
            _add(tally, more)
        for name, more in found.lies.items():
            _add(lies.setdefault(name, Tally()), more)
    print(f"\nall {total.rounds} rounds: honest: {total.honest}")
    print(f"honest beside liars: {total.beside_liars}")
    for name, tally in lies.items():
        print(f"{name:14}{tally}")
    print(f"paces of simulated fleets: {simulated_paces(200, 20, 32)}")


def _add(tally: Tally, more: Tally) -> None:
    tally.updates += more.updates
    tally.rejected += more.rejected
    tally.suspicious += more.suspicious


if __name__ == "__main__":
    main()
