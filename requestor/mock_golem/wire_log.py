"""The wire log: one JSON line per request answered. App keys never reach it."""

import json
import time
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from requestor.mock_golem.clock import Clock, rfc3339

MAX_LOGGED_CHARACTERS = 65536
_SECRET_QUERIES = {"authToken"}
# an image registry's: tokens, and chunks of images
_UNLOGGED = ("/auth/", "/v1/image/push/", "/v1/image/descr/attach/")


class WireLog:
    """Writes requests and answers to a file.

    Args:
        path: appended to; its folder must exist.
        clock: dates the lines.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8", buffering=1)
        self._clock = clock

    def start(self) -> tuple[str, float]:
        """Return what `record` wants to know of a request's beginning."""
        return rfc3339(self._clock.now()), time.monotonic()

    async def record(
        self,
        started: tuple[str, float],
        request: web.Request,
        response: web.StreamResponse | None,
    ) -> None:
        """Write one line; `response` is None if the request was cut off."""
        began_at, began = started
        query = {
            name: "(hidden)" if name in _SECRET_QUERIES else value
            for name, value in request.query.items()
        }
        line = {
            "time": began_at,
            "duration_seconds": round(time.monotonic() - began, 6),
            "method": request.method,
            "path": request.path,
            "query": query,
            "body": None if response is None else await _body(request),
            "status": None if response is None else response.status,
            "response": _answer(response),
            "content_type": _content_type(response),
        }
        if response is None:
            line["cut"] = True
        if not self._file.closed:
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def _body(request: web.Request) -> Any:
    if not request.body_exists:
        return None
    if request.path.startswith(_UNLOGGED):
        return "(not logged)"
    try:
        return _decoded(await request.text())
    except (web.HTTPException, UnicodeDecodeError) as error:
        return f"(not readable: {error})"


def _answer(response: web.StreamResponse | None) -> Any:
    if isinstance(response, web.Response):
        return _decoded(response.text or "")
    return None if response is None else "(event stream)"


def _content_type(response: web.StreamResponse | None) -> str | None:
    if response is None or (isinstance(response, web.Response) and not response.body):
        return None
    return response.content_type


def _decoded(text: str) -> Any:
    if not text:
        return None
    if len(text) > MAX_LOGGED_CHARACTERS:
        return f"{text[:MAX_LOGGED_CHARACTERS]}(cut off: {len(text)} characters)"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
