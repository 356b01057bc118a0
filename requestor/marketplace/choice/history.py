"""What is known of providers across runs: their failures, which fade, and their speed.

Kept in one JSON file by node id, with the wallet that each is paid to: whoever comes back under
another node id is known by that. Read next: `failures.py` (what a failure weighs) and
`selection.py` (what comes of it).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
from filelock import FileLock

from requestor.marketplace.choice.failures import (
    AVOID_ABOVE,
    BAN_ABOVE,
    RULES,
    SHARED_MOST,
    SUSPICIOUS,
    FailureKind,
    known_kind,
)

SPEED_HALF_LIFE_SECONDS = 7 * 24 * 3600.0
"""Evidence of speed counts half after this long: machines get busier, or other machines."""

SUSPICION_SECONDS = 15.0
"""It takes no longer than this to find out that the daemon is gone."""

MAX_PROVIDERS = 10_000
MAX_KINDS = 32
"""Of so many kinds of work the speed is kept for each provider: the newest."""


class Who(msgspec.Struct, frozen=True):
    """A provider: its node, the name it gives itself, and the wallet it is paid to, if known."""

    node_id: str
    name: str
    wallet: str | None = None

    @property
    def voice(self) -> str:
        """Who it counts as where providers are counted: all nodes of a wallet are one."""
        return self.wallet or self.node_id

    @property
    def is_own_wallet(self) -> bool:
        """True where it is paid to its own node's address, which others cannot make theirs."""
        return is_own_wallet(self.node_id, self.wallet)


class Fault(msgspec.Struct, frozen=True):
    """What is left of a provider's failures of one kind at `at_seconds` (Unix time)."""

    weight: float
    at_seconds: float


class Evidence(msgspec.Struct, frozen=True):
    """What a provider has done of one kind of work. Sums fade with the half-life of speed.

    `useful_steps` are those of orders that came to use, `busy_seconds` the time of all orders,
    transfers included, also of those that failed or came too late. `cpu_seconds` are what it
    counted as used in `cpu_busy_seconds` of that time (0 where that was not learned).
    """

    useful_steps: float = 0.0
    busy_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_busy_seconds: float = 0.0
    at_seconds: float = 0.0

    def at(self, now_seconds: float) -> Evidence:
        """Return what it counts for at `now_seconds`."""
        age = max(0.0, now_seconds - self.at_seconds)
        factor = float(0.5 ** (age / SPEED_HALF_LIFE_SECONDS))
        return Evidence(
            self.useful_steps * factor,
            self.busy_seconds * factor,
            self.cpu_seconds * factor,
            self.cpu_busy_seconds * factor,
            now_seconds,
        )

    def plus(self, other: Evidence) -> Evidence:
        """Return the sum, as of the later of both."""
        now = max(self.at_seconds, other.at_seconds)
        one, two = self.at(now), other.at(now)
        return Evidence(
            one.useful_steps + two.useful_steps,
            one.busy_seconds + two.busy_seconds,
            one.cpu_seconds + two.cpu_seconds,
            one.cpu_busy_seconds + two.cpu_busy_seconds,
            now,
        )


class Start(msgspec.Struct, frozen=True):
    """How long a provider took from agreement to readiness when last rented, and its CPU time."""

    seconds: float
    cpu_seconds: float | None = None


class Record(msgspec.Struct, frozen=True):
    """All that is known of one node. `failures` (as of `at_seconds`) is from older versions.

    verified: items that were done again and found right since its last suspicious failure, or one
    of another of its wallet (unless that is its own address).
    """

    name: str
    successes: int = 0
    at_seconds: float = 0.0
    last_reason: str = ""
    wallet: str | None = None
    faults: dict[str, Fault] = {}
    speeds: dict[str, Evidence] = {}
    start: Start | None = None
    failures: float = 0.0
    verified: int = 0

    def weight(self, now_seconds: float) -> float:
        """Return what all its own failures weigh now."""
        return sum(left for _, left in self._left(now_seconds))

    def shared_weight(self, now_seconds: float) -> float:
        """Return what its failures weigh now on the others of its wallet."""
        return sum(RULES[kind].share * left for kind, left in self._left(now_seconds))

    def _left(self, now_seconds: float) -> Iterable[tuple[FailureKind, float]]:
        if self.failures:
            yield "other", RULES["other"].left(self.failures, now_seconds - self.at_seconds)
        for name, fault in self.faults.items():
            kind = known_kind(name)
            yield kind, RULES[kind].left(fault.weight, now_seconds - fault.at_seconds)


