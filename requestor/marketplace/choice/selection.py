"""Whom one session with the market rents: lists, ceilings, records, and the worth of offers.

The one place that knows all that counts: `choosing.py` ranks, `failures.py` weighs, `history.py`
remembers, and this joins them to what happens while the session lasts. No market, no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from requestor.marketplace.choice.choosing import (
    UNKNOWN_PACE,
    Candidate,
    Chooser,
    Pace,
    Rule,
    Work,
    evidence_of,
    expected_pace,
    typical_pace,
)
from requestor.marketplace.choice.failures import AVOID_ABOVE, BAN_ABOVE, RULES, FailureKind
from requestor.marketplace.choice.history import (
    Evidence,
    ProviderHistory,
    Start,
    Weights,
    Who,
)
from requestor.marketplace.money.spending import Prices

Standing = Literal["good", "doubtful", "barred", "banned"]

FAILURES_UNTIL_BARRED = 2
"""Who has failed so often in a session is not rented in it any more."""

QUIET_SECONDS = 0.5
"""When no offer has come for so long, those that are there are taken to be all."""

MIN_AGREEMENT_SECONDS = 60.0
"""An agreement whose ceiling would not last for so long is not worth its start."""

SOON_SECONDS = 50.0
"""An agreement that came to its ceiling earlier did not cost what its prices promised; the rest of
the minute is for the watch, which ends it a little before."""


@dataclass(frozen=True)
class Preferences:
    """Whom to rent, as the config says; see `golem` there. `allow` and `block` are lower-case."""

    rule: Rule = "steps_per_glm"
    allow: frozenset[str] = frozenset()
    block: frozenset[str] = frozenset()
    max_per_wallet: int | None = None
    gather_seconds: float = 5.0
    replaces_slow: bool = True
    agreement_ceiling_glm: Decimal | None = None
    work: Work = field(default_factory=Work)


LEAST_SECONDS = 3
"""Nothing useful comes of an agreement that cannot last so long."""

BURNED = "came to golem.max_price.agreement_glm at once"

MIN_LEFT_SECONDS = 60.0
"""A provider's start takes too long to be worth it when less than this is left to do."""


class Offered(NamedTuple):
    """An offer in hand: who makes it, its prices, and how many threads may be charged at once."""

    who: Who
    prices: Prices
    threads: int = 1


