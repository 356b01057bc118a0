"""A benchmark that cannot be made says so in words, not in a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from requestor.errors import RunFailed
from requestor.marketplace.ports import MarketplaceLost, Terms
from requestor.quoting.benchmark import OrderBook, measure_providers


class Absent:
    """A marketplace whose daemon is gone before anything is rented."""

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[Any]:
        raise MarketplaceLost("the daemon does not answer")
        yield


def test_a_daemon_that_goes_away_is_told() -> None:
    book, terms = cast(OrderBook, None), cast(Terms, None)
    with pytest.raises(RunFailed, match="cut off: the daemon does not answer") as caught:
        asyncio.run(measure_providers(book, Absent(), terms, 1.0, lambda _: None))
    assert "derl-request sweep" in str(caught.value.fix)
