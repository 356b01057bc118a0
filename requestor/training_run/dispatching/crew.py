"""The leases at work in one session, the voices behind them, and who has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.ports import Lease, LeaseInfo


@dataclass
class _Member:
    lease: Lease
    driver: asyncio.Task[None]
    dismissal: str | None = None


@dataclass
class Crew:
    """The leases at work, each with the task that drives it.

    `changes`: how often somebody has come or gone. `voices_seen`: who has been at work so far.
    """

    changes: int = 0
    voices_seen: set[str] = field(default_factory=set)
    _members: dict[str, _Member] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many leases are at work."""
        return len(self._members)

    @property
    def drivers(self) -> list[asyncio.Task[None]]:
        """The tasks of all leases."""
        return [member.driver for member in self._members.values()]

    @property
    def voices(self) -> Collection[str]:
        """Whose leases are at work; a voice stands there once for each."""
        return [member.lease.info.voice for member in self._members.values()]

    @property
    def infos(self) -> list[LeaseInfo]:
        """Who is at work and was not dismissed."""
        return [one.lease.info for one in self._members.values() if one.dismissal is None]

    def join(self, lease: Lease, driver: asyncio.Task[None]) -> None:
        """Take in a lease."""
        self._members[lease.info.id] = _Member(lease, driver)
        self.voices_seen.add(lease.info.voice)
        self.changes += 1

    def leave(self, lease_id: str) -> None:
        """Forget a lease; one that is not here is as good as forgotten."""
        self._members.pop(lease_id, None)
        self.changes += 1

    def dismissal(self, lease_id: str) -> str | None:
        """Return why a lease was dismissed; None if it was not."""
        member = self._members.get(lease_id)
        return member.dismissal if member is not None else None

    def dismiss(
        self, which: Callable[[LeaseInfo], bool], reason: str, failure: FailureKind
    ) -> None:
        """Release the leases that `which` picks, as those of providers that have failed us."""
        for member in self._members.values():
            if member.dismissal is None and which(member.lease.info):
                member.dismissal = reason
                member.lease.release(reason, avoid=True, failure=failure)
