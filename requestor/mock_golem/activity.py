"""The activity API: create, exec, results (polled or streamed), state, usage, destroy."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from requestor.mock_golem.activity_host import endpoint_not_found
from requestor.mock_golem.answers import (
    DEFAULT_POLL_SECONDS,
    Refusal,
    TextRefusal,
    json_answer,
    missing_field,
    poll_seconds,
    query_count,
    read_json,
    read_object,
)
from requestor.mock_golem.exe_unit import ExeScriptError, ExeUnit, ExeUnitGone, UnknownBatch
from requestor.mock_golem.identifiers import new_activity_id
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.records import Activity
from requestor.mock_golem.surroundings import Surroundings

PREFIX = "/activity-api/v1"
_COMMANDS = ("sign", "deploy", "start", "run", "transfer", "terminate")
_PING_SECONDS = 15.0


class ActivityApi:
    """Routes of the activity API.

    Args:
        surroundings: books and time.
        providers: by node id.
    """

    def __init__(self, surroundings: Surroundings, providers: Mapping[str, Provider]) -> None:
        self._around = surroundings
        self._providers = providers

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        activity = f"{PREFIX}/activity/{{activity_id}}"
        return [
            web.post(f"{PREFIX}/activity", self._create),
            web.get(f"{PREFIX}/activity", self._list),
            web.delete(activity, self._destroy),
            web.post(f"{activity}/exec", self._exec),
            web.get(f"{activity}/exec/{{batch_id}}", self._results),
            web.get(f"{activity}/state", self._state),
            web.get(f"{activity}/usage", self._usage),
            web.get(f"{activity}/command", self._running_command),
        ]

    def _activity(self, request: web.Request) -> tuple[Activity, Provider]:
        activity_id = request.match_info["activity_id"]
        activity = self._around.books.activities.get(activity_id)
        if activity is None:
            raise Refusal(500, f"DAO error: Not found: agreement id for activity: {activity_id}")
        return activity, self._provider(activity.provider_id)

    def _provider(self, provider_id: str) -> Provider:
        provider = self._providers.get(provider_id)
        if provider is None:
            raise endpoint_not_found(f"/net/{provider_id}/activity")
        return provider

    async def _create(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        agreement_id = body.get("agreementId") if isinstance(body, dict) else body
        if not isinstance(agreement_id, str):
            raise TextRefusal(400, missing_field("agreementId", await request.text()))
        agreement = self._around.books.agreement(agreement_id)
        provider = self._provider(agreement.provider_id)
        activity = await provider.create_activity(agreement_id, poll_seconds(request))
        as_object = isinstance(body, dict)
        return json_answer(
            {"activityId": activity.activity_id} if as_object else activity.activity_id
        )

    async def _list(self, request: web.Request) -> web.Response:
        agreement_id = request.query.get("agreementId")
        if agreement_id is None:
            raise TextRefusal(400, "Query deserialize error: missing field `agreementId`")
        activities = self._around.books.activities_of(agreement_id)
        return json_answer([activity.activity_id for activity in activities])

    async def _destroy(self, request: web.Request) -> web.Response:
        activity, provider = self._activity(request)
        await provider.destroy_activity(activity.activity_id)
        return json_answer(None)

    async def _exec(self, request: web.Request) -> web.Response:
        activity, provider = self._activity(request)
        commands = _script((await read_object(request)).get("text"))
        await provider.answerable()
        unit = provider.host.unit(activity.activity_id, "Exec")
        batch_id = new_activity_id()
        try:
            unit.execute(batch_id, commands)
        except ExeScriptError as error:
            raise _bad_script(str(error)) from error
        except ExeUnitGone as error:
            raise self._gone(activity, "Exec", error) from error
        provider.batch_sent()
        return json_answer(batch_id)

    async def _results(self, request: web.Request) -> web.StreamResponse:
        activity, provider = self._activity(request)
        method = "GetExecBatchResults"
        timeout_seconds = poll_seconds(request, DEFAULT_POLL_SECONDS)
        command_index = query_count(request, "commandIndex")
        await provider.answerable()
        unit = provider.host.unit(activity.activity_id, method)
        batch_id = request.match_info["batch_id"]
        # only here: a client that streams once sends this header with all later calls
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self._stream(request, unit, batch_id)
        try:
            results = await unit.results(batch_id, timeout_seconds, command_index)
        except UnknownBatch as error:
            raise _unknown_batch(batch_id) from error
        except TimeoutError as error:
            raise Refusal(408, "Timeout") from error
        except ExeUnitGone as error:
            await unit.wait_gone()  # a last state is told before the bus is left
            provider.host.refresh(activity.activity_id)
            raise self._gone(activity, method, error) from error
        await provider.answerable()
        if results and results[-1]["isBatchFinished"]:
            provider.host.refresh(activity.activity_id)
        return json_answer(results)

    async def _stream(
        self, request: web.Request, unit: ExeUnit, batch_id: str
    ) -> web.StreamResponse:
        try:
            events = unit.events(batch_id)
        except UnknownBatch as error:
            raise _unknown_batch(batch_id) from error
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        number = 0
        try:
            async for event in events:
                frame = f"event: runtime\ndata: {json.dumps(event)}\nid: {number}\n\n"
                await response.write(frame.encode())
                number += 1
            while True:  # as yagna's, a stream does not end with its batch
                await asyncio.sleep(_PING_SECONDS)
                await response.write(b":ping\n\n")
        except (ConnectionError, ExeUnitGone):
            return response

    async def _state(self, request: web.Request) -> web.Response:
        activity, provider = self._activity(request)
        await provider.answerable()
        shown: dict[str, Any] = {"state": [provider.host.state(activity), None]}
        activity = self._around.books.activities[activity.activity_id]
        if activity.reason is not None:
            shown["reason"] = activity.reason
        if activity.error_message is not None:
            shown["errorMessage"] = activity.error_message
        return json_answer(shown)

    async def _usage(self, request: web.Request) -> web.Response:
        activity, provider = self._activity(request)
        await provider.answerable()
        activity = provider.host.refresh(activity.activity_id) or activity
        timestamp = int(self._around.clock.now().timestamp())
        return json_answer({"currentUsage": activity.usage, "timestamp": timestamp})

    async def _running_command(self, request: web.Request) -> web.Response:
        _, provider = self._activity(request)
        raise endpoint_not_found(f"/net/{provider.node_id}/activity/GetRunningCommand")

    def _gone(self, activity: Activity, method: str, error: ExeUnitGone) -> Refusal:
        if "cancelled" in str(error):  # the call was waiting when the exe-unit went
            return Refusal(500, f"GSB error: {error}")
        address = f"/net/{activity.provider_id}/exeunit/{activity.activity_id}/{method}"
        return endpoint_not_found(address)


def _script(text: Any) -> list[dict[str, Any]]:
    if not isinstance(text, str):
        raise TextRefusal(400, "Json deserialize error: missing field `text`")
    try:
        script = json.loads(text)
    except json.JSONDecodeError as error:
        reason, column = "expected value", error.colno
        if text[:1] in ("n", "t", "f"):
            reason, column = "expected ident", 2  # of null, true, false
        raise _bad_script(reason, error.lineno, column) from error
    except RecursionError as error:
        raise _bad_script("recursion limit exceeded") from error
    if not isinstance(script, list):
        raise _bad_script(f"invalid type: {_type_name(script)}, expected a sequence")
    for command in script:
        if not isinstance(command, dict) or len(command) != 1:
            raise _bad_script("expected an object with one command")
        (name,) = command
        if name not in _COMMANDS:
            known = ", ".join(f"`{one}`" for one in _COMMANDS)
            column = text.find(f'"{name}"') + len(name) + 2
            raise _bad_script(f"unknown variant `{name}`, expected one of {known}", 1, column)
    return script


def _type_name(value: Any) -> str:
    """Name a JSON value's type as yagna's messages do."""
    match value:
        case dict():
            return "map"
        case None:
            return "null"
        case str():
            return f"string {json.dumps(value)}"
        case bool():
            return f"boolean `{json.dumps(value)}`"
        case int():
            return f"integer `{value}`"
    return f"floating point `{value}`"


def _bad_script(reason: str, line: int = 1, column: int = 1) -> Refusal:
    return Refusal(400, f"Bad request: Error({json.dumps(reason)}, line: {line}, column: {column})")


def _unknown_batch(batch_id: str) -> Refusal:
    return Refusal(404, f"Not found: batch_id = {batch_id}")
