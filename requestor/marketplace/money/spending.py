"""What the run owes and what it may still spend: pure arithmetic over exact decimals.

The numbers rest on *our* clock and on usage as last reported; they are upper bounds. A bill above
its bound is not accepted, nor one that would take the sum over the budget, and work stops while
the sum of all bounds still fits the budget. So what is accepted can never exceed the budget,
whatever a provider claims, and an honest provider is paid in full unless the budget ends first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal, localcontext
from functools import cached_property

ZERO = Decimal(0)
GLM_QUANTUM = Decimal("1e-18")
"""The smallest amount of GLM: a token has 18 decimals."""

EXACT_DIGITS = 60
"""Precision at which no amount loses its last digit; Decimal's default is 28 digits."""

BILL_SLACK_SECONDS = 3.0
"""A bill may be for this much longer than we know of: clocks start apart, reports come late."""

PLAN_SLACK_SECONDS = 0.5
"""The same for our own planning, where being too careful leaves budget unused."""

RATE_MARGIN = Decimal("1.25")
"""A provider is expected to cost at most this much more a second than it has so far."""

BILL_ROUNDING_GLM = Decimal("1e-9")
"""Providers compute in binary floating point; a bill may be above the exact amount by this."""

MAX_GLM = Decimal(10) ** 12
"""More than there are; what is asked beyond is not written down digit by digit."""


@dataclass(frozen=True)
class Prices:
    """Prices of one offer: a fixed start price, and GLM per hour of CPU and of duration."""

    start_glm: Decimal = ZERO
    cpu_hour_glm: Decimal = ZERO
    hour_glm: Decimal = ZERO

    def cost_glm(self, cpu_seconds: Decimal, seconds: Decimal) -> Decimal:
        """Return the price of a usage of `cpu_seconds` and `seconds`."""
        hourly = self.cpu_hour_glm * cpu_seconds + self.hour_glm * seconds
        return self.start_glm + hourly / 3600

    def full_hour_glm(self, threads: int) -> Decimal:
        """Return the price of an hour in which all of the offer's threads are busy."""
        return self.cpu_hour_glm * threads + self.hour_glm

    def within(self, ceilings: Prices) -> bool:
        """Say whether no price is above its ceiling."""
        return (
            self.start_glm <= ceilings.start_glm
            and self.cpu_hour_glm <= ceilings.cpu_hour_glm
            and self.hour_glm <= ceilings.hour_glm
        )


@dataclass(frozen=True)
class Meter:
    """What one activity costs by the usage that was last reported, and when that was."""

    reported_glm: Decimal
    reported_seconds: float


