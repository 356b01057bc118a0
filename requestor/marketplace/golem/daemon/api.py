"""The few calls to the daemon that yapapi does not make for us: preflight, usage, clean-up.

Whatever the daemon answers is read up to a limit and checked for its shape; every failure becomes
a `DaemonError` that says which call failed and how.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp

from requestor.marketplace.golem.daemon.address import DaemonAddress
from requestor.marketplace.golem.daemon.answers import (
    DaemonError,
    moment_of,
    read_timestamp,
)
from requestor.marketplace.golem.daemon.words import message_of, reason_of

__all__ = ["DaemonAddress", "DaemonApi", "DaemonError", "message_of"]

MAX_ANSWER_BYTES = 8 << 20
PAGE_ROWS = 500
PAGE_EVENTS = 100  # yagna refuses to tell more of agreements' events at once
_INSTANT = timedelta(microseconds=1)


class DaemonApi:
    """An open connection to the daemon's REST API; use as an async context manager."""

    def __init__(self, address: DaemonAddress, timeout_seconds: float = 15.0) -> None:
        """Prepare a connection to `address`."""
        self._address = address
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            headers={"Authorization": f"Bearer {self._address.app_key}"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def version(self) -> str:
        """Return the daemon's version, e.g. `0.17.6`."""
        answer = await self._call("GET", f"{self._address.url}/version/get")
        current = answer.get("current") if isinstance(answer, dict) else None
        return str(current.get("version", "unknown")) if isinstance(current, dict) else "unknown"

    async def identity(self) -> str:
        """Return our node id."""
        answer = await self._call("GET", f"{self._address.url}/me")
        if not isinstance(answer, dict) or not isinstance(answer.get("identity"), str):
            raise DaemonError("GET /me", 200, "the answer has no identity")
        return str(answer["identity"])

    async def date(self) -> datetime | None:
        """Return what time it is for the daemon, to the second; None if it does not tell."""
        if self._session is None:
            raise RuntimeError("the connection is not open")
        try:
            async with self._session.get(f"{self._address.url}/version/get") as response:
                date = parsedate_to_datetime(response.headers.get("Date", ""))
                return date if date.tzinfo else date.replace(tzinfo=UTC)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise DaemonError("GET /version/get", 0, str(error) or type(error).__name__) from error
        except ValueError:
            return None

    async def ask_bus(self, service: str, body: Mapping[str, Any]) -> Any:
        """Ask a service on the daemon's bus, e.g. `local/payment/GetStatus`; return its answer.

        Raises:
            DaemonError: 404 if the daemon has no such bridge; 200 if the service itself refused.
        """
        answer = await self._call("POST", f"{self._address.url}/_gsb/{service}", dict(body))
        if not isinstance(answer, dict) or "Ok" not in answer:
            refusal = answer.get("Err") if isinstance(answer, dict) else None
            inner = refusal.get("inner") if isinstance(refusal, dict) else refusal
            raise DaemonError(f"POST {service}", 200, str(inner)[:300])
        return answer["Ok"]

    async def accounts(self) -> list[dict[str, Any]]:
        """Return the payment accounts that can send."""
        return await self._list(f"{self._address.payment_url}/requestorAccounts")

    async def allocations(self) -> list[dict[str, Any]]:
        """Return our live allocations."""
        return await self._list(f"{self._address.payment_url}/allocations")

    async def allocation(self, allocation_id: str) -> dict[str, Any]:
        """Return one allocation."""
        return await self._dict(f"{self._address.payment_url}/allocations/{_name(allocation_id)}")

    async def create_allocation(self, amount: str, platform: str, address: str) -> str:
        """Set an amount (digits, no exponent) aside; return the allocation's id."""
        body = {
            "totalAmount": amount,
            "paymentPlatform": platform,
            "address": address,
            "makeDeposit": False,
        }
        answer = await self._call("POST", f"{self._address.payment_url}/allocations", body)
        if not isinstance(answer, dict) or not isinstance(answer.get("allocationId"), str):
            raise DaemonError("POST allocations", 201, "the answer has no allocationId")
        return str(answer["allocationId"])

    async def release_allocation(self, allocation_id: str) -> None:
        """Release an allocation; one that is gone already is fine."""
        try:
            url = f"{self._address.payment_url}/allocations/{_name(allocation_id)}"
            await self._call("DELETE", url)
        except DaemonError as error:
            if error.status not in (404, 410):
                raise

    async def subscribe_demand(self, properties: Mapping[str, Any], constraints: str) -> str:
        """Publish a demand; return its id."""
        body = {"properties": dict(properties), "constraints": constraints}
        answer = await self._call("POST", f"{self._address.market_url}/demands", body)
        if not isinstance(answer, str) or not answer:
            raise DaemonError("POST demands", 200, "the answer is no id")
        return answer

    async def demand_events(
        self, demand_id: str, wait_seconds: float, max_events: int
    ) -> list[dict[str, Any]]:
        """Wait for what the market says to a demand; an empty list if it says nothing in time."""
        query = urlencode({"timeout": f"{wait_seconds:.2f}", "maxEvents": max_events})
        url = f"{self._address.market_url}/demands/{_name(demand_id)}/events"
        return await self._list(f"{url}?{query}")

    async def demands(self) -> list[dict[str, Any]]:
        """Return our demands."""
        return await self._list(f"{self._address.market_url}/demands")

    async def unsubscribe_demand(self, demand_id: str) -> None:
        """Take a demand back; one that is gone already is fine."""
        try:
            await self._call("DELETE", f"{self._address.market_url}/demands/{_name(demand_id)}")
        except DaemonError as error:
            if error.status not in (404, 410):
                raise

    async def approved_agreements(self) -> list[str]:
        """Return the ids of agreements in force in which we are the requestor."""
        rows = await self._list(f"{self._address.market_url}/agreements?state=Approved")
        return [
            str(row["id"])
            for row in rows
            if "id" in row and str(row.get("role", "Requestor")) == "Requestor"
        ]

    async def agreement(self, agreement_id: str) -> dict[str, Any]:
        """Return one agreement with demand and offer."""
        return await self._dict(f"{self._address.market_url}/agreements/{_name(agreement_id)}")

    async def agreement_endings(self, since_unix_seconds: float) -> dict[str, float]:
        """Return when agreements were terminated after that, in Unix seconds by their ids."""
        url, endings = f"{self._address.market_url}/agreementEvents", dict[str, float]()
        after, seen = moment_of(since_unix_seconds), set[tuple[str, ...]]()
        while True:
            instant = after.isoformat(timespec="microseconds")
            query = {"timeout": 0, "maxEvents": PAGE_EVENTS, "afterTimestamp": instant}
            rows = await self._list(f"{url}?{urlencode(query)}")
            names = {
                tuple(str(row.get(key)) for key in ("agreementId", "eventType", "eventDate"))
                for row in rows
            }
            endings |= {
                str(row.get("agreementId")): read_timestamp(row, "eventDate").timestamp()
                for row in rows
                if row.get("eventType") == "AgreementTerminatedEvent"
            }
            if len(rows) < PAGE_EVENTS or names <= seen:
                return endings
            seen |= names
            # others may be of the same instant
            after = read_timestamp(rows[-1], "eventDate") - _INSTANT

    async def terminate_agreement(self, agreement_id: str, message: str) -> None:
        """Terminate an agreement; one that is over already is fine."""
        reason = {"message": message, "golem.requestor.code": "Cancelled"}
        url = f"{self._address.market_url}/agreements/{_name(agreement_id)}/terminate"
        try:
            await self._call("POST", url, reason)
        except DaemonError as error:
            if error.status not in (404, 410):
                raise

    async def activities(self, agreement_id: str) -> list[str]:
        """Return the ids of an agreement's activities."""
        query = urlencode({"agreementId": agreement_id})
        answer = await self._call("GET", f"{self._address.activity_url}/activity?{query}")
        if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
            raise DaemonError("GET activity", 200, "the answer is not a list of ids")
        return [str(name) for name in answer]

    async def destroy_activity(self, activity_id: str) -> None:
        """Destroy an activity; whatever is wrong with it is no concern of ours any more."""
        try:
            await self._call("DELETE", self._activity(activity_id))
        except DaemonError as error:
            if error.is_unreachable:
                raise

    async def activity_state(self, activity_id: str) -> str:
        """Return the state of an activity, e.g. `Ready` or `Terminated`."""
        answer = await self._dict(f"{self._activity(activity_id)}/state")
        pair = answer.get("state")
        if not isinstance(pair, list) or not pair or not isinstance(pair[0], str):
            raise DaemonError("GET state", 200, "the answer has no state")
        return pair[0]

    async def usage(self, activity_id: str) -> list[float]:
        """Return the usage vector of an activity, in the order of the offer's."""
        answer = await self._dict(f"{self._activity(activity_id)}/usage")
        values = answer.get("currentUsage")
        if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
            raise DaemonError("GET usage", 200, "the answer has no usage vector")
        try:
            return [float(value) for value in values]
        except OverflowError as error:
            raise DaemonError("GET usage", 200, "a usage is beyond all numbers") from error

    async def invoices(self, since_unix_seconds: float) -> list[dict[str, Any]]:
        """Return invoices to us that are not older than that.

        The daemon lists them in no order, so that only a page that is not full has them all.
        """
        url, count = f"{self._address.payment_url}/invoices", PAGE_ROWS
        while True:
            rows = await self._list(_page(url, moment_of(since_unix_seconds), count))
            if len(rows) < count:
                return rows
            count *= 2

    async def debit_notes(self, since_unix_seconds: float) -> AsyncIterator[dict[str, Any]]:
        """Iterate over debit notes to us that are not older than that; there may be very many.

        The daemon lists them oldest first and knows no cursor but "younger than this". So each
        page begins an instant before the end of the last one, and grows where that leads no
        further: where a whole page is of one instant (or, in old daemons, newest first).
        """
        url, count = f"{self._address.payment_url}/debitNotes", PAGE_ROWS
        after = moment_of(since_unix_seconds)
        seen: set[str] = set()
        while True:
            rows = await self._list(_page(url, after, count))
            names = [str(row.get("debitNoteId")) for row in rows]
            for name, row in zip(names, rows, strict=True):
                if name not in seen:
                    yield row
            seen.update(names)
            if len(rows) < count:
                return
            instants = [read_timestamp(row) for row in rows]
            following = instants[-1] - _INSTANT
            if following > after and instants == sorted(instants):
                after, count, seen = following, PAGE_ROWS, set(names)
            else:
                count *= 2

    async def accept_invoice(self, invoice_id: str, amount: str, allocation_id: str) -> None:
        """Accept an invoice in full."""
        url = f"{self._address.payment_url}/invoices/{_name(invoice_id)}/accept"
        await self._call(
            "POST", url, {"totalAmountAccepted": amount, "allocationId": allocation_id}
        )

    def _activity(self, activity_id: str) -> str:
        return f"{self._address.activity_url}/activity/{_name(activity_id)}"

    async def _list(self, url: str) -> list[dict[str, Any]]:
        answer = await self._call("GET", url)
        if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
            raise DaemonError(f"GET {_path(url)}", 200, "the answer is not a list of objects")
        return answer

    async def _dict(self, url: str) -> dict[str, Any]:
        answer = await self._call("GET", url)
        if not isinstance(answer, dict):
            raise DaemonError(f"GET {_path(url)}", 200, "the answer is not an object")
        return answer

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        if self._session is None:
            raise RuntimeError("the connection is not open")
        call = f"{method} {_path(url)}"
        try:
            async with self._session.request(method, url, json=body) as response:
                raw = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(raw) <= MAX_ANSWER_BYTES and not response.content.at_eof():
                    raw += await response.content.read(MAX_ANSWER_BYTES + 1 - len(raw))
                if len(raw) > MAX_ANSWER_BYTES:
                    raise DaemonError(call, response.status, "the answer is too large")
                text = raw.decode(errors="replace")
                if response.status >= 300:
                    raise DaemonError(call, response.status, message_of(text))
                return json.loads(text) if text.strip() else None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise DaemonError(call, 0, reason_of(error)) from error
        except (ValueError, RecursionError) as error:
            raise DaemonError(call, 200, f"the answer is not JSON: {error}") from error


def _name(identifier: str) -> str:
    """Return an id as one part of a path: strangers choose those of bills and activities."""
    return quote(identifier, safe="")


def _page(url: str, after: datetime, count: int) -> str:
    text = after.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"{url}?{urlencode({'afterTimestamp': text, 'maxItems': count})}"


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[-1]