class ProviderHistory:
    """A JSON file shared by all runs of a runs folder; safe against concurrent runs."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Use the file at `path` (created when first written); `clock` gives Unix time."""
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._records: dict[str, Record] = {}

    def now(self) -> float:
        """Return the time by which its contents fade, in Unix seconds."""
        return self._clock()

    def avoided(self) -> frozenset[str]:
        """Return the node ids to avoid now, banned ones included."""
        weights = self.weights()
        return frozenset(
            node
            for node, record in self.records().items()
            if weights.on(Who(node, record.name, record.wallet)) > AVOID_ABOVE
        )

    def weights(self) -> Weights:
        """Return what weighs on providers now."""
        return Weights(self.records(), self._clock())

    def verified(self, node_id: str) -> int:
        """Return how many items of a node were verified since it, or its wallet, was suspicious.

        Those of other nodes of its wallet do not help it: anybody may name that wallet. So they
        do not harm it either where the wallet is its own address.
        """
        record = self.records().get(node_id)
        return record.verified if record is not None else 0

    def audited(self, who: Who) -> None:
        """Note that an item was done again and found right."""
        self._update(who, lambda old: msgspec.structs.replace(old, verified=old.verified + 1))

    def failed(self, who: Who, kind: FailureKind, reason: str) -> None:
        """Note a failure; after a suspicious one nothing of its wallet counts as verified.

        The node whose own address the wallet is keeps what it has: anybody may name that.
        """
        now = self._clock()

        def change(old: Record) -> Record:
            before = old.faults.get(kind, Fault(0.0, now))
            left = RULES[kind].left(before.weight, now - before.at_seconds)
            fault = Fault(left + RULES[kind].weight, now)
            return msgspec.structs.replace(
                old, faults={**old.faults, kind: fault}, last_reason=reason or kind
            )

        self._update(who, change, is_suspicious=kind in SUSPICIOUS)

    def worked(
        self,
        who: Who,
        *,
        orders: int = 0,
        speeds: Mapping[str, Evidence] | None = None,
        start: Start | None = None,
    ) -> None:
        """Note orders well done, evidence of speed by kind of work, and how the start went.

        None of it erases failures; time does.
        """

        def change(old: Record) -> Record:
            merged = dict(old.speeds)
            for kind, evidence in (speeds or {}).items():
                merged[kind] = merged.get(kind, Evidence()).plus(evidence)
            newest = sorted(merged.items(), key=lambda entry: -entry[1].at_seconds)
            return msgspec.structs.replace(
                old,
                successes=old.successes + orders,
                speeds=dict(newest[:MAX_KINDS]),
                start=start or old.start,
            )

        self._update(who, change)

    def records(self) -> Mapping[str, Record]:
        """Return every record by node id; an unreadable file counts as empty."""
        try:
            status = self._path.stat()
        except OSError:
            return {}
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._seen:
            self._records, self._seen = self._read(), version
        return self._records

    def _read(self) -> dict[str, Record]:
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Record])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
        return {node: record for node, record in found.items() if _is_sound(record)}

    def _update(
        self, who: Who, change: Callable[[Record], Record], *, is_suspicious: bool = False
    ) -> None:
        now = self._clock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(self._path) + ".lock"):
            records = self._read()
            old = _modern(records.get(who.node_id, Record(who.name)))
            records[who.node_id] = msgspec.structs.replace(
                change(old), name=who.name, wallet=who.wallet or old.wallet, at_seconds=now
            )
            if is_suspicious:
                records = _distrusted(records, who)
            newest = sorted(records.items(), key=lambda entry: -entry[1].at_seconds)
            content = msgspec.json.format(
                msgspec.json.encode(dict(newest[:MAX_PROVIDERS])), indent=1
            )
            temporary = self._path.with_suffix(".tmp")
            temporary.write_bytes(content)
            os.replace(temporary, self._path)
            self._seen = None


def is_own_wallet(node_id: str, wallet: str | None) -> bool:
    """Tell whether a wallet is the node's own address."""
    return wallet is not None and wallet.lower() == node_id.lower()


