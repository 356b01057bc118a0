"""The payment API's allocations: what the requestor sets aside, and demand decorations."""

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from requestor.mock_golem.answers import (
    ProblemRefusal,
    Refusal,
    TextRefusal,
    json_answer,
    missing_field,
    query_count,
    query_instant,
    read_object,
)
from requestor.mock_golem.clock import parse_instant, rfc3339
from requestor.mock_golem.faults import AllocationRefused, FaultSchedule
from requestor.mock_golem.identifiers import new_document_id
from requestor.mock_golem.money import plain, subtract
from requestor.mock_golem.records import Allocation
from requestor.mock_golem.surroundings import Surroundings

_ALLOCATIONS = "/payment-api/v1/allocations"
_DEFAULT_LIFETIME = timedelta(days=3650)
# short exponents only: an amount of a few bytes must not become one of a billion digits
_AMOUNT = re.compile(r"[+-]?(\d{1,100}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,2})?")
_PLATFORM_PARTS = 3


class AllocationsApi:
    """Routes of allocations.

    Args:
        surroundings: books and time.
        faults: the daemon's faults.
    """

    def __init__(self, surroundings: Surroundings, faults: FaultSchedule) -> None:
        self._around = surroundings
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        one = f"{_ALLOCATIONS}/{{allocation_id}}"
        return [
            web.get("/payment-api/v1/requestorAccounts", self._accounts),
            web.get("/payment-api/v1/demandDecorations", self._decorations),
            web.post(_ALLOCATIONS, self._create_allocation),
            web.get(_ALLOCATIONS, self._list_allocations),
            web.get(one, self._show_allocation),
            web.put(one, self._amend_allocation),
            web.delete(one, self._release_allocation),
        ]

    async def _accounts(self, request: web.Request) -> web.Response:
        payment = self._around.fleet.payment
        account = {
            "platform": payment.platform,
            "address": self._around.requestor_id,
            "driver": payment.driver,
            "network": payment.network,
            "token": payment.token.replace("glm", "GLM"),
            "send": True,
            "receive": False,
        }
        return json_answer([account])

    async def _create_allocation(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        body_text = await request.text()
        if "totalAmount" not in body:
            raise TextRefusal(400, missing_field("totalAmount", body_text))
        amount = read_amount(body["totalAmount"], body_text)
        now = self._around.clock.now()
        timeout = now + _DEFAULT_LIFETIME
        if body.get("timeout") is not None:
            timeout = _instant(body["timeout"])
        echo = _echo(body)
        platform = self._platform(body.get("paymentPlatform"), echo)
        if timeout <= now:
            raise self._timeout_passed(platform, echo, str(body["timeout"]))
        self._check_funds(amount, amount, platform, echo)
        allocation = Allocation(
            allocation_id=new_document_id(),
            address=self._around.requestor_id,
            payment_platform=platform,
            total_amount=amount,
            timestamp=now,
            timeout=timeout,
            make_deposit=bool(body.get("makeDeposit", False)),
        )
        self._around.books.commit(allocation)
        return json_answer(allocation.as_json(), 201)

    def _platform(self, wanted: Any, echo: dict[str, Any]) -> str:
        payment = self._around.fleet.payment
        if wanted is None:
            return payment.platform
        if isinstance(wanted, dict):
            wanted = "-".join(
                str(wanted.get(part) or getattr(payment, part))
                for part in ("driver", "network", "token")
            )
        if wanted == payment.platform:
            return payment.platform
        parts = str(wanted).split("-")
        if len(parts) != _PLATFORM_PARTS:
            raise ProblemRefusal(
                400,
                {
                    "type": f"{_ALLOCATIONS}/bad-payment-platform",
                    "detail": "Payment platform doesn't parse",
                    "parseError": "paymentPlatform must be of the form driver-network-token "
                    f"instead of {wanted}",
                    "requestBody": echo,
                    "requestedPaymentPlatform": wanted,
                },
            )
        raise ProblemRefusal(
            500,
            {
                "type": f"{_ALLOCATIONS}/internal-error",
                "detail": "Unhandled internal error",
                "internalError": "RPC error: Error while validating allocation: Error while "
                f"sending payment: CustomError: Chain {parts[1]} not found in config file "
                f"(this daemon's platform is {payment.platform})",
                "requestBody": echo,
            },
        )

    def _timeout_passed(self, platform: str, echo: dict[str, Any], wanted: str) -> ProblemRefusal:
        return ProblemRefusal(
            400,
            {
                "type": f"{_ALLOCATIONS}/validation-error",
                "detail": "Requested allocation timeout is in the past",
                "instance": f"{_ALLOCATIONS}/validation-error/timeout-passed",
                "address": self._around.requestor_id,
                "paymentPlatform": platform,
                "requestBody": echo,
                "requestedTimeout": wanted,
            },
        )

    def _check_funds(
        self, added: Decimal, requested: Decimal, platform: str, echo: dict[str, Any]
    ) -> None:
        books = self._around.books
        available = subtract(self._around.fleet.requestor.funds_glm, books.spent_glm())
        reserved = books.reserved_glm()
        refused = self._faults.fires(AllocationRefused) is not None
        if not refused and added <= subtract(available, reserved):
            return
        raise ProblemRefusal(
            400,
            {
                "type": f"{_ALLOCATIONS}/validation-error",
                "detail": "Insufficient funds to create the allocation. Top up your account or "
                "release all existing allocations to unlock the funds via `yagna payment "
                "release-allocations`",
                "instance": f"{_ALLOCATIONS}/validation-error/insufficient-account-funds",
                "address": self._around.requestor_id,
                "availableFunds": plain(Decimal(0) if refused else available),
                "paymentPlatform": platform,
                "requestBody": echo,
                "requestedFunds": plain(requested),
                "reservedFunds": plain(reserved),
            },
        )

    async def _list_allocations(self, request: web.Request) -> web.Response:
        now = self._around.clock.now()
        after = query_instant(request, "afterTimestamp")
        shown = [
            allocation.as_json()
            for allocation in self._around.books.allocations.values()
            if allocation.is_open(now) and (after is None or allocation.timestamp > after)
        ]
        return json_answer(shown[: query_count(request, "maxItems")])

    async def _show_allocation(self, request: web.Request) -> web.Response:
        allocation = self._around.books.allocation(request.match_info["allocation_id"])
        return json_answer(allocation.as_json())

    async def _amend_allocation(self, request: web.Request) -> web.Response:
        allocation = self._around.books.allocation(request.match_info["allocation_id"])
        body = await read_object(request)
        if body.get("totalAmount") is not None:
            amount = read_amount(body["totalAmount"], await request.text())
            if amount < allocation.spent_amount:
                raise Refusal(400, "The new total amount is below what was spent")
            added = subtract(amount, allocation.total_amount)
            self._check_funds(added, amount, allocation.payment_platform, _echo(body))
            allocation = allocation.changed(total_amount=amount)
        if body.get("timeout") is not None:
            timeout = _instant(body["timeout"])
            if timeout <= self._around.clock.now():
                platform = allocation.payment_platform
                raise self._timeout_passed(platform, _echo(body), str(body["timeout"]))
            allocation = allocation.changed(timeout=timeout)
        self._around.books.commit(allocation)
        return json_answer(allocation.as_json())

    async def _release_allocation(self, request: web.Request) -> web.Response:
        allocation_id = request.match_info["allocation_id"]
        allocation = self._around.books.allocations.get(allocation_id)
        if allocation is None:
            raise Refusal(404, None)
        now = self._around.clock.now()
        if not allocation.is_open(now):
            raise Refusal(410, f"Allocation {allocation_id} has been already released")
        self._around.books.commit(allocation.changed(released_at=now))
        return json_answer(None)

    async def _decorations(self, request: web.Request) -> web.Response:
        ids = [one for one in request.query.get("allocationIds", "").split(",") if one]
        if not ids:
            raise TextRefusal(400, "Query deserialize error: missing field `allocationIds`")
        allocations = [self._around.books.allocation(one) for one in ids]
        platforms = sorted({allocation.payment_platform for allocation in allocations})
        names = [f"golem.com.payment.platform.{platform}.address" for platform in platforms]
        clauses = "".join(f"({name}=*)" for name in names)
        properties = [{"key": name, "value": self._around.requestor_id} for name in names]
        properties.append({"key": "golem.com.payment.protocol.version", "value": "3"})
        constraints = [
            clauses if len(names) == 1 else f"(|{clauses})",
            "(golem.com.payment.protocol.version>1)",
        ]
        return json_answer({"properties": properties, "constraints": constraints})


def read_amount(value: Any, body_text: str) -> Decimal:
    """Read an amount of GLM from a body.

    Raises:
        TextRefusal: 400, it is not a decimal of moderate length.
    """
    text = str(value) if isinstance(value, str | int | float) else ""
    if isinstance(value, bool) or _AMOUNT.fullmatch(text) is None:
        shown = json.dumps(value)
        column = body_text.find(shown) + len(shown)
        raise TextRefusal(
            400,
            f"Json deserialize error: invalid digit found in string at line 1 column {column}",
        )
    return Decimal(text)


def _instant(value: Any) -> datetime:
    try:
        return parse_instant(str(value))
    except ValueError as error:
        raise TextRefusal(
            400, "Json deserialize error: input contains invalid characters at line 1"
        ) from error


def _echo(body: dict[str, Any]) -> dict[str, Any]:
    """Return a new allocation's body as yagna repeats it in problem documents."""
    echo: dict[str, Any] = {
        "address": None,
        "deposit": None,
        "extendTimeout": None,
        "makeDeposit": False,
    }
    known = ("address", "deposit", "extendTimeout", "makeDeposit", "paymentPlatform")
    echo |= {name: body.get(name, echo.get(name)) for name in known}
    if body.get("timeout") is not None:
        echo["timeout"] = rfc3339(_instant(body["timeout"]))
    echo["totalAmount"] = body.get("totalAmount")
    return echo
