"""What the run owes and what it may still spend: pure arithmetic over exact decimals.

The numbers rest on *our* clock and on usage as last reported; they are upper bounds. A bill above
its bound is not accepted, nor one that would take the sum over the budget, and work stops while
the sum of all bounds still fits the budget. So what is accepted can never exceed the budget,
whatever a provider claims, and an honest provider is paid in full unless the budget ends first.
"""

from __future__ import annotations

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

    def within(self, ceilings: Prices) -> bool:
        """Say whether no price is above its ceiling."""
        return (
            self.start_glm <= ceilings.start_glm
            and self.cpu_hour_glm <= ceilings.cpu_hour_glm
            and self.hour_glm <= ceilings.hour_glm
        )


@dataclass(frozen=True)
class Account:
    """One agreement's money."""

    agreement_id: str
    provider_id: str
    prices: Prices
    threads: int
    approved_seconds: float
    reported_glm: Decimal = ZERO
    reported_seconds: float | None = None
    ended_seconds: float | None = None
    accepted_glm: Decimal = ZERO
    is_settled: bool = False

    def bound_glm(self, now_seconds: float, slack_seconds: float = BILL_SLACK_SECONDS) -> Decimal:
        """Return the most that can be due at `now_seconds`.

        The start price and the full rate (every thread busy) since approval; or, where usage has
        been reported, that usage's cost and the full rate since the report; whichever is less.
        Both times are lengthened by `slack_seconds`. Never less than was accepted already.
        """
        end = self._end_seconds(now_seconds)
        due = self.clock_bound_glm(now_seconds, slack_seconds)
        if self.reported_seconds is not None:
            since_report = max(0.0, end - self.reported_seconds) + slack_seconds
            due = min(due, self.reported_glm + self._full_rate_glm(since_report))
        return max(due + BILL_ROUNDING_GLM, self.accepted_glm)

    def clock_bound_glm(
        self, now_seconds: float, slack_seconds: float = BILL_SLACK_SECONDS
    ) -> Decimal:
        """Return the start price and the full rate since approval, whatever was reported."""
        elapsed = self._end_seconds(now_seconds) - self.approved_seconds
        return self.prices.start_glm + self._full_rate_glm(elapsed + slack_seconds)

    def _end_seconds(self, now_seconds: float) -> float:
        return now_seconds if self.ended_seconds is None else min(now_seconds, self.ended_seconds)

    @cached_property
    def expected_rate_glm(self) -> Decimal:
        """The GLM a second that further work is expected to cost, at most the full rate."""
        full = self._full_rate_glm(1.0)
        if self.reported_seconds is None or self.reported_seconds <= self.approved_seconds:
            return full
        elapsed = Decimal(repr(self.reported_seconds - self.approved_seconds))
        measured = (self.reported_glm - self.prices.start_glm) / elapsed
        return min(full, RATE_MARGIN * max(measured, ZERO))

    def _full_rate_glm(self, seconds: float) -> Decimal:
        return self._full_hour_glm * Decimal(repr(max(0.0, seconds))) / 3600

    @cached_property
    def _full_hour_glm(self) -> Decimal:
        return self.prices.cpu_hour_glm * self.threads + self.prices.hour_glm


@dataclass
class SpendingGuard:
    """The state of one run's money. Times are seconds of one monotone clock."""

    budget_glm: Decimal
    spent_before_glm: Decimal = ZERO
    accounts: dict[str, Account] = field(default_factory=dict)

    def open_account(self, account: Account) -> None:
        """Start to count an agreement."""
        self.accounts[account.agreement_id] = account

    def report_usage(self, agreement_id: str, due_glm: Decimal, now_seconds: float) -> None:
        """Note what the usage reported by the provider costs, up to what the clock allows.

        It is ignored if it runs backwards.
        """
        account = self.accounts[agreement_id]
        due_glm = min(due_glm, account.clock_bound_glm(now_seconds))
        if due_glm >= account.reported_glm:
            self.accounts[agreement_id] = replace(
                account, reported_glm=due_glm, reported_seconds=now_seconds
            )

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
        account = self.accounts[agreement_id]
        left = self.budget_glm - (self.accepted_glm - account.accepted_glm)
        return min(account.bound_glm(now_seconds), max(left, ZERO))

    def exposure_glm(self, now_seconds: float) -> Decimal:
        """Return the most this session can owe for what has happened until `now_seconds`."""
        return sum(
            (self._exposure(account, now_seconds) for account in self.accounts.values()), ZERO
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
        return self.spent_before_glm + sum(
            (
                account.accepted_glm
                if account.is_settled
                else max(account.accepted_glm, account.reported_glm, account.prices.start_glm)
                for account in self.accounts.values()
            ),
            ZERO,
        )

    @staticmethod
    def _exposure(account: Account, now_seconds: float) -> Decimal:
        if account.is_settled:
            return account.accepted_glm
        return account.bound_glm(now_seconds, PLAN_SLACK_SECONDS)


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
