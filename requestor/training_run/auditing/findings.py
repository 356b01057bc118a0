"""What is known of each delivery's work, beyond a crash: drawn with which chance, found to be what.

`audits.jsonl` in the run's folder has one line for each change; the last of a delivery counts.
At hand are those of the last rounds, and audits that go on: a long run takes no more memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from requestor.training_run.json_lines import JsonLines
from requestor.training_run.orders.deliveries import Delivery
from requestor.trust.audit_draw import KEY_BYTES
from requestor.trust.provenance import Standing

REQUESTOR = "requestor"
"""Who has verified what was done again on this machine."""

ROUNDS_AT_HAND = 64
"""Of so many rounds it is kept in memory what is known: late copies are of the last two."""

Key = tuple[str, str, str]
"""What tells a delivery from all others: the digests of its order and of its result, and its voice.

Two who did the same order honestly sent the same bits; what is known of one is not of the other.
"""


class Finding(msgspec.Struct, frozen=True):
    """What is known of one delivery; `verified_by` is `requestor`, or the voices that agree.

    `doubted` are voices that contradict each other, and nobody could tell which of them is wrong.
    """

    order_sha256: str
    result_sha256: str
    round: int
    client: int
    voice: str
    chance: float
    standing: Standing
    verified_by: tuple[str, ...] = ()
    reason: str = ""
    doubted: tuple[str, ...] = ()
    provider_id: str = ""

    @property
    def node(self) -> str:
        """Which provider sent it: its node id, which is proven; a wallet is what an offer says."""
        return self.provider_id or self.voice

    @property
    def key(self) -> Key:
        """Which delivery this is of."""
        return self.order_sha256, self.result_sha256, self.voice

    def stands(self, convicted: Container[str]) -> bool:
        """Tell whether somebody who has not been convicted found the work right."""
        by = self.verified_by
        return self.standing == "verified" and (not by or any(one not in convicted for one in by))

    @property
    def was_drawn(self) -> bool:
        """True if it was to be done again."""
        return self.standing != "unaudited"


class Findings:
    """The findings of a run, kept in a file."""

    def __init__(self, path: Path) -> None:
        """Take up what `path` holds; a line that cannot be read counts as missing."""
        self._path = path
        self._found: dict[Key, Finding] = {}
        self._newest = 0
        self._convicted: set[str] = set()
        self._convicted_nodes: set[str] = set()
        self._doubted: set[str] = set()
        for finding in self._read():
            self._note(finding)
        self._file = JsonLines(path)

    def __contains__(self, key: Key) -> bool:
        """Tell whether anything is known of a delivery of the last rounds."""
        return key in self._found

    def get(self, key: Key) -> Finding | None:
        """Return what is known of a delivery of the last rounds."""
        return self._found.get(key)

    def of_delivery(self, delivery: Delivery) -> Finding | None:
        """Return what is known of a delivery."""
        voice = delivery.source.voice if delivery.source is not None else ""
        return self.get((delivery.order_sha256, delivery.result_sha256, voice))

    @property
    def convicted(self) -> frozenset[str]:
        """The voices that were found to have faked something."""
        return frozenset(self._convicted)

    @property
    def convicted_nodes(self) -> frozenset[str]:
        """The nodes that were found to have faked something."""
        return frozenset(self._convicted_nodes)

    @property
    def doubted(self) -> frozenset[str]:
        """The voices that contradicted others, and may have been wrong."""
        return frozenset(self._doubted)

    def write(self, finding: Finding) -> None:
        """Note a finding; it replaces what was known of its delivery."""
        self._note(finding)
        self._file.append(msgspec.to_builtins(finding))

    def go_back(self, round_index: int) -> None:
        """Have at hand again what is known of rounds that are done again.

        The first has the same orders as before, and so have those after it while the model stays
        what it was; with another model theirs are others, and what was known is of no use.
        """
        self._newest = round_index
        again = range(round_index, round_index + ROUNDS_AT_HAND)
        self._found.update({one.key: one for one in self._read() if one.round in again})

    def _note(self, finding: Finding) -> None:
        self._found[finding.key] = finding
        self._doubted.update(finding.doubted)
        if finding.standing == "faked":
            self._convicted.add(finding.voice)
            self._convicted_nodes.add(finding.node)
        if finding.round > self._newest:
            self._newest, oldest = finding.round, finding.round - ROUNDS_AT_HAND
            self._found = {
                key: one
                for key, one in self._found.items()
                if one.round > oldest or one.standing == "pending"
            }

    def _read(self) -> Iterator[Finding]:
        """Yield what the file has, oldest first; a line that cannot be read counts as missing."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    yield msgspec.json.decode(line, type=Finding)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue

    def abandon(self, round_index: int, tell: Callable[[Finding], None]) -> None:
        """Give up audits of rounds that were merged when the process before died: what was drawn
        and never looked at counts as not drawn.

        It is told before it is written here: a crash in between leaves it to be done.
        """
        for finding in list(self._found.values()):
            if finding.standing == "pending" and finding.round < round_index:
                reason = "the run's process died before it was done again"
                given_up = replace(finding, standing="unaudited", chance=0.0, reason=reason)
                tell(given_up)
                self.write(given_up)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def audit_key(path: Path) -> bytes:
    """Return the run's secret for drawing audits, made up when first asked for.

    Nobody but its owner may read the file, and its content goes nowhere else.
    """
    try:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink()  # torn by a crash: nothing was drawn with it
    except FileNotFoundError:
        pass
    key = os.urandom(KEY_BYTES)
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, key)
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(temporary, path)
    return key