@dataclass(frozen=True)
class Account:
    """One agreement's money. Each activity has a start price and a usage of its own."""

    agreement_id: str
    provider_id: str
    prices: Prices
    threads: int
    approved_seconds: float
    activities: int = 1
    """How many were begun; bills are expected for one at least."""

    meters: Mapping[str, Meter] = field(default_factory=dict)
    """By activity, in the order in which they began; one works at a time."""

    ended_seconds: float | None = None
    accepted_glm: Decimal = ZERO
    is_settled: bool = False

    @property
    def reported_glm(self) -> Decimal:
        """The cost of the usage that was last reported, over all activities."""
        return sum((meter.reported_glm for meter in self.meters.values()), ZERO)

    @property
    def reported_seconds(self) -> float | None:
        """When usage was last reported."""
        return max((meter.reported_seconds for meter in self.meters.values()), default=None)

    def bound_glm(self, now_seconds: float, slack_seconds: float = BILL_SLACK_SECONDS) -> Decimal:
        """Return the most that can be due at `now_seconds`.

        The start price and the full rate (every thread busy) since approval; or, where usage has
        been reported, that usage's cost and the full rate since the report; whichever is less.
        Both times are lengthened by `slack_seconds`. Never less than was accepted already.
        """
        due = self.clock_bound_glm(now_seconds, slack_seconds)
        if len(self.meters) >= max(1, self.activities):
            unreported = self._unreported_seconds(now_seconds, slack_seconds)
            due = min(due, self.reported_glm + self._full_rate_glm(unreported))
        return max(due + BILL_ROUNDING_GLM, self.accepted_glm)

    def clock_bound_glm(
        self, now_seconds: float, slack_seconds: float = BILL_SLACK_SECONDS
    ) -> Decimal:
        """Return the start prices and the full rate since approval, whatever was reported."""
        elapsed = self._end_seconds(now_seconds) - self.approved_seconds
        return self.start_glm + self._full_rate_glm(elapsed + slack_seconds)

    @property
    def start_glm(self) -> Decimal:
        """The start prices of all activities."""
        return self.prices.start_glm * max(1, self.activities)

    def reported(self, activity_id: str, due_glm: Decimal, now_seconds: float) -> Account:
        """Return the account after a report of what an activity has cost; see `SpendingGuard`."""
        before = self.meters.get(activity_id, Meter(ZERO, now_seconds)).reported_glm
        others = self.reported_glm - before
        due_glm = min(due_glm, self.clock_bound_glm(now_seconds) - others)
        if due_glm < before:
            return self
        meters = {**self.meters, activity_id: Meter(due_glm, now_seconds)}
        return replace(self, meters=meters, activities=max(self.activities, len(meters)))

    def _unreported_seconds(self, now_seconds: float, slack_seconds: float) -> float:
        """Return for how long nobody knows what was used, the slack of each activity included.

        After its last report an activity may have gone on until the next one's first.
        """
        times = [meter.reported_seconds for meter in self.meters.values()]
        ends = [*times[1:], self._end_seconds(now_seconds)]
        gaps = (max(0.0, end - time) for time, end in zip(times, ends, strict=True))
        return sum(gaps) + slack_seconds * len(times)

    def _end_seconds(self, now_seconds: float) -> float:
        return now_seconds if self.ended_seconds is None else min(now_seconds, self.ended_seconds)

    @cached_property
    def expected_rate_glm(self) -> Decimal:
        """The GLM a second that further work is expected to cost, at most the full rate."""
        full = self._full_rate_glm(1.0)
        if self.reported_seconds is None or self.reported_seconds <= self.approved_seconds:
            return full
        elapsed = Decimal(repr(self.reported_seconds - self.approved_seconds))
        measured = (self.reported_glm - self.start_glm) / elapsed
        return min(full, RATE_MARGIN * max(measured, ZERO))

    def _full_rate_glm(self, seconds: float) -> Decimal:
        return self._full_hour_glm * Decimal(repr(max(0.0, seconds))) / 3600

    @cached_property
    def _full_hour_glm(self) -> Decimal:
        return self.prices.full_hour_glm(self.threads)


