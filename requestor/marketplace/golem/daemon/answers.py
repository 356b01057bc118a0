"""What is read in a daemon's answers, and what is thrown where nothing can be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp

_PASSING_STATUSES = (401, 403, 408, 429)


class DaemonError(Exception):
    """A call to the daemon failed; `status` is the HTTP status, 0 if there was no answer."""

    def __init__(self, call: str, status: int, message: str) -> None:
        """Keep the call, the status and what the daemon said."""
        super().__init__(f"{call}: {status or 'no answer'} {message}".rstrip())
        self.status = status
        self.message = message

    @property
    def is_unreachable(self) -> bool:
        """True if nobody answered."""
        return self.status == 0


def is_passing(error: BaseException) -> bool:
    """Say whether a call failed for a reason that lies not in the call: it may work later."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return status >= 500 or status in _PASSING_STATUSES
    return isinstance(error, DaemonError | OSError | aiohttp.ClientError)


def decimal_field(row: Mapping[str, Any], name: str) -> Decimal:
    """Return a decimal field of an answer; a missing or malformed one is a `DaemonError`."""
    try:
        value = Decimal(str(row[name]))
    except (KeyError, InvalidOperation) as error:
        raise DaemonError("answer", 200, f"{name} is missing or not a number") from error
    if not value.is_finite():
        raise DaemonError("answer", 200, f"{name} is not finite")
    return value


def moment_of(unix_seconds: float) -> datetime:
    """Return a time in Unix seconds as an instant, none before 1970."""
    return datetime.fromtimestamp(max(0.0, unix_seconds), UTC)


def read_timestamp(row: Mapping[str, Any], name: str = "timestamp") -> datetime:
    """Return when a bill was sent, or another instant, to the microsecond (rounded down)."""
    try:
        moment = datetime.fromisoformat(str(row.get(name)))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(moment.astimezone(UTC), moment_of(0.0))
    except (ValueError, OverflowError) as error:
        raise DaemonError("answer", 200, f"a {name} is missing or malformed") from error
