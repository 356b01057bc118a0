"""Keeps a run's chain of records, and what it takes to do its rounds again.

`provenance/chain.jsonl` has one line for each record of `requestor.trust.provenance`. A round's is
written before its checkpoint: what a crash left beyond the last checkpoint is cut off on resume.
`provenance/files/<SHA-256>` are the models that rounds began with, clients' states and the merge's,
as far as `trust.keep_rounds` and `trust.keep_gib` say; most are the checkpoints' own files under
another name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from provider_image.wire import FileRef
from requestor.training_run.auditing.findings import ROUNDS_AT_HAND, Finding
from requestor.trust.provenance import (
    FIRST_PREVIOUS,
    MAX_RECORD_BYTES,
    Course,
    ProvenanceError,
    Record,
    RedoneRecord,
    RoundRecord,
    VerdictRecord,
    WorkRecord,
    encode_record,
    read_chain,
    record_digest,
)

_Works = dict[tuple[str, str], tuple[int, WorkRecord]]
"""Work by the digests of order and result, each with its round."""

EARLIER = -1
"""Files of which the records do not say what they are for count as those of the oldest round."""


@dataclass(frozen=True)
class ProvenanceFolder:
    """Where a run's records and files lie."""

    path: Path

    @property
    def chain(self) -> Path:
        """The records."""
        return self.path / "chain.jsonl"

    @property
    def files(self) -> Path:
        """What the records name by digest."""
        return self.path / "files"

    def file(self, sha256: str) -> Path:
        """Return where the file of a digest lies, if it was kept."""
        return self.files / sha256

    def read(self) -> list[Record]:
        """Return the records; a last line torn by a crash is none.

        Raises:
            ProvenanceError: the chain is broken.
        """
        return list(self.records())

    def records(self) -> Iterator[Record]:
        """Yield the records one by one; see `read`."""
        if self.chain.exists():
            yield from read_chain(_whole_lines(self.chain))