class Selection:
    """The choice of one session. Times are seconds of one monotone clock."""

    def __init__(
        self,
        preferences: Preferences,
        ceilings: Prices,
        history: ProviderHistory,
        clock: Callable[[], float],
        *,
        avoided: Iterable[str] = (),
    ) -> None:
        """Choose by `preferences` among offers within `ceilings`; `avoided` are node ids."""
        self._preferences = preferences
        self._ceilings = ceilings
        self._history = history
        self._clock = clock
        self._avoided = frozenset(avoided)
        self._failures: Counter[str] = Counter()
        self._voice_failures: Counter[str] = Counter()
        self._shy: set[str] = set()
        self._rented: dict[str, Offered] = {}
        self._parties: dict[str, Who] = {}
        self._fresh: dict[str, Evidence] = {}
        self._useful_steps = 0.0
        self._given_up: set[str] = set()
        self._burned: set[str] = set()
        self._seen: dict[str, str | None] = {}
        self._offers: dict[str, Offered] = {}
        self.unaffordable_glm: Decimal | None = None
        self._began_seconds: float | None = None
        self._news_seconds = 0.0
        self.had_agreement = False

    # --- offers --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Note that offers were asked for."""
        self._began_seconds = self._news_seconds = self._clock()

    def note(self, node_id: str, refusal: str | None) -> None:
        """Note an offer, and why it is refused, if it is."""
        self._seen[node_id] = refusal
        self._news_seconds = self._clock()

    def refusal(self, offered: Offered) -> str | None:
        """Return why an offer is not to be taken, None if it may be; it is noted."""
        reason = self._refusal(offered, self._history.weights())
        self.note(offered.who.node_id, reason)
        if reason is None:
            self._offers[offered.who.node_id] = offered
        return reason

    def _refusal(self, offered: Offered, weights: Weights) -> str | None:
        who, prices, _ = offered
        preferences = self._preferences
        if preferences.allow and not is_named(who, preferences.allow):
            return "not on the list golem.allow"
        if is_named(who, preferences.block):
            return "on the list golem.block"
        if not prices.within(self._ceilings):
            return "above the price ceilings"
        if self._affordable_seconds(offered) < MIN_AGREEMENT_SECONDS:
            return "golem.max_price.agreement_glm does not pay for a minute"
        if who.node_id in self._burned:
            return BURNED
        standing = self._standing(who, weights)
        if standing == "banned":
            return "banned for earlier failures"
        return "failed before in this run" if standing == "barred" else None

    def pick(
        self, offers: Mapping[str, Offered], left_glm: Decimal = Decimal("Infinity")
    ) -> str | None:
        """Return the node whose offer is to be taken now, out of those in hand; None for none.

        While offers are still coming in for the first time, nobody is taken: the best are to be
        chosen, not the first. Doubtful providers are a last resort. Nobody is taken whose start
        and first seconds cost more than `left_glm`; if that is why nobody is, `unaffordable_glm`
        is the least that it would take.
        """
        self.unaffordable_glm = None
        if self.is_gathering:
            return None
        weights, typical = self._history.weights(), self._typical()
        wanted = [one for one in offers.values() if self._refusal(one, weights) is None]
        allowed = [one for one in wanted if least_glm(one.prices) <= left_glm]
        if wanted and not allowed:
            self.unaffordable_glm = min(least_glm(one.prices) for one in wanted)
        for standing in ("good", "doubtful"):
            chosen = self._chooser(typical).choose(
                [
                    self._candidate(one, typical)
                    for one in allowed
                    if self._standing(one.who, weights) == standing
                ],
                1,
                max_per_voice=self._preferences.max_per_wallet,
                rented=[one.who.voice for one in self._rented.values()],
            )
            if chosen:
                return chosen[0].node_id
        return None

    @property
    def is_gathering(self) -> bool:
        """True while offers are still coming in for the first time."""
        if self.had_agreement or self._began_seconds is None:
            return False
        now = self._clock()
        is_quiet = now - self._news_seconds >= QUIET_SECONDS
        is_over = now - self._began_seconds >= self._preferences.gather_seconds
        return not (is_quiet or is_over)

    @property
    def offers(self) -> Mapping[str, Offered]:
        """The last offer of every provider that may be rented, by node id."""
        return self._offers

    @property
    def view(self) -> str:
        """One line on what the market offered, for the message that nobody came."""
        text = f"{len(self._seen)} offers seen"
        reasons = Counter(reason for reason in self._seen.values() if reason is not None)
        if reasons:
            text += "; refused: " + ", ".join(f"{why} ({n})" for why, n in reasons.most_common(4))
        return text

    # --- records -------------------------------------------------------------------------------

    def standing(self, who: Who) -> Standing:
        """Return how a provider stands: by its failures, and those of others of its wallet.

        One that `golem.allow` names is never banned: whoever lists it wants it.
        """
        return self._standing(who, self._history.weights())

    def _standing(self, who: Who, weights: Weights) -> Standing:
        failed_here = self._failures[who.node_id]
        if not who.is_own_wallet:
            failed_here = max(failed_here, self._voice_failures[who.voice])
        if failed_here >= FAILURES_UNTIL_BARRED:
            return "barred"
        weight = weights.on(who)
        if weight > BAN_ABOVE and not is_named(who, self._preferences.allow):
            return "banned"
        is_known_bad = weight > AVOID_ABOVE or who.node_id in self._avoided
        if failed_here or is_known_bad or who.node_id in self._shy:
            return "doubtful"
        return "good"

    def failed(self, who: Who, kind: FailureKind) -> None:
        """Note a failure in this session; its wallet shares it unless it is only slow.

        Who faked work is barred at once, even if `golem.allow` names it, and its wallet doubtful:
        another may have named it.
        """
        is_fake = kind == "faked_work"
        self._failures[who.node_id] += FAILURES_UNTIL_BARRED if is_fake else 1
        if is_fake:
            self._voice_failures[who.voice] = max(1, self._voice_failures[who.voice])
        elif RULES[kind].share > 0:
            self._voice_failures[who.voice] += 1

    def declined(self, node_id: str) -> None:
        """Note that a provider did not want an agreement.

        No fault; but the best of all offers would be asked for ever.
        """
        self._shy.add(node_id)

    def agreed(self, agreement_id: str, offered: Offered) -> None:
        """Note an agreement."""
        self.had_agreement = True
        self._rented[agreement_id] = offered
        self._parties[agreement_id] = offered.who

    @property
    def is_renting(self) -> bool:
        """True while an agreement is in force."""
        return bool(self._rented)

    @property
    def rented(self) -> Collection[str]:
        """The agreements in force."""
        return self._rented.keys()

    def knows(self, agreement_id: str) -> bool:
        """Say whether an agreement is one of this session."""
        return agreement_id in self._parties

    def who(self, agreement_id: str) -> Who:
        """Return whom an agreement of this session is with, also when it is over."""
        return self._parties[agreement_id]

    def ended(self, agreement_id: str) -> None:
        """Note the end of an agreement, if there was one."""
        self._rented.pop(agreement_id, None)

    def came_to_ceiling(self, agreement_id: str, seconds: float, *, was_ready: bool) -> bool:
        """Note that an agreement ends at its ceiling, `seconds` after it was approved.

        Return whether its provider is not rented any more: if that was soon, or before it was
        ready to work, another agreement would be another start paid for nothing.
        """
        who = self._parties.get(agreement_id)
        if who is None or (was_ready and seconds >= SOON_SECONDS):
            return False
        self._burned.add(who.node_id)
        self._seen[who.node_id] = BURNED
        return True

    def worked(self, node_id: str, evidence: Evidence) -> None:
        """Note what came of an order: `at_seconds` of `evidence` is in the history's time."""
        self._fresh[node_id] = self._fresh.get(node_id, Evidence()).plus(evidence)
        self._useful_steps += evidence.useful_steps

    def remember(self, who: Who, orders: int, start: Start | None) -> None:
        """Write what is known of a provider's work in this session to the history."""
        fresh = self._fresh.pop(who.node_id, None)
        kind = self._preferences.work.kind
        speeds = {kind: fresh} if fresh is not None and kind else {}
        if orders or speeds or start is not None:
            self._history.worked(who, orders=orders, speeds=speeds, start=start)

    # --- worth ---------------------------------------------------------------------------------

    def _chooser(self, typical: Pace) -> Chooser:
        """Return what ranks offers now, where providers are usually so fast."""
        work = self._preferences.work
        if work.steps:
            left = max(1, work.steps - int(self._useful_steps))
            work = Work(work.kind, left, work.providers)
        return Chooser(self._preferences.rule, work.expected_seconds(typical), typical)

    def replaced_by(self, agreement_id: str, offers: Iterable[Offered]) -> str | None:
        """Return the name of a clearly better provider that an agreement should give way to.

        Each node gives way once in a session, and none when the work is about to end.
        """
        offered = self._rented.get(agreement_id)
        if offered is None or not self._preferences.replaces_slow:
            return None
        node = offered.who.node_id
        evidence = self._evidence(node)
        typical = self._typical()
        chooser = self._chooser(typical)
        if node in self._given_up or evidence is None or chooser.seconds < MIN_LEFT_SECONDS:
            return None
        weights = self._history.weights()
        others = {
            one.who.node_id: one
            for one in offers
            if one.who.node_id != node
            and self._refusal(one, weights) is None
            and self._standing(one.who, weights) == "good"
        }
        better = chooser.better_than(
            self._candidate(offered, typical),
            evidence,
            [self._candidate(one, typical) for one in others.values()],
        )
        if better is None:
            return None
        self._given_up.add(node)
        return others[better.node_id].who.name

    def _candidate(self, offered: Offered, typical: Pace) -> Candidate:
        who = offered.who
        pace = expected_pace(self._evidence(who.node_id), typical)
        return Candidate(who.node_id, who.voice, offered.prices, pace)

    def _evidence(self, node_id: str) -> Evidence | None:
        record = self._history.records().get(node_id)
        kind, now = self._preferences.work.kind, self._history.now()
        known = evidence_of(record.speeds, kind, now) if record is not None else None
        fresh = self._fresh.get(node_id)
        if known is None or fresh is None:
            return fresh or known
        return known.plus(fresh)

    def _typical(self) -> Pace:
        kind = self._preferences.work.kind
        known = [
            evidence
            for record in self._history.records().values()
            if (evidence := record.speeds.get(kind)) is not None
        ]
        return typical_pace([*known, *self._fresh.values()]) or UNKNOWN_PACE

    def _affordable_seconds(self, offered: Offered) -> float:
        """Return how long an agreement lasts under its ceiling, with all threads busy.

        So the watch over the ceiling counts, as long as no usage is known.
        """
        ceiling = self._preferences.agreement_ceiling_glm
        if ceiling is None:
            return float("inf")
        left = ceiling - offered.prices.start_glm
        hour = offered.prices.full_hour_glm(offered.threads)
        if left <= 0:
            return 0.0
        return float(3600 * left / hour) if hour > 0 else float("inf")


def least_glm(prices: Prices) -> Decimal:
    """Return what anything useful costs at these prices: the start, and one thread a few seconds.

    A worker that only starts takes about as long.
    """
    seconds = Decimal(LEAST_SECONDS)
    return prices.cost_glm(seconds, seconds)


def is_named(who: Who, names: frozenset[str]) -> bool:
    """Say whether one of `names` (lower-case) is its node id, its wallet or its name.

    A name is its owner's choice and proves nothing; ids and wallets do.
    """
    return bool({who.node_id.lower(), who.name.lower(), (who.wallet or "").lower()} & names)


def lower(names: Iterable[str]) -> frozenset[str]:
    """Return names as `Preferences` hold them."""
    return frozenset(name.strip().lower() for name in names)
