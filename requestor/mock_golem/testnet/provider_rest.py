"""The provider's side of a real daemon's REST."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

MAX_ANSWER_BYTES = 8 << 20
CALL_SECONDS = 20.0
POLL_SECONDS = 30.0
MAX_EVENTS = 20
_MARKET = "/market-api/v1"
_ACTIVITY = "/activity-api/v1"
_PAYMENT = "/payment-api/v1"


class DaemonAway(Exception):
    """The daemon is not there, or did not answer in time."""


class RestRefusal(Exception):
    """The daemon answered, but not with success; `status` is HTTP's."""

    def __init__(self, status: int, call: str, text: str) -> None:
        super().__init__(f"{call} answers {status}: {text[:300]}")
        self.status = status


class ProviderRest:
    """One provider's calls; every one raises `DaemonAway` and `RestRefusal`.

    Args:
        url: the root of the daemon's REST.
        app_key: the provider's own.
        session: what its agreements and activities are marked with.
    """

    def __init__(self, url: str, app_key: str, session: str) -> None:
        self._url = url
        self._app_key = app_key
        self._session_name = session
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ProviderRest":
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._app_key}"},
            connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=30.0),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    # ------------------------------------------------------------------ market

    async def publish(self, properties: Mapping[str, Any], constraints: str) -> str:
        """Publish an offer; return its id."""
        body = {"properties": dict(properties), "constraints": constraints}
        return str(await self._call("POST", f"{_MARKET}/offers", body))

    async def withdraw(self, offer_id: str) -> None:
        """Take an offer back."""
        await self._call("DELETE", f"{_MARKET}/offers/{offer_id}")

    async def offer_events(self, offer_id: str) -> list[dict[str, Any]]:
        """Wait for what requestors say to an offer; an empty list after `POLL_SECONDS`."""
        query = {"timeout": str(POLL_SECONDS), "maxEvents": str(MAX_EVENTS)}
        return await self._poll(f"{_MARKET}/offers/{offer_id}/events", query)

    async def counter(
        self, offer_id: str, proposal_id: str, properties: Mapping[str, Any], constraints: str
    ) -> None:
        """Answer a requestor's proposal with our own."""
        body = {"properties": dict(properties), "constraints": constraints}
        await self._call("POST", f"{_MARKET}/offers/{offer_id}/proposals/{proposal_id}", body)

    async def reject_proposal(self, offer_id: str, proposal_id: str, reason: str) -> None:
        """Refuse a requestor's proposal."""
        path = f"{_MARKET}/offers/{offer_id}/proposals/{proposal_id}/reject"
        await self._call("POST", path, {"message": reason})

    async def agreement(self, agreement_id: str) -> dict[str, Any]:
        """Return an agreement."""
        return _object(await self._call("GET", f"{_MARKET}/agreements/{agreement_id}"))

    async def approved(self) -> list[str]:
        """Return the ids of agreements in force in which we are the provider."""
        query = {"state": "Approved"}
        listed = _list(await self._call("GET", f"{_MARKET}/agreements", query=query))
        own = [one for one in listed if isinstance(one, dict) and one.get("role") == "Provider"]
        return [str(one.get("id")) for one in own]

    async def approve(self, agreement_id: str) -> None:
        """Approve an agreement."""
        query = {"timeout": "15", "appSessionId": self._session_name}
        await self._call("POST", f"{_MARKET}/agreements/{agreement_id}/approve", query=query)

    async def reject_agreement(self, agreement_id: str, reason: Mapping[str, Any]) -> None:
        """Reject an agreement."""
        await self._call("POST", f"{_MARKET}/agreements/{agreement_id}/reject", dict(reason))

    async def terminate(self, agreement_id: str, reason: Mapping[str, Any]) -> None:
        """Terminate an agreement."""
        await self._call("POST", f"{_MARKET}/agreements/{agreement_id}/terminate", dict(reason))

    async def agreement_events(self, after: str) -> list[dict[str, Any]]:
        """Wait for what becomes of our agreements after an instant (RFC 3339)."""
        return await self._poll(f"{_MARKET}/agreementEvents", self._after(after))

    # ------------------------------------------------------------------ activities

    async def activity_events(self, after: str) -> list[dict[str, Any]]:
        """Wait for activities to be created or destroyed, after an instant (RFC 3339)."""
        return await self._poll(f"{_ACTIVITY}/events", self._after(after))

    async def end_activity(self, activity_id: str, reason: str | None) -> None:
        """Report an activity as terminated."""
        state = {"state": ["Terminated", None], "reason": reason, "errorMessage": None}
        await self._call("PUT", f"{_ACTIVITY}/activity/{activity_id}/state", state)

    # ------------------------------------------------------------------ payment

    async def issue(self, kind: str, body: Mapping[str, Any]) -> str:
        """Issue a bill (`kind` is `debitNotes` or `invoices`); return its id."""
        call = f"{_PAYMENT}/{kind}"
        issued = _object(await self._call("POST", call, dict(body)))
        bill_id = issued.get("debitNoteId" if kind == "debitNotes" else "invoiceId")
        if not isinstance(bill_id, str):
            raise RestRefusal(200, f"POST {call}", "a bill without an id")
        return bill_id

    async def send(self, kind: str, bill_id: str) -> None:
        """Send a bill that was issued."""
        await self._call("POST", f"{_PAYMENT}/{kind}/{bill_id}/send", query={"timeout": "10"})

    async def invoices(self) -> list[dict[str, Any]]:
        """Return all our invoices."""
        return _list(await self._call("GET", f"{_PAYMENT}/invoices"))

    async def debit_note_events(self, after: str) -> list[dict[str, Any]]:
        """Wait for what becomes of our debit notes, after an instant (RFC 3339)."""
        return await self._poll(f"{_PAYMENT}/debitNoteEvents", self._after(after))

    async def invoice_events(self, after: str) -> list[dict[str, Any]]:
        """Wait for what becomes of our invoices, after an instant (RFC 3339)."""
        return await self._poll(f"{_PAYMENT}/invoiceEvents", self._after(after))

    # ------------------------------------------------------------------ http

    def _after(self, after: str) -> dict[str, str]:
        return {
            "timeout": str(POLL_SECONDS),
            "maxEvents": str(MAX_EVENTS),
            "afterTimestamp": after,
            "appSessionId": self._session_name,
        }

    async def _poll(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            events = await self._call(
                "GET", path, query=query, seconds=POLL_SECONDS + CALL_SECONDS
            )
        except RestRefusal as refusal:
            if refusal.status == 408:  # nothing came
                return []
            raise
        return [event for event in _list(events) if isinstance(event, dict)]

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> Any:
        assert self._http is not None, "used outside `async with`"
        call = f"{method} {path}"
        try:
            async with self._http.request(
                method,
                self._url + path,
                json=body,
                params=query,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as answer:
                content = b""
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise RestRefusal(answer.status, call, "an answer of more than 8 MiB")
                if not 200 <= answer.status < 300:
                    raise RestRefusal(answer.status, call, content.decode(errors="replace"))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DaemonAway(f"{call}: {error!r}") from error
        try:
            return json.loads(content) if content else None
        except (ValueError, RecursionError) as error:
            raise RestRefusal(answer.status, call, f"no JSON: {error}") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DaemonAway(f"expected an object, got {value!r:.100}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DaemonAway(f"expected a list, got {value!r:.100}")
    return value