class Weights:
    """What weighs on providers at one time: their own failures, and those that a wallet shares.

    An offer may name anybody's wallet, so what others of a wallet have done weighs `SHARED_MOST`
    at most, takes nobody above `BAN_ABOVE`, and is nothing to a node whose own address the wallet
    is. Made once for many providers: it goes through all records once, whatever they are asked.
    """

    def __init__(self, records: Mapping[str, Record], now_seconds: float) -> None:
        """Weigh `records` as of `now_seconds` (Unix time)."""
        self._records = records
        self._now_seconds = now_seconds
        self._by_wallet: dict[str, float] = {}
        for record in records.values():
            if record.wallet is not None and (record.faults or record.failures):
                before = self._by_wallet.get(record.wallet, 0.0)
                self._by_wallet[record.wallet] = before + record.shared_weight(now_seconds)

    def on(self, who: Who) -> float:
        """Return what weighs on a provider, whether or not it is known already.

        Of one that is known, the wallet counts that it is known by.
        """
        record = self._records.get(who.node_id)
        wallet = who.wallet if record is None else record.wallet
        own = 0.0 if record is None else record.weight(self._now_seconds)
        if wallet is None or is_own_wallet(who.node_id, wallet):
            return own
        others = self._by_wallet.get(wallet, 0.0)
        if record is not None:
            others -= record.shared_weight(self._now_seconds)
        return max(own, min(BAN_ABOVE, own + min(SHARED_MOST, others)))


class Suspicions:
    """Failures of one session, held back until it is known that the daemon was not to blame."""

    def __init__(self, history: ProviderHistory, clock: Callable[[], float]) -> None:
        """Tell `history` of them in time; `clock` is monotone, in seconds."""
        self._history = history
        self._clock = clock
        self._held: list[tuple[float, Who, FailureKind, str]] = []

    def add(self, who: Who, kind: FailureKind, reason: str) -> None:
        """Suspect a provider; earlier suspicions that have stood the test of time are confirmed."""
        self._confirm(self._clock() - SUSPICION_SECONDS)
        self._held.append((self._clock(), who, kind, reason))

    def close(self, *, was_daemon_lost: bool) -> None:
        """Confirm all suspicions; if the daemon was lost, drop those from shortly before."""
        self._confirm(self._clock() - SUSPICION_SECONDS if was_daemon_lost else float("inf"))
        self._held.clear()

    def _confirm(self, until_seconds: float) -> None:
        for seconds, who, kind, reason in self._held:
            if seconds <= until_seconds:
                self._history.failed(who, kind, reason)
        self._held = [one for one in self._held if one[0] > until_seconds]


def _distrusted(records: Mapping[str, Record], who: Who) -> dict[str, Record]:
    """Let nothing count as verified of a provider and of the others of its wallet.

    Anybody may name the address of a node as its wallet, so that node keeps what it has.
    """
    wallet = records[who.node_id].wallet

    def is_meant(node: str, record: Record) -> bool:
        is_of_wallet = wallet is not None and record.wallet == wallet
        return node == who.node_id or (is_of_wallet and not is_own_wallet(node, wallet))

    return {
        node: msgspec.structs.replace(record, verified=0) if is_meant(node, record) else record
        for node, record in records.items()
    }


def _modern(record: Record) -> Record:
    """Put what an older version has noted among the failures without a name."""
    if not record.failures:
        return record
    fault = Fault(record.failures, record.at_seconds)
    return msgspec.structs.replace(record, failures=0.0, faults={**record.faults, "other": fault})


def _is_sound(record: Record) -> bool:
    """Say whether all numbers can have been written by us: finite and not negative."""
    numbers = [record.at_seconds, record.failures, float(record.verified)]
    for fault in record.faults.values():
        numbers += [fault.weight, fault.at_seconds]
    for evidence in record.speeds.values():
        numbers += [evidence.useful_steps, evidence.busy_seconds, evidence.cpu_seconds]
        numbers += [evidence.cpu_busy_seconds, evidence.at_seconds]
    if record.start is not None:
        numbers += [record.start.seconds, record.start.cpu_seconds or 0.0]
    return all(math.isfinite(number) and number >= 0 for number in numbers)
