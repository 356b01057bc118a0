"""Which providers failed us, remembered across runs, forgotten in time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

HALF_LIFE_SECONDS = 24 * 3600.0
AVOID_ABOVE = 0.9
"""A provider is avoided while its decayed failures outweigh this; one failure fades in hours."""

SUSPICION_SECONDS = 15.0
"""It takes no longer than this to find out that the daemon is gone."""

MAX_PROVIDERS = 10_000


@dataclass(frozen=True)
class Record:
    """One provider's failures, decayed to `at_seconds` (Unix time)."""

    name: str
    failures: float
    successes: int
    at_seconds: float
    last_reason: str


class ProviderHistory:
    """A JSON file shared by all runs of a runs folder; safe against concurrent runs."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Use the file at `path` (created when first written); `clock` gives Unix time."""
        self._path = path
        self._clock = clock

    def avoided(self) -> frozenset[str]:
        """Return the node ids to avoid now."""
        now = self._clock()
        return frozenset(
            node for node, record in self.records().items() if decayed(record, now) > AVOID_ABOVE
        )

    def failed(self, node_id: str, name: str, reason: str) -> None:
        """Note a failure."""
        self._update(node_id, name, failures=1.0, successes=0, reason=reason)

    def succeeded(self, node_id: str, name: str, orders: int) -> None:
        """Note orders well done; they do not erase failures, time does."""
        self._update(node_id, name, failures=0.0, successes=orders, reason=None)

    def records(self) -> dict[str, Record]:
        """Return every record; an unreadable file counts as empty."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Record])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def _update(
        self, node_id: str, name: str, *, failures: float, successes: int, reason: str | None
    ) -> None:
        now = self._clock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(self._path) + ".lock"):
            records = self.records()
            old = records.get(node_id, Record(name, 0.0, 0, now, ""))
            records[node_id] = Record(
                name=name,
                failures=decayed(old, now) + failures,
                successes=old.successes + successes,
                at_seconds=now,
                last_reason=reason or old.last_reason,
            )
            newest = sorted(records.items(), key=lambda entry: -entry[1].at_seconds)
            text = json.dumps({n: vars(r) for n, r in newest[:MAX_PROVIDERS]}, indent=1)
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(text)
            os.replace(temporary, self._path)


class Suspicions:
    """Failures of one session, held back until it is known that the daemon was not to blame."""

    def __init__(self, history: ProviderHistory, clock: Callable[[], float]) -> None:
        """Tell `history` of them in time; `clock` is monotone, in seconds."""
        self._history = history
        self._clock = clock
        self._held: list[tuple[float, str, str, str]] = []

    def add(self, node_id: str, name: str, reason: str) -> None:
        """Suspect a provider; earlier suspicions that have stood the test of time are confirmed."""
        self._confirm(self._clock() - SUSPICION_SECONDS)
        self._held.append((self._clock(), node_id, name, reason))

    def close(self, *, was_daemon_lost: bool) -> None:
        """Confirm all suspicions; if the daemon was lost, drop those from shortly before."""
        self._confirm(self._clock() - SUSPICION_SECONDS if was_daemon_lost else float("inf"))
        self._held.clear()

    def _confirm(self, until_seconds: float) -> None:
        for seconds, node_id, name, reason in self._held:
            if seconds <= until_seconds:
                self._history.failed(node_id, name, reason)
        self._held = [one for one in self._held if one[0] > until_seconds]


def decayed(record: Record, now_seconds: float) -> float:
    """Return the failures of `record`, halved for every `HALF_LIFE_SECONDS` since."""
    age = max(0.0, now_seconds - record.at_seconds)
    return float(record.failures * 0.5 ** (age / HALF_LIFE_SECONDS))