@dataclass
class SpendingGuard:
    """The state of one run's money. Times are seconds of one monotone clock.

    spent_before_glm: what was accepted of agreements that have no account here.
    owed_before_glm: by agreement, what those may still cost beyond that: it is kept back.
    spent_before_by_provider: the parts of `spent_before_glm`, for accounts by provider only.
    """

    budget_glm: Decimal
    spent_before_glm: Decimal = ZERO
    accounts: dict[str, Account] = field(default_factory=dict)
    owed_before_glm: dict[str, Decimal] = field(default_factory=dict)
    spent_before_by_provider: dict[str, Decimal] = field(default_factory=dict)

    def open_account(self, account: Account) -> None:
        """Start to count an agreement.

        One of an earlier session, taken up again, comes with what was accepted of it; from now on
        that is counted here and not as spent or owed before.
        """
        self.owed_before_glm.pop(account.agreement_id, None)
        if account.accepted_glm:
            self.spent_before_glm -= account.accepted_glm
            provider = account.provider_id
            before = self.spent_before_by_provider.get(provider, ZERO)
            self.spent_before_by_provider[provider] = max(ZERO, before - account.accepted_glm)
        self.accounts[account.agreement_id] = account

    def begin_activity(self, agreement_id: str, count: int) -> None:
        """Note how many activities an agreement has had: each costs its start price."""
        account = self.accounts[agreement_id]
        self.accounts[agreement_id] = replace(account, activities=max(count, account.activities))

    def report_usage(
        self, agreement_id: str, due_glm: Decimal, now_seconds: float, activity_id: str = ""
    ) -> None:
        """Note what the usage of an activity costs as reported, up to what the clock allows.

        It is ignored if it runs backwards.
        """
        account = self.accounts[agreement_id]
        self.accounts[agreement_id] = account.reported(activity_id, due_glm, now_seconds)

    def end(self, agreement_id: str, now_seconds: float) -> None:
        """Note that the agreement is terminated: nothing more can become due."""
        account = self.accounts[agreement_id]
        if account.ended_seconds is None:
            self.accounts[agreement_id] = replace(account, ended_seconds=now_seconds)

    def accepted(self, agreement_id: str, total_glm: Decimal, *, is_final: bool) -> None:
        """Note that a bill was accepted: `total_glm` for the whole agreement so far."""
        account = self.accounts[agreement_id]
        self.accounts[agreement_id] = replace(
            account,
            accepted_glm=max(account.accepted_glm, total_glm),
            is_settled=account.is_settled or is_final,
        )

    def refuse(self, agreement_id: str) -> None:
        """Note that the final bill of an agreement was refused: it will not be paid any more."""
        self.accounts[agreement_id] = replace(self.accounts[agreement_id], is_settled=True)

    def acceptable_glm(self, agreement_id: str, now_seconds: float) -> Decimal:
        """Return the most that a bill of this agreement may ask for at `now_seconds`.

        What can be due by usage and clock, and never so much that all that is accepted together
        exceeds the budget.
        """
        bound = self.accounts[agreement_id].bound_glm(now_seconds)
        return min(bound, self.affordable_glm(agreement_id))

    def affordable_glm(self, agreement_id: str) -> Decimal:
        """Return the most that the budget allows to accept of this agreement in all."""
        left = self.budget_glm - (self.accepted_glm - self.accounts[agreement_id].accepted_glm)
        return max(left, ZERO)

    def exposure_glm(self, now_seconds: float) -> Decimal:
        """Return the most that can be owed for what has happened until `now_seconds`.

        That is what this session has done, and what is still open of earlier ones.
        """
        owed = sum(self.owed_before_glm.values(), ZERO)
        return sum(
            (self._exposure(account, now_seconds) for account in self.accounts.values()), owed
        )

    @property
    def expected_rate_glm(self) -> Decimal:
        """Return the GLM a second that all open agreements together are expected to cost."""
        return sum(
            (
                account.expected_rate_glm
                for account in self.accounts.values()
                if account.ended_seconds is None
            ),
            ZERO,
        )

    def may_spend_seconds(self, now_seconds: float) -> float:
        """Return for how long all open agreements may go on before the budget could be exceeded.

        At the rates that were measured so far, with a margin; at the full rate where none was.
        """
        rate = self.expected_rate_glm
        left = self.budget_glm - self.spent_before_glm - self.exposure_glm(now_seconds)
        if left <= 0:
            return 0.0
        return float(left / rate) if rate > 0 else float("inf")

    @property
    def accepted_glm(self) -> Decimal:
        """Sum of what was accepted in this and earlier sessions of the run."""
        return self.spent_before_glm + sum(
            (account.accepted_glm for account in self.accounts.values()), ZERO
        )

    @property
    def due_glm(self) -> Decimal:
        """Best estimate of the run's cost so far: accepted where settled, else usage reported."""
        return self.spent_before_glm + sum(map(_due, self.accounts.values()), ZERO)

    @property
    def due_by_provider(self) -> dict[str, Decimal]:
        """The same by provider (node id); providers that cost nothing are left out."""
        due = dict(self.spent_before_by_provider)
        for account in self.accounts.values():
            due[account.provider_id] = due.get(account.provider_id, ZERO) + _due(account)
        return {provider: glm for provider, glm in due.items() if glm}

    @staticmethod
    def _exposure(account: Account, now_seconds: float) -> Decimal:
        if account.is_settled:
            return account.accepted_glm
        return account.bound_glm(now_seconds, PLAN_SLACK_SECONDS)


def _due(account: Account) -> Decimal:
    if account.is_settled:
        return account.accepted_glm
    return max(account.accepted_glm, account.reported_glm, account.start_glm)


def marked_allocation_glm(amount_glm: Decimal, mark: int) -> Decimal:
    """Return `amount_glm` less `mark` of the smallest units: an allocation we can recognise.

    The daemon keeps no label on an allocation. Its exact amount, written to the ledger before the
    request goes out, is how a crashed run finds an allocation whose id it never learned.
    """
    with localcontext(prec=EXACT_DIGITS):
        whole = amount_glm.quantize(GLM_QUANTUM, rounding=ROUND_DOWN)
        return whole - GLM_QUANTUM * mark


def is_amount(asked: Decimal) -> bool:
    """Say whether that can be an amount at all: not negative, and of a bounded number of digits."""
    if not asked.is_finite() or not ZERO <= asked <= MAX_GLM:
        return False
    exponent = asked.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -EXACT_DIGITS


def presentable_glm(asked: Decimal) -> Decimal:
    """Return what a stranger asks, or what is nearest to it in few enough digits to show."""
    if asked.is_nan():
        return MAX_GLM
    if asked.copy_abs() > MAX_GLM:
        return MAX_GLM.copy_sign(asked)
    exponent = asked.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -EXACT_DIGITS:
        return asked
    with localcontext(prec=EXACT_DIGITS):
        return asked.quantize(GLM_QUANTUM, rounding=ROUND_DOWN)
