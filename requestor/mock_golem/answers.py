"""HTTP answers in yagna's manner, and the reading of request bodies and queries."""

import json
import select
from datetime import datetime
from typing import Any

from aiohttp import web

from requestor.mock_golem.clock import parse_instant

DEFAULT_POLL_SECONDS = 5.0
MAX_POLL_SECONDS = 60.0


class Refusal(Exception):
    """A request is refused; the answer is `status` with `{"message": message}`."""

    def __init__(self, status: int, message: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> web.Response:
        """Return the answer to send."""
        return json_answer({"message": self.message}, self.status)


class EmptyRefusal(Refusal):
    """A request is refused without a word."""

    def __init__(self, status: int) -> None:
        super().__init__(status, None)

    def response(self) -> web.Response:
        """Return the answer to send."""
        return web.Response(status=self.status)


class TextRefusal(Refusal):
    """A request is refused with plain text."""

    def response(self) -> web.Response:
        """Return the answer to send."""
        return web.Response(status=self.status, text=self.message)


class ProblemRefusal(Refusal):
    """A request is refused with a problem document (`application/problem+json`)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(status, str(problem.get("detail")))
        self.problem = problem

    def response(self) -> web.Response:
        """Return the answer to send."""
        return web.Response(
            status=self.status,
            text=json.dumps(self.problem),
            content_type="application/problem+json",
        )


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return a JSON answer; None is `null`."""
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")


def no_content() -> web.Response:
    """Return a 204."""
    return web.Response(status=204)


async def read_json(request: web.Request) -> Any:
    """Read a JSON body.

    Raises:
        TextRefusal: 400, it is not JSON.
    """
    try:
        return json.loads(await request.text())
    except UnicodeDecodeError as error:
        raise TextRefusal(400, "Json deserialize error: invalid unicode code point") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise TextRefusal(400, f"Json deserialize error: expected value at {place}") from error
    except RecursionError as error:
        raise TextRefusal(400, "Json deserialize error: recursion limit exceeded") from error


async def read_object(request: web.Request) -> dict[str, Any]:
    """Read a JSON body that must be an object.

    Raises:
        TextRefusal: 400, it is not.
    """
    body = await read_json(request)
    if not isinstance(body, dict):
        raise TextRefusal(400, "Json deserialize error: invalid type: expected struct at line 1")
    return body


def missing_field(name: str, body_text: str) -> str:
    """Return yagna's words for a field that is not there."""
    return f"Json deserialize error: missing field `{name}` at line 1 column {len(body_text)}"


def poll_seconds(request: web.Request, default: float = DEFAULT_POLL_SECONDS) -> float:
    """Return how long a long poll may wait: `timeout` (or `pollTimeout`) in seconds.

    Raises:
        TextRefusal: 400, it is not a number.
    """
    text = request.query.get("timeout", request.query.get("pollTimeout"))
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise TextRefusal(400, "Query deserialize error: invalid float literal")
    return min(seconds, MAX_POLL_SECONDS)


def query_count(request: web.Request, name: str) -> int | None:
    """Return a non-negative whole number from the query, None if it is not there.

    Raises:
        TextRefusal: 400, it is not a number.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise TextRefusal(400, "Query deserialize error: invalid digit found in string")
    return int(text)


def query_instant(request: web.Request, name: str) -> datetime | None:
    """Return an instant from the query, None if it is not there.

    Raises:
        TextRefusal: 400, it is not an instant.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError as error:
        raise TextRefusal(
            400, "Query deserialize error: input contains invalid characters"
        ) from error


def has_gone(request: web.Request) -> bool:
    """Tell whether the client has closed the connection."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return True
    # under load the kernel knows of a hang-up before the event loop has read of it
    look = select.poll()
    look.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(look.poll(0))
