"""The whole program on real yagna: the same weights, and money that arrives to the last digit."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from requestor.mock_golem.fleet import load_fleet
from requestor.mock_golem.testnet.testnet import Testnet, TestnetSettings

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench

pytestmark = [pytest.mark.testnet, pytest.mark.timeout(300)]

FLEET = Path(__file__).parents[2] / "configs" / "fleets" / "four.yaml"
PAYMENT_SECONDS = 60.0


def test_the_real_daemon_does_not_matter(bench: Workbench, reference: Reference) -> None:
    run = bench.train("golem.mode=testnet", f"golem.fleet={FLEET}")
    bench.assert_no_process_left()

    assert run.weights == reference.run.weights
    paid_glm, left = asyncio.run(look_after(run.path / "mock-golem"))
    assert left == {"allocations": [], "agreements": []}
    assert paid_glm == run.spent_glm > 0


async def look_after(state: Path) -> tuple[Decimal, dict[str, Any]]:
    """Open a run's testnet again: what its payees have got, and what is still open in the daemon.

    The run ended as soon as its bills were accepted; they are paid now.
    """
    fleet = load_fleet(FLEET)
    testnet = Testnet(TestnetSettings(fleet=fleet, state_directory=state))
    address = await testnet.start()
    try:
        headers = {"Authorization": f"Bearer {address.app_key}"}
        async with aiohttp.ClientSession(address.url, headers=headers) as session:

            async def get(path: str) -> Any:
                async with session.get(path) as answer:
                    assert answer.status == 200, await answer.text()
                    return await answer.json()

            async with asyncio.timeout(PAYMENT_SECONDS):
                while {one["status"] for one in await get("/payment-api/v1/invoices")} != {
                    "SETTLED"
                }:
                    await asyncio.sleep(0.1)
            left = {
                "allocations": await get("/payment-api/v1/allocations"),
                "agreements": await get("/market-api/v1/agreements?state=Approved"),
            }
        payees = testnet.yagna.providers.values()
        units = sum(testnet.chain.tokens_of(payee.node_id) for payee in payees)
        return Decimal(units).scaleb(-18), left
    finally:
        await testnet.stop()
