"""The queue of one round's work items: leases pull, failures go back, stragglers are doubled.

Pulling by idle leases is work stealing with the requestor as the one victim: the same schedules,
none of the traffic. When nothing is left to hand out, an idle lease may take a *speculative copy*
of the item that has been out longest, if it has been out for longer than is usual; the first
valid result of an item counts.

Who failed an item gets it again only when nobody else who is at work has failed it less often, so
that a few providers that fail at once do not use up the attempts while another is busy.

Where `most_items` caps a provider's share, it counts what it has done, what it has in hand, and
what it did that was rejected; who is at the cap gets nothing more, no copies either. What none of
those at work may do is *stranded*; the caller may have somebody else who does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

SPECULATION_FACTOR = 1.5
"""An item that has been out for this many times the median duration is worth a second copy."""

MAX_COPIES = 2


@dataclass(frozen=True)
class Ticket(Generic[Item]):
    """One item in the hands of one lease, behind which a provider stands."""

    item: Item
    lease: str
    provider: str
    started_seconds: float
    is_copy: bool


@dataclass
class _Entry(Generic[Item]):
    item: Item
    most_failures: int
    failures: list[str] = field(default_factory=list)
    failed_by: Counter[str] = field(default_factory=Counter)
    running: list[Ticket[Item]] = field(default_factory=list)
    barred: set[str] = field(default_factory=set)
    is_done: bool = False
    done_by: str = ""
    is_withdrawn: bool = False
    is_entrusted: bool = False

    def burdens(self, provider: str) -> bool:
        """Tell whether this is one of the items that the provider has done or is doing."""
        if self.is_done:
            return self.done_by == provider or provider in self.barred
        is_at_it = any(ticket.provider == provider for ticket in self.running)
        return is_at_it or provider in self.barred


class WorkQueue(Generic[Item]):
    """Hand out the items of one round. Times are seconds of any monotone clock of the caller."""

    def __init__(
        self,
        items: Sequence[Item],
        *,
        max_attempts: int,
        speculate: bool = True,
        typical_seconds: float | None = None,
        most_items: int | None = None,
        done: Mapping[Item, str] | None = None,
    ) -> None:
        """Queue `items`; each may fail `max_attempts` times before it is given up.

        `typical_seconds` is the duration of an item in earlier rounds, if known. No provider does
        more than `most_items` (None: any number). `done` are items that were done before, by whom
        ("": not known).
        """
        self._entries: dict[Item, _Entry[Item]] = {
            item: _Entry(item, max_attempts) for item in items
        }
        if len(self._entries) != len(items):
            raise ValueError("an item is queued twice")
        done = {} if done is None else done
        for item, provider in done.items():
            self._entries[item].is_done, self._entries[item].done_by = True, provider
        self._waiting: list[Item] = [item for item in items if item not in done]
        self._most_items = most_items
        self._max_attempts = max_attempts
        self._speculate = speculate
        self._typical_seconds = typical_seconds
        self._durations: list[float] = []

    def take(
        self,
        lease: str,
        now_seconds: float,
        *,
        provider: str | None = None,
        live_providers: Collection[str] = (),
    ) -> Ticket[Item] | None:
        """Return what `lease` shall do now, or None if there is nothing for it at this moment.

        `provider` stands behind the lease (None: the lease is a provider of its own);
        `live_providers` are all that are at work. Of these, one with the fewest failures of a
        waiting item is always let at it: as long as all keep asking, nothing waits for ever,
        unless `is_stuck`.
        """
        provider = lease if provider is None else provider
        if not self._has_room(provider):
            return None
        for item in self._waiting:
            entry = self._entries[item]
            if self._may_try(entry, provider, live_providers):
                self._waiting.remove(item)
                return self._start(entry, lease, provider, now_seconds)
        late = self._straggler(lease, provider, now_seconds)
        return self._start(late, lease, provider, now_seconds) if late else None

    def take_stranded(
        self, lease: str, now_seconds: float, live_providers: Collection[str]
    ) -> Ticket[Item] | None:
        """Return a waiting item that none of those at work may do, for one who is no provider.

        None if there is none, or nobody is at work.
        """
        for item in self._waiting if live_providers else ():
            if self._is_stranded(item, live_providers):
                self._waiting.remove(item)
                return self._start(self._entries[item], lease, "", now_seconds)
        return None

    def finish(self, ticket: Ticket[Item], now_seconds: float) -> bool:
        """Note a valid result; True if it is the first one of its item and therefore counts."""
        entry = self._release(ticket)
        self._durations.append(now_seconds - ticket.started_seconds)
        if entry is None or entry.is_done:
            return False
        entry.is_done, entry.done_by = True, ticket.provider
        entry.is_withdrawn = False
        return True

    def fail(self, ticket: Ticket[Item], reason: str) -> None:
        """Note that a lease did not deliver; the item goes back unless it is done or given up."""
        entry = self._release(ticket)
        if entry is None or entry.is_done:
            return
        entry.failures.append(reason)
        entry.failed_by[ticket.provider] += 1
        is_out_elsewhere = bool(entry.running)
        if not is_out_elsewhere and self._is_wanted(entry):
            self._waiting.append(entry.item)

    def give_back(self, ticket: Ticket[Item]) -> None:
        """Return an item that was never really tried; costs no attempt."""
        entry = self._release(ticket)
        if entry is None or entry.is_done or entry.running:
            return
        if self._is_wanted(entry):
            self._waiting.insert(0, entry.item)

    def reject(self, item: Item, reason: str, provider: str) -> None:
        """Take back that an item is done: what `provider` delivered is not to be used.

        The item is *withdrawn*: nobody gets it, but a copy that is still out may count. It goes
        on after `reopen`. The provider never gets it again, and it stays one of the provider's.
        """
        entry = self._entries[item]
        entry.is_done, entry.done_by, entry.is_withdrawn = False, "", True
        entry.failures.append(reason)
        if item in self._waiting:
            self._waiting.remove(item)
        if provider:
            entry.failed_by[provider] += 1
            entry.barred.add(provider)

    def reopen(self, item: Item) -> None:
        """Queue a withdrawn item again, unless it has failed too often."""
        entry = self._entries[item]
        if not entry.is_withdrawn:
            raise ValueError("only an item that was withdrawn can be reopened")
        entry.is_withdrawn = False
        if not entry.running and self._is_wanted(entry):
            self._waiting.append(item)

    def entrust(self, item: Item) -> None:
        """Queue a withdrawn item for one more attempt, by who asks for what is stranded."""
        self.reopen(item)
        entry = self._entries[item]
        if not entry.running and item not in self._waiting:
            self._waiting.append(item)
        entry.is_entrusted, entry.most_failures = True, len(entry.failures) + 1

    def withdraw(self, item: Item) -> None:
        """Take an item that waits out of the queue, as if it had just been rejected."""
        self._waiting.remove(item)
        self._entries[item].is_withdrawn = True

    @property
    def waiting(self) -> tuple[Item, ...]:
        """Items that are out with nobody, and not given up."""
        return tuple(self._waiting)

    def is_stuck(self, live_providers: Collection[str]) -> bool:
        """Tell whether items wait, none is out, and none of the live providers may take one."""
        return (
            bool(self._waiting)
            and self.running == 0
            and all(self._is_stranded(item, live_providers) for item in self._waiting)
        )

    def renew(self, item: Item) -> None:
        """Queue an item that was given up once more, with all its attempts, as if it were new."""
        if item not in self.abandoned:
            raise ValueError("only an item that was given up can be renewed")
        barred = self._entries[item].barred
        self._entries[item] = _Entry(item, self._max_attempts, barred=barred)
        self._waiting.append(item)

    def next_look_seconds(self, lease: str, *, provider: str | None = None) -> float | None:
        """Return when `take` may find a straggler for an idle `lease`, or None."""
        provider = lease if provider is None else provider
        typical = self.typical_seconds
        if not self._speculate or typical is None or not self._has_room(provider):
            return None
        times = [
            entry.running[0].started_seconds + SPECULATION_FACTOR * typical
            for entry in self._doubleable(lease, provider)
        ]
        return min(times, default=None)

    @property
    def typical_seconds(self) -> float | None:
        """Median duration of an item so far (this round's, else earlier rounds'), or None."""
        return median(self._durations) if self._durations else self._typical_seconds

    @property
    def running(self) -> int:
        """How many tickets of unfinished items are out."""
        return sum(len(entry.running) for entry in self._entries.values() if not entry.is_done)

    @property
    def done(self) -> tuple[Item, ...]:
        """Items with a valid result."""
        return tuple(entry.item for entry in self._entries.values() if entry.is_done)

    @property
    def withdrawn(self) -> tuple[Item, ...]:
        """Items that were done, but rejected, and not queued again."""
        return tuple(entry.item for entry in self._entries.values() if entry.is_withdrawn)

    @property
    def abandoned(self) -> dict[Item, tuple[str, ...]]:
        """Items that failed too often, with the reasons."""
        return {
            entry.item: tuple(entry.failures)
            for entry in self._entries.values()
            if self._is_abandoned(entry) and not entry.running
        }

    @property
    def is_settled(self) -> bool:
        """True when every item is done, withdrawn or given up."""
        return all(
            entry.is_done
            or entry.is_withdrawn
            or (self._is_abandoned(entry) and not entry.running)
            for entry in self._entries.values()
        )

    def _is_abandoned(self, entry: _Entry[Item]) -> bool:
        return not entry.is_done and len(entry.failures) >= entry.most_failures

    def _is_wanted(self, entry: _Entry[Item]) -> bool:
        return not (entry.is_done or entry.is_withdrawn or self._is_abandoned(entry))

    def _has_room(self, provider: str) -> bool:
        if self._most_items is None:
            return True
        burden = sum(entry.burdens(provider) for entry in self._entries.values())
        return burden < self._most_items

    def _is_stranded(self, item: Item, live_providers: Collection[str]) -> bool:
        entry = self._entries[item]
        return entry.is_entrusted or not any(
            self._has_room(provider) and provider not in entry.barred
            for provider in live_providers
        )

    def _may_try(
        self, entry: _Entry[Item], provider: str, live_providers: Collection[str]
    ) -> bool:
        """Tell whether no other live provider that may try has failed the item less often."""
        if provider in entry.barred or entry.is_entrusted:
            return False
        own = entry.failed_by[provider]
        return own == 0 or all(
            entry.failed_by[other] >= own
            for other in live_providers
            if other not in entry.barred and self._has_room(other)
        )

    def _start(
        self, entry: _Entry[Item], lease: str, provider: str, now_seconds: float
    ) -> Ticket[Item]:
        is_copy = bool(entry.running)
        ticket = Ticket(entry.item, lease, provider, now_seconds, is_copy)
        entry.running.append(ticket)
        return ticket

    def _release(self, ticket: Ticket[Item]) -> _Entry[Item] | None:
        entry = self._entries.get(ticket.item)
        if entry is None or ticket not in entry.running:
            return None
        entry.running.remove(ticket)
        return entry

    def _doubleable(self, lease: str, provider: str) -> list[_Entry[Item]]:
        return [
            entry
            for entry in self._entries.values()
            if self._is_wanted(entry)
            and not entry.is_entrusted
            and 0 < len(entry.running) < MAX_COPIES
            and not entry.failed_by[provider]
            and all(lease != ticket.lease for ticket in entry.running)
            and all(provider != ticket.provider for ticket in entry.running)
        ]

    def _straggler(self, lease: str, provider: str, now_seconds: float) -> _Entry[Item] | None:
        typical = self.typical_seconds
        if not self._speculate or typical is None:
            return None
        late = [
            entry
            for entry in self._doubleable(lease, provider)
            if now_seconds - entry.running[0].started_seconds >= SPECULATION_FACTOR * typical
        ]
        return min(late, key=lambda entry: entry.running[0].started_seconds, default=None)
