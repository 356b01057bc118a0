"""Bills that could not be paid in their time: paid while an allocation of the run is open."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from ya_payment.exceptions import ApiException
from yapapi.rest.payment import Invoice

from requestor.marketplace.golem.daemon.api import DaemonApi
from requestor.marketplace.golem.paying.debts import wind_up
from requestor.marketplace.golem.paying.sweep import Sweep
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices
from requestor.mock_golem import records
from requestor.mock_golem.identifiers import new_document_id
from requestor.mock_golem.money import add, cost

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import Market, OpenMarket

pytestmark = pytest.mark.asyncio

api_error: Any = ApiException


class Failing:
    """Stands in for `Invoice.accept`: fails at first, then does as it always did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.failures = 1
        original = Invoice.accept

        async def accept(invoice: Invoice, **fields: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise error
            await original(invoice, **fields)

        monkeypatch.setattr(Invoice, "accept", accept)


@pytest.mark.parametrize(
    "error", [aiohttp.ClientConnectionError("reset by peer"), api_error(status=503)]
)
async def test_a_payment_that_fails_in_passing_is_made_before_the_allocation_goes(
    open_market: OpenMarket, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    market = await open_market("{name: oak}")
    failing = Failing(monkeypatch, error)
    async with market.rent() as pool:
        await market.work(pool)
    assert not failing.failures
    assert any("a bill could not be paid" in notice for notice in market.notices)
    assert market.paid() == {"oak"}
    assert not market.ledger.refused_agreements
    market.check_books()


async def test_a_payment_that_can_never_work_is_not_tried_again(
    open_market: OpenMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = await open_market("{name: oak}")
    Failing(monkeypatch, api_error(status=400))
    async with market.rent() as pool:
        await market.work(pool)
    assert not market.paid()
    assert len(market.ledger.refused_agreements) == 1
    market.check_books()


def send_invoice(market: Market) -> Decimal:
    """Have the provider of the only agreement send its invoice after all."""
    assert market.daemon is not None
    books = market.daemon.books
    (agreement,) = books.agreements.values()
    activities = books.activities_of(agreement.agreement_id)
    amount = add(*(cost(agreement.coefficients, one.usage) for one in activities))
    now = books.stamp()
    books.commit(
        records.Invoice(
            invoice_id=new_document_id(),
            issuer_id=agreement.provider_id,
            recipient_id=next(iter(books.allocations.values())).address,
            payment_platform=next(iter(books.allocations.values())).payment_platform,
            timestamp=now,
            agreement_id=agreement.agreement_id,
            activity_ids=tuple(one.activity_id for one in activities),
            amount=amount,
            payment_due_date=now,
        )
    )
    return amount


async def test_an_invoice_of_an_earlier_session_is_paid_by_the_next(
    open_market: OpenMarket,
) -> None:
    market = await open_market("{name: oak, faults: [{kind: no_invoice, times: 1}]}")
    async with market.rent(invoice_timeout_seconds=0.2) as pool:
        await market.work(pool)
    assert not market.paid()
    market.check_books()
    amount = send_invoice(market)
    await market.sweep()
    assert not market.paid()  # there is no allocation to pay from
    async with market.rent() as pool:
        await pool.next_lease()
    assert len(market.ledger.invoiced) == 2
    assert amount in market.ledger.accepted_glm.values()
    market.check_books()


async def test_an_invoice_beyond_the_budget_is_paid_from_a_larger_one(
    open_market: OpenMarket,
) -> None:
    """Nothing is rented for that: an allocation of its own is made, and released."""
    market = await open_market("{name: oak, price: {start_glm: 0.02, hour_glm: 36}}")
    ceilings = Prices(Decimal(1), Decimal(1), Decimal(100))
    async with market.rent(budget_glm=Decimal("0.06"), ceilings=ceilings) as pool:
        await pool.next_lease()
        # a dispatcher would have stopped before
        await market.until(lambda: pool.spending.due_glm > Decimal("0.06"))
    assert any("stays unpaid" in notice for notice in market.notices)
    assert not market.paid()
    assert list(market.ledger.put_off_glm.values()) == [
        one.amount for one in market.books.invoices.values()
    ]
    market.check_books()
    ledger = Ledger(market.folder / "ledger.jsonl")
    async with DaemonApi(market.address) as api:
        sweep = Sweep(api, ledger, "run-1", market.notices.append)
        report = await wind_up(sweep, Decimal(1), 1.0)
    ledger.close()
    assert report.invoices == 1
    assert market.paid() == {"oak"}
    assert not market.ledger.put_off_glm
    assert len(market.books.allocations) == 2
    market.check_books()


async def test_the_daemon_tells_when_agreements_ended(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak, count: 2}")
    async with market.rent(providers=2) as pool:
        for _ in range(2):
            await pool.next_lease()
    async with DaemonApi(market.address) as api:
        endings = await api.agreement_endings(0.0)
        later = await api.agreement_endings(max(endings.values()))
    ended = {name: one.ended_at for name, one in market.books.agreements.items()}
    assert endings == {name: at.timestamp() for name, at in ended.items() if at is not None}
    assert len(endings) == 2
    assert later == {}
