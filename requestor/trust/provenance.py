"""Where a model comes from: one record for each round, each naming the SHA-256 of the one before.

A record is one line of canonical JSON (keys sorted, no white space). Its digest is the SHA-256 of
that line without the line's end, so a record that was changed, left out or put in breaks the chain
from there on, and the last digest stands for the whole history. Verdicts that come later than
their round are records of their own: what was written is never changed.

Read next: `requestor/training_run/provenance_log.py`, which keeps the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

FORMAT = 1
MAX_RECORD_BYTES = 1 << 24
MAX_RECORDS = 1_000_000
FIRST_PREVIOUS = "0" * 64
"""What the first record names in place of one before."""

_Digest = Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
_Text = Annotated[str, Meta(max_length=2000)]
_Count = Annotated[int, Meta(ge=0, le=10**12)]
_Chance = Annotated[float, Meta(ge=0, le=1)]

Standing: TypeAlias = Literal[
    "unaudited", "pending", "verified", "undecided", "contradicted", "faked"
]
"""What is known of an item's work. `pending`: it was drawn, and the verdict is still to come;
`contradicted`: two others came to another end, and this machine cannot tell who is right."""


class ProvenanceError(ValueError):
    """A chain of records is not what was written; the message says where."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all parts: immutable, unknown fields are errors."""


OWN_MACHINE = "this machine"
"""The name under which the requestor does what none of its providers may do."""


class WorkRecord(_Part, frozen=True, kw_only=True):
    """One client's work in a round, and who did it.

    `last_link` is the end of its hash chain, `chance` that with which it was drawn for an audit,
    `verified_by` who else did it: `requestor`, or a voice. What the requestor did itself has no
    provider, and counts as verified.
    """

    client: _Count
    seed: _Count
    order_sha256: _Digest
    result_sha256: _Digest
    last_link: _Digest = ""
    state_sha256: _Digest = ""
    provider_id: _Text = ""
    provider_name: _Text = ""
    wallet: _Text | None = None
    agreement_id: _Text = ""
    chance: _Chance = 0.0
    standing: Standing = "unaudited"
    verified_by: tuple[_Text, ...] = ()

    @property
    def is_own(self) -> bool:
        """True where the requestor did the work itself."""
        return _is_own(self.provider_id, self.provider_name)


class RefusedRecord(_Part, frozen=True, kw_only=True):
    """Work that came in and was not merged."""

    client: _Count
    order_sha256: _Digest
    result_sha256: _Digest
    provider_id: _Text = ""
    provider_name: _Text = ""
    wallet: _Text | None = None
    agreement_id: _Text = ""
    chance: _Chance = 0.0
    kind: Literal["screened", "fraud"]
    reason: _Text

    @property
    def is_own(self) -> bool:
        """True where the requestor did the work itself."""
        return _is_own(self.provider_id, self.provider_name)


class _Record(_Part, frozen=True, kw_only=True):
    """Base of the records; `previous` is the digest of the one before."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)] = FORMAT
    previous: _Digest
    run_id: _Text


class RoundRecord(_Record, frozen=True, kw_only=True, tag="round"):
    """A round: from which model, by whose work, under which settings, to which model.

    `base_sha256` is the file of the model that was trained on, `candidate_sha256` the digest of
    the merged tensors (`wire.tensors_digest`), `model_sha256` the file of the round's global
    model. `merge` says by what the candidate was made; `merge_state_sha256` is the state that
    a rule with a memory began with. `cost_glm` is all that the run had cost by then.
    """

    round: _Count
    config_sha256: _Digest
    packages: Annotated[dict[_Text, _Text], Meta(max_length=100)] = {}
    image: _Text = ""
    base_sha256: _Digest
    work: Annotated[tuple[WorkRecord, ...], Meta(max_length=100_000)]
    refused: Annotated[tuple[RefusedRecord, ...], Meta(max_length=100_000)] = ()
    screening: _Text = ""
    merge: _Text = ""
    merge_state_sha256: _Digest = ""
    candidate_sha256: _Digest
    decision: Literal["published", "kept", "rolled_back"]
    model_sha256: _Digest
    cost_glm: _Text = "0"


class VerdictRecord(_Record, frozen=True, kw_only=True, tag="verdict"):
    """What became known of an item when its round had been written already."""

    round: _Count
    client: _Count
    order_sha256: _Digest
    result_sha256: _Digest
    standing: Standing
    verified_by: tuple[_Text, ...] = ()
    reason: _Text = ""


class RedoneRecord(_Record, frozen=True, kw_only=True, tag="redone"):
    """The rounds from `round` on are void: fakes had been merged; they are done again."""

    round: _Count
    reason: _Text


Record: TypeAlias = RoundRecord | VerdictRecord | RedoneRecord

_DECODER = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """Return the canonical line of a record, without the line's end."""
    return msgspec.json.encode(record, order="sorted")


