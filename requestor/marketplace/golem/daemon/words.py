"""What daemons and connections say when something goes wrong, in words for people."""

from __future__ import annotations

import json
import os

import aiohttp

MAX_MESSAGE_LENGTH = 300


def message_of(text: str) -> str:
    """Return the sentence in a daemon's answer to what went wrong, which is JSON with one in it."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()[:MAX_MESSAGE_LENGTH]
    if isinstance(answer, dict):
        for key in ("message", "detail", "internalError"):
            if isinstance(answer.get(key), str):
                return str(answer[key])[:MAX_MESSAGE_LENGTH]
    return text.strip()[:MAX_MESSAGE_LENGTH]


def reason_of(error: Exception) -> str:
    """Return why there was no answer, in a few words."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
