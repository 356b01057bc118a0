"""Where a quote's figures come from: records of providers, else typical ones, else this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from requestor.marketplace.choice.choosing import (
    Candidate,
    Chooser,
    Pace,
    Rule,
    Work,
    evidence_of,
    expected_pace,
    measured_pace,
    typical_pace,
)
from requestor.marketplace.choice.failures import AVOID_ABOVE
from requestor.marketplace.choice.history import (
    Evidence,
    Record,
    Start,
    Weights,
    Who,
)
from requestor.marketplace.choice.selection import Offered
from requestor.quoting.quote import Assumed, Source
from requestor.quoting.simulation import Worker

MIN_RECORD_SECONDS = 0.5
"""A record of less work than this tells nothing of a pace."""

FEW_RECORDS = 3

NEAR_START = Start(3.0, 1.5)
"""Of a provider on this machine (mock, testnet) where no start was ever measured."""

FAR_START = Start(30.0, 5.0)
"""Of a provider elsewhere: the image may have to travel first."""


@dataclass(frozen=True)
class LocalPace:
    """How this machine does one order of the run, alone."""

    order_seconds: float
    order_cpu_seconds: float


@dataclass(frozen=True)
class Knowledge:
    """What is known before a run.

    `records` are by node id; `measured` names those that were benchmarked for this quote.
    """

    kind: str
    local_steps: int
    records: Mapping[str, Record]
    now_seconds: float
    is_near: bool
    measured: frozenset[str] = frozenset()
    here: LocalPace | None = None

    @property
    def typical(self) -> Pace | None:
        """The usual pace of providers for this kind of work, None if nobody's is known.

        Of few providers (mock and testnet), this machine counts as one more.
        """
        known = [
            evidence.at(self.now_seconds)
            for record in self.records.values()
            if (evidence := record.speeds.get(self.kind)) is not None and _tells(evidence)
        ]
        if known and len(known) < FEW_RECORDS and self.here is not None and self.is_near:
            seconds, cpu_seconds = self.here.order_seconds, self.here.order_cpu_seconds
            own = Evidence(self.local_steps, seconds, cpu_seconds, seconds, self.now_seconds)
            known.append(own)
        return typical_pace(known)

    @property
    def typical_start(self) -> Start:
        """The usual start."""
        starts = [record.start for record in self.records.values() if record.start is not None]
        default = NEAR_START if self.is_near else FAR_START
        if not starts:
            return default
        cpu = [start.cpu_seconds for start in starts if start.cpu_seconds is not None]
        return Start(
            median(start.seconds for start in starts),
            median(cpu) if cpu else default.cpu_seconds,
        )

    def is_doubtful(self, who: Who) -> bool:
        """Say whether a provider, or others of its wallet, failed us of late."""
        return self._weights.on(who) > AVOID_ABOVE

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.records, self.now_seconds)

    def evidence(self, node_id: str) -> Evidence | None:
        """Return what a provider has shown of this kind of work, None if too little."""
        record = self.records.get(node_id)
        found = evidence_of(record.speeds, self.kind, self.now_seconds) if record else None
        return found if found is not None and _tells(found) else None

    def assume(self, offered: Offered) -> Assumed | None:
        """Return a provider as it is expected to be; None if no pace is known at all."""
        found = self._pace(offered.who.node_id)
        if found is None:
            return None
        pace, source, seconds = found
        record = self.records.get(offered.who.node_id)
        start = (record.start if record else None) or self.typical_start
        order_seconds = self.local_steps / pace.steps_per_second
        worker = Worker(
            name=offered.who.name,
            voice=offered.who.voice,
            prices=offered.prices,
            order_seconds=order_seconds,
            order_cpu_seconds=order_seconds * pace.cpu_share,
            start_seconds=start.seconds,
            start_cpu_seconds=start.cpu_seconds or self.typical_start.cpu_seconds or 0.0,
        )
        return Assumed(worker, source, seconds)

    def _pace(self, node_id: str) -> tuple[Pace, Source, float] | None:
        evidence = self.evidence(node_id)
        own = measured_pace(evidence) if evidence is not None else None
        if own is not None and evidence is not None:
            source: Source = "measured" if node_id in self.measured else "recorded"
            return own, source, evidence.busy_seconds
        if self.typical is not None:
            return self.typical, "typical", 0.0
        if self.here is not None:
            steps_per_second = self.local_steps / self.here.order_seconds
            share = self.here.order_cpu_seconds / self.here.order_seconds
            return Pace(steps_per_second, share), "this machine", 0.0
        return None


def rank(offers: Iterable[Offered], knowledge: Knowledge, rule: Rule, work: Work) -> list[Offered]:
    """Return the offers in the order in which a run would take them: see `selection.py`."""
    typical = knowledge.typical or Pace(1000.0)
    chooser = Chooser(rule, work.expected_seconds(typical), typical)
    by_node = {offered.who.node_id: offered for offered in offers}
    candidates = [
        Candidate(
            node,
            offered.who.voice,
            offered.prices,
            expected_pace(
                evidence_of(record.speeds, knowledge.kind, knowledge.now_seconds)
                if (record := knowledge.records.get(node)) is not None
                else None,
                typical,
            ),
        )
        for node, offered in by_node.items()
    ]
    ranked = [by_node[one.node_id] for one in chooser.rank(candidates)]
    # a last resort, whatever they offer
    return sorted(ranked, key=lambda offered: knowledge.is_doubtful(offered.who))


def _tells(evidence: Evidence) -> bool:
    return evidence.busy_seconds >= MIN_RECORD_SECONDS and evidence.useful_steps > 0
