"""What a run costs is told while it changes; very many providers are not named every time."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from requestor.marketplace.money.spending import Account, Prices, SpendingGuard
from requestor.training_run.events import Event, SpendingReported
from requestor.training_run.spending_reports import SpendingReporter

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime


def told_of(
    run_in_virtual_time: RunInVirtualTime, providers: int, changes: int
) -> list[SpendingReported]:
    """The reports on a session in which the first provider's usage grows every second."""
    guard = SpendingGuard(Decimal(9), Decimal(1), spent_before_by_provider={"0xold": Decimal(1)})
    for number in range(providers):
        prices = Prices(start_glm=Decimal("0.5"), hour_glm=Decimal(3600))
        guard.open_account(Account(f"g{number}", f"0x{number}", prices, 1, 0.0))
    told: list[Event] = []

    async def main() -> None:
        pool = cast(Any, SimpleNamespace(spending=guard))
        reporter = asyncio.create_task(SpendingReporter(pool, told.append).run())
        for second in range(1, changes + 1):
            await asyncio.sleep(1.0)
            guard.report_usage("g0", Decimal("0.5") + second, float(second))
        await asyncio.sleep(5.0)
        reporter.cancel()

    run_in_virtual_time(main())
    return cast(list[SpendingReported], told)


def test_changes_are_told_with_what_each_provider_cost(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    reports = told_of(run_in_virtual_time, providers=2, changes=3)
    assert [report.due_glm for report in reports] == ["2.0", "3.0", "4.0", "5.0"]
    assert reports[0].provider_glm == {"0xold": "1", "0x0": "0.5", "0x1": "0.5"}
    assert reports[-1].provider_glm == {"0xold": "1", "0x0": "3.5", "0x1": "0.5"}
    assert {report.budget_glm for report in reports} == {"9"}


@pytest.mark.parametrize(("providers", "every"), [(30, 1), (40, 2), (100, 4)])
def test_of_very_many_providers_only_some_reports_tell(
    run_in_virtual_time: RunInVirtualTime, providers: int, every: int
) -> None:
    reports = told_of(run_in_virtual_time, providers, changes=8)
    named = [bool(report.provider_glm) for report in reports]
    assert named == [number % every == 0 for number in range(len(reports))]


def test_it_tells_at_once_when_asked() -> None:
    guard = SpendingGuard(Decimal(9))
    told: list[Event] = []
    reporter = SpendingReporter(cast(Any, SimpleNamespace(spending=guard)), told.append)
    reporter.tell()
    reporter.tell()
    guard.open_account(Account("g", "0x1", Prices(start_glm=Decimal("0.5")), 1, 0.0))
    reporter.tell()
    due = [report.due_glm for report in cast(list[SpendingReported], told)]
    assert due == ["0", "0.5"]
