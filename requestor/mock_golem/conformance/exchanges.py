"""Reading wire logs: one request and its answer after the other, in the order of their ends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from requestor.mock_golem.clock import parse_instant


class WireLogError(ValueError):
    """A wire log cannot be read; the message names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer; `status` None means that the client gave it up."""

    method: str
    path: str
    status: int | None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    answer: Any = None
    content_type: str | None = None


def read_wire_log(
    path: Path, since: datetime | None = None, until: datetime | None = None
) -> list[Exchange]:
    """Return what began from `since` on and before `until`, in the order of the ends.

    Raises:
        WireLogError: the file cannot be read, or a line is not of a wire log's form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WireLogError(f"{path}: cannot be read: {error}") from error
    found: list[tuple[datetime, Exchange]] = []
    for number, line in enumerate(lines, 1):
        try:
            began, ended, exchange = _exchange(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise WireLogError(f"{path}, line {number}: not of a wire log: {error!r}") from error
        if (since is None or began >= since) and (until is None or began < until):
            found.append((ended, exchange))
    found.sort(key=lambda one: one[0])
    return [exchange for _, exchange in found]


def _exchange(line: Mapping[str, Any]) -> tuple[datetime, datetime, Exchange]:
    began = parse_instant(line["time"])
    return (
        began,
        began + timedelta(seconds=float(line["duration_seconds"])),
        Exchange(
            method=str(line["method"]),
            path=str(line["path"]),
            status=None if line["status"] is None else int(line["status"]),
            query=dict(line["query"]),
            body=line["body"],
            answer=line["response"],
            content_type=line.get("content_type"),
        ),
    )