class ProvenanceLog:
    """Appends records to a run's chain."""

    def __init__(
        self,
        folder: ProvenanceFolder,
        run_id: str,
        keep_rounds: int | None,
        keep_bytes: int | None = None,
    ) -> None:
        """Keep the chain in `folder`, and files of the last `keep_rounds` rounds (None: all).

        Fewer are kept where those take more than `keep_bytes` (None: any number).
        """
        self._folder = folder
        self._run_id = run_id
        self._keep_rounds = keep_rounds
        self._keep_bytes = keep_bytes
        self._previous = FIRST_PREVIOUS
        self._work: _Works = {}
        self._suspects: _Works = {}
        self._needed: dict[int, frozenset[str]] = {}
        self._uses: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self.faked_by: set[str] = set()
        """Nodes of which faked work was merged, and counts still; a wallet anybody may name."""
        self._lying_voices: set[str] = set()

    def open(self, round_index: int) -> str | None:
        """Go on after `round_index` rounds; what was written of later ones is cut off.

        Return what a person should know: a chain that is broken is put aside, and a new one begun.
        """
        self._folder.files.mkdir(parents=True, exist_ok=True)
        chain = self._folder.chain
        chain.touch()
        try:
            whole = _bytes_up_to(self._folder, round_index)
        except ProvenanceError as error:
            os.replace(chain, chain.with_name("chain.broken.jsonl"))
            return f"the record of where this run's models come from is broken: {error}"
        with chain.open("ab") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
        found = {path.name: path.stat().st_size for path in self._folder.files.iterdir()}
        for record in self._folder.records():
            self._note(record)
            if isinstance(record, RoundRecord):
                self._need(record.round, frozenset(digests_of(record)) & found.keys())
        self._sizes = found
        self._need(EARLIER, frozenset(found.keys() - self._uses.keys()))
        self._look_for_suspects()
        return None

    def append(self, record: Record) -> None:
        """Write a record, which is chained to the last one; it is on the disk on return."""
        chained: Record = replace(record, previous=self._previous, run_id=self._run_id)
        with self._folder.chain.open("ab") as file:
            file.write(encode_record(chained) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        known = frozenset(self.faked_by)
        self._note(chained)
        if not self.faked_by <= known:
            self._look_for_suspects()

    def keep(self, round_index: int, files: Mapping[str, Path]) -> None:
        """Keep what a round began with: files by their SHA-256. Drop what no round needs now."""
        if self._keep_rounds == 0:
            return
        for sha256, path in files.items():
            target = self._folder.file(sha256)
            link_or_copy(path, target)
            if target.exists():
                self._sizes[sha256] = target.stat().st_size
        self._need(round_index, frozenset(files))
        self._prune(round_index)

    def found(self, finding: Finding) -> None:
        """Write down what became known of work whose round is written already."""
        known = self._work.get((finding.order_sha256, finding.result_sha256))
        is_explained = finding.standing == "unaudited" and bool(finding.reason)
        if known is None or (known[1].standing == finding.standing and not is_explained):
            return
        round_index, work = known
        if not _is_by_sender(work, finding):
            return  # another sent the same
        self.append(
            VerdictRecord(
                previous=self._previous,
                run_id=self._run_id,
                round=round_index,
                client=work.client,
                order_sha256=work.order_sha256,
                result_sha256=work.result_sha256,
                standing=finding.standing,
                verified_by=finding.verified_by,
                reason=finding.reason[:2000],
            )
        )

    def suspect_round(self) -> int | None:
        """Return the first round (from 0) with work of a convicted node that nobody verified.

        None if there is none, or no fake was merged.
        """
        suspects = (number for number, work in self._suspects.values() if not self._stands(work))
        return min(suspects, default=None)

    def _look_for_suspects(self) -> None:
        """Read anew what those have sent of whom faked work was merged."""
        self._suspects = {}
        if self.faked_by:
            for record in self._folder.records():
                _take_down(self._suspects, record, self._is_suspect)

    def _is_suspect(self, work: WorkRecord) -> bool:
        return _node_of(work) in self.faked_by

    def _stands(self, work: WorkRecord) -> bool:
        by = work.verified_by  # voices: whoever may be the liar's other node is not believed
        is_vouched = not by or any(one not in self._lying_voices for one in by)
        return work.standing == "verified" and is_vouched

    def void(self, round_index: int, reason: str) -> None:
        """Write down that the rounds from `round_index` on do not count any more."""
        record = RedoneRecord(
            previous=self._previous, run_id=self._run_id, round=round_index, reason=reason[:2000]
        )
        self.append(record)

    def _note(self, record: Record) -> None:
        self._previous = record_digest(encode_record(record))
        _take_down(self._work, record, lambda _: True)
        _take_down(self._suspects, record, self._is_suspect)
        match record:
            case RoundRecord():
                oldest = record.round - ROUNDS_AT_HAND
                self._work = {
                    key: known
                    for key, known in self._work.items()
                    if known[0] > oldest or known[1].standing == "pending"
                }
                self._blame(record.work)
            case VerdictRecord(standing="faked"):
                key = record.order_sha256, record.result_sha256
                if key in self._work:
                    self._blame([self._work[key][1]])
            case RedoneRecord():
                self.faked_by, self._lying_voices = set(), set()
                self._blame(work for _, work in self._suspects.values())

    def _blame(self, works: Iterable[WorkRecord]) -> None:
        """Note who sent what was faked of this work."""
        for work in works:
            if work.standing == "faked":
                self.faked_by.add(_node_of(work))
                self._lying_voices.add(_voice_of(work))

    def _need(self, round_index: int, digests: frozenset[str]) -> None:
        self._uses.update(digests)
        self._uses.subtract(self._needed.get(round_index, ()))
        self._needed[round_index] = digests

    def _prune(self, newest: int) -> None:
        """Drop the oldest rounds' files, as far as more is kept than shall be."""
        for number in sorted(self._needed):
            is_old = self._keep_rounds is not None and number <= newest - self._keep_rounds
            is_much = self._keep_bytes is not None and sum(self._sizes.values()) > self._keep_bytes
            if not is_old and not is_much:
                return
            digests = self._needed[number]
            self._need(number, frozenset())
            del self._needed[number]
            for sha256 in [one for one in digests if not self._uses[one]]:
                del self._uses[sha256]
                self._sizes.pop(sha256, None)
                self._folder.file(sha256).unlink(missing_ok=True)


def _take_down(works: _Works, record: Record, is_meant: Callable[[WorkRecord], bool]) -> None:
    """Bring what is known of work up to date with one more record."""
    match record:
        case RoundRecord():
            for work in filter(is_meant, record.work):
                works[work.order_sha256, work.result_sha256] = record.round, work
        case VerdictRecord():
            key = record.order_sha256, record.result_sha256
            if key in works:
                number, work = works[key]
                judged = replace(work, standing=record.standing, verified_by=record.verified_by)
                works[key] = number, judged
        case RedoneRecord():
            for key in [key for key, (number, _) in works.items() if number >= record.round]:
                del works[key]


def _voice_of(work: WorkRecord) -> str:
    return work.wallet or work.provider_id


def _node_of(work: WorkRecord) -> str:
    return work.provider_id or work.wallet or ""


def _is_by_sender(work: WorkRecord, finding: Finding) -> bool:
    """Tell whether a finding is of who sent this; older ones do not name the node."""
    if finding.provider_id and work.provider_id:
        return finding.provider_id == work.provider_id
    return finding.voice == _voice_of(work)


def _bytes_up_to(folder: ProvenanceFolder, rounds: int) -> int:
    """Return how long the chain of a run is that has done so many rounds: a later tail is a
    crash's.

    Raises:
        ProvenanceError: the chain is broken.
    """
    course, kept, size = Course(), 0, 0
    for record in folder.records():
        course.follow(record)
        size += len(encode_record(record)) + 1
        if course.done <= rounds:
            kept = size
    return kept


def digests_of(record: RoundRecord) -> Iterable[str]:
    """Yield the digests of the files that a round began with."""
    yield record.base_sha256
    if record.merge_state_sha256:
        yield record.merge_state_sha256
    yield from (work.state_sha256 for work in record.work if work.state_sha256)


def reference(folder: ProvenanceFolder, sha256: str, name: str) -> FileRef:
    """Return the reference of a kept file under another name.

    Raises:
        OSError: it was not kept.
    """
    return FileRef(name=name, sha256=sha256, bytes=folder.file(sha256).stat().st_size)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or a copy where that cannot be; a file that is gone has none."""
    if target.exists():
        return
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another file system, or one without links
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, temporary)
    if temporary.exists():
        os.replace(temporary, target)


def _whole_lines(path: Path) -> Iterable[bytes]:
    with path.open("rb") as lines:
        while line := lines.readline(MAX_RECORD_BYTES + 2):
            if line.endswith(b"\n") or len(line) > MAX_RECORD_BYTES:
                yield line
