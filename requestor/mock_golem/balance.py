"""What the requestor's account holds, as yagna tells it over its bridge to the service bus.

`POST /_gsb/local/payment/GetStatus` is what `yagna payment status` asks; there is no other route
that tells a balance.
"""

from decimal import Decimal
from typing import Any

from aiohttp import web

from requestor.mock_golem.answers import TextRefusal, json_answer, read_object
from requestor.mock_golem.clock import rfc3339
from requestor.mock_golem.money import plain, subtract
from requestor.mock_golem.surroundings import Surroundings

GAS = Decimal(1)
"""Gas is never short on the mock: nothing is settled on a chain."""


class BalanceApi:
    """The route of balances.

    Args:
        surroundings: books, fleet and time.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [
            web.post("/_gsb/local/payment/GetStatus", self._status),
            web.post("/_gsb/{service:.*}", self._unknown),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        for name in ("address", "driver", "after_timestamp"):
            if name not in body:
                raise TextRefusal(500, f"Bad content: Serde Error: missing field `{name}`")
        payment = self._around.fleet.payment
        driver, network = str(body["driver"]), str(body.get("network") or payment.network)
        if (driver, network) != (payment.driver, payment.network):
            text = f"Network not supported by driver: network={network}, driver={driver}"
            return json_answer({"Err": {"inner": text}})
        return json_answer({"Ok": self._account()})

    async def _unknown(self, request: web.Request) -> web.Response:
        raise TextRefusal(500, "Bad request: endpoint address not found")

    def _account(self) -> dict[str, Any]:
        around = self._around
        books, payment = around.books, around.fleet.payment
        is_main = payment.token == "glm"
        return {
            "amount": plain(subtract(around.fleet.requestor.funds_glm, books.spent_glm())),
            "reserved": plain(books.reserved_glm()),
            "outgoing": _notes(books.spent_glm()),
            "incoming": _notes(Decimal(0)),
            "driver": payment.driver,
            "network": payment.network,
            "token": "GLM" if is_main else "tGLM",
            "gas": {
                "currency_short_name": "ETH" if is_main else "tETH",
                "currency_long_name": f"{payment.network.capitalize()} Ether",
                "balance": plain(GAS),
            },
            "block_number": 0,
            "block_datetime": rfc3339(around.clock.now()),
        }


def _notes(amount: Decimal) -> dict[str, Any]:
    stand = {"totalAmount": plain(amount), "agreementsCount": 0}
    return {"requested": stand, "accepted": stand, "confirmed": stand}