def record_digest(line: bytes) -> str:
    """Return the digest that the next record names."""
    return hashlib.sha256(line).hexdigest()


def read_chain(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records of a file's lines, in order, each held against the one before.

    Raises:
        ProvenanceError: a line is no record, too long, or does not follow from the one before.
    """
    previous, run_id = FIRST_PREVIOUS, ""
    for number, raw in enumerate(lines, 1):
        if number > MAX_RECORDS:
            raise ProvenanceError(f"there are more than {MAX_RECORDS} records")
        line = raw.removesuffix(b"\n")
        if len(line) > MAX_RECORD_BYTES:
            raise ProvenanceError(f"record {number} is larger than {MAX_RECORD_BYTES} bytes")
        try:
            record: Record = _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProvenanceError(f"record {number} is damaged: {error}") from error
        if encode_record(record) != line:
            raise ProvenanceError(f"record {number} is not in the form in which it was written")
        if record.previous != previous:
            raise ProvenanceError(
                f"record {number} does not follow from the one before: it names "
                f"{record.previous[:12]}, that is {previous[:12]}"
            )
        if run_id and record.run_id != run_id:
            raise ProvenanceError(f"record {number} is of another run, {record.run_id}")
        previous, run_id = record_digest(line), record.run_id
        yield record


def _is_own(provider_id: str, provider_name: str) -> bool:
    return not provider_id and provider_name == OWN_MACHINE


class History(_Part, frozen=True, kw_only=True):
    """What a chain says now: the rounds that count, in order, with what is known of their work."""

    run_id: str = ""
    rounds: tuple[RoundRecord, ...] = ()
    void: tuple[RoundRecord, ...] = ()
    """Rounds that were done again."""

    @property
    def done(self) -> int:
        """How many rounds the run has done, with those before the first record."""
        return self.rounds[-1].round + 1 if self.rounds else 0

    @property
    def tainted(self) -> tuple[int, ...]:
        """The rounds (from 0) with a fake in them that still count."""
        return tuple(
            one.round for one in self.rounds if any(w.standing == "faked" for w in one.work)
        )


class Course:
    """How far a chain has come: the rounds that count, each with the model that it ended with."""

    def __init__(self) -> None:
        """Begin before the first record."""
        self._models: dict[int, str] = {}

    @property
    def done(self) -> int:
        """How many rounds the run has done, with those before the first record."""
        return next(reversed(self._models), -1) + 1

    def follow(self, record: Record) -> None:
        """Take one more record.

        Raises:
            ProvenanceError: a round does not follow from the model of the round before.
        """
        match record:
            case RoundRecord():
                self._check_parent(record)
                self._models[record.round] = record.model_sha256
            case RedoneRecord():
                self._models = {n: one for n, one in self._models.items() if n < record.round}

    def _check_parent(self, record: RoundRecord) -> None:
        # an older version, or a chain that was put aside, may have done the rounds before
        if self._models and record.round != self.done:
            raise ProvenanceError(f"round {record.round + 1} comes after round {self.done}")
        parent = self._models.get(record.round - 1)
        if parent is not None and parent != record.base_sha256:
            raise ProvenanceError(
                f"round {record.round + 1} began with model {record.base_sha256[:12]}, the round "
                f"before ended with {parent[:12]}"
            )


def summarise(records: Iterable[Record]) -> History:
    """Return what a chain of records adds up to.

    Raises:
        ProvenanceError: a round does not follow from the model of the round before.
    """
    run_id = ""
    rounds: dict[int, RoundRecord] = {}
    void: list[RoundRecord] = []
    course = Course()
    for record in records:
        run_id = record.run_id
        course.follow(record)
        match record:
            case RoundRecord():
                rounds[record.round] = record
            case VerdictRecord() if record.round in rounds:
                rounds[record.round] = _with_verdict(rounds[record.round], record)
            case RedoneRecord():
                void += [one for number, one in rounds.items() if number >= record.round]
                rounds = {n: one for n, one in rounds.items() if n < record.round}
    return History(run_id=run_id, rounds=tuple(rounds.values()), void=tuple(void))


def _with_verdict(one: RoundRecord, verdict: VerdictRecord) -> RoundRecord:
    def judged(work: WorkRecord) -> WorkRecord:
        is_meant = (work.client, work.order_sha256, work.result_sha256) == (
            verdict.client,
            verdict.order_sha256,
            verdict.result_sha256,
        )
        if not is_meant:
            return work
        by = tuple(dict.fromkeys(work.verified_by + verdict.verified_by))
        chance = 0.0 if verdict.standing == "unaudited" else work.chance  # nobody looked
        return msgspec.structs.replace(
            work, standing=verdict.standing, verified_by=by, chance=chance
        )

    return msgspec.structs.replace(one, work=tuple(map(judged, one.work)))
