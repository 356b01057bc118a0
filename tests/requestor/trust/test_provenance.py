"""The chain of records: what is changed, left out or put in is seen."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.trust.provenance import (
    FIRST_PREVIOUS,
    ProvenanceError,
    Record,
    RedoneRecord,
    RefusedRecord,
    RoundRecord,
    VerdictRecord,
    WorkRecord,
    encode_record,
    read_chain,
    record_digest,
    summarise,
)
from requestor.trust.record_of_voices import overall, voice_records


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def work(client: int, **known: object) -> WorkRecord:
    return WorkRecord(
        client=client,
        seed=client,
        order_sha256=sha(f"order {client}"),
        result_sha256=sha(f"result {client}"),
        provider_id=f"0x{client % 2}",
        provider_name=f"node {client % 2}",
        **known,  # type: ignore[arg-type]
    )


def round_record(number: int, *works: WorkRecord, previous: str = FIRST_PREVIOUS) -> RoundRecord:
    return RoundRecord(
        previous=previous,
        run_id="run",
        round=number,
        config_sha256=sha("config"),
        base_sha256=sha(f"model {number}"),
        work=works,
        candidate_sha256=sha(f"candidate {number}"),
        decision="published",
        model_sha256=sha(f"model {number + 1}"),
    )


def chain(*records: Record) -> list[bytes]:
    """The lines of records, chained by hand: SHA-256 of each line stands in the next."""
    lines: list[bytes] = []
    previous = "0" * 64
    for record in records:
        plain = json.loads(encode_record(record)) | {"previous": previous}
        line = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
        previous = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
    return lines


LINES = chain(*(round_record(n, work(0), work(1)) for n in range(3)))


def test_a_chain_is_read_as_it_was_written() -> None:
    rounds = summarise(read_chain(LINES)).rounds
    assert [one.round for one in rounds] == [0, 1, 2]
    assert rounds[1].previous == record_digest(LINES[0].rstrip(b"\n"))


@given(st.integers(0, 2), st.data())
def test_any_changed_byte_is_seen(number: int, data: st.DataObject) -> None:
    line = bytearray(LINES[number])
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (line[at], 10)))
    lines = [*LINES[:number], bytes(line), *LINES[number + 1 :]]
    if number == 2:  # nothing names the last: its content is held by whoever keeps its digest
        try:
            records = list(read_chain(lines))
        except ProvenanceError:
            return
        assert encode_record(records[2]) != LINES[2].rstrip(b"\n")
    else:
        with pytest.raises(ProvenanceError):
            list(read_chain(lines))


@pytest.mark.parametrize("lines", [LINES[1:], [LINES[0], LINES[2]], [LINES[0], LINES[0]]])
def test_a_record_left_out_or_put_in_is_seen(lines: list[bytes]) -> None:
    with pytest.raises(ProvenanceError, match="does not follow"):
        list(read_chain(lines))


@pytest.mark.parametrize(
    "line", [b"{}", b"", b"[1", b"\xff", b'{"type":"round"}', b"[" * 100_000, b" " + LINES[0]]
)
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ProvenanceError, match="record 1"):
        list(read_chain([line]))


def test_another_runs_record_is_refused() -> None:
    other = RedoneRecord(previous="", run_id="other", round=0, reason="")
    with pytest.raises(ProvenanceError, match="another run"):
        list(read_chain(chain(round_record(0), other)))


def test_a_round_begins_with_the_model_of_the_one_before() -> None:
    lines = chain(round_record(0), round_record(2))
    with pytest.raises(ProvenanceError, match="round 3 comes after round 1"):
        summarise(read_chain(lines))


def test_later_verdicts_count_and_taint() -> None:
    late = VerdictRecord(
        previous="",
        run_id="run",
        round=0,
        client=1,
        order_sha256=sha("order 1"),
        result_sha256=sha("result 1"),
        standing="faked",
        verified_by=("requestor",),
    )
    found = summarise(read_chain(chain(round_record(0, work(0), work(1)), late)))
    assert [w.standing for w in found.rounds[0].work] == ["unaudited", "faked"]
    assert found.tainted == (0,)


def test_rounds_that_were_done_again_count_once() -> None:
    again = RedoneRecord(previous="", run_id="run", round=1, reason="a fake")
    lines = chain(round_record(0), round_record(1), again, round_record(1))
    found = summarise(read_chain(lines))
    assert [one.round for one in found.rounds] == [0, 1]
    assert [one.round for one in found.void] == [1]


def test_the_record_of_a_voice_adds_up() -> None:
    refused = RefusedRecord(
        client=0,
        order_sha256=sha("o"),
        result_sha256=sha("r"),
        provider_id="0x1",
        chance=0.5,
        kind="fraud",
        reason="it lied",
    )
    one = round_record(
        0,
        work(0, chance=1.0, standing="verified"),
        work(1, chance=0.5),
        work(2, chance=0.125, wallet="0xw"),
    )
    one = msgspec.structs.replace(one, refused=(refused,))
    by_voice = {entry.voice: entry for entry in voice_records([one])}
    assert set(by_voice) == {"0x0", "0x1", "0xw"}
    good, bad = by_voice["0x0"], by_voice["0x1"]
    assert (good.items, good.audited, good.verified, good.faked) == (1, 1, 1, 0)
    assert (bad.items, bad.audited, bad.refused, bad.faked) == (2, 1, 1, 1)
    # 10 %, 50 % and all of two items drawn with chance 1/2 each
    assert bad.caught == pytest.approx((1 - 0.95**2, 1 - 0.75**2, 1 - 0.5**2))
    assert overall([one])[2] == 1.0


def test_what_was_drawn_and_never_looked_at_would_have_caught_nobody() -> None:
    drawn = work(0, chance=0.5, standing="pending")
    seen = work(2, chance=0.5, standing="verified")
    one = round_record(0, drawn, seen)
    # who fakes all of it is found with the one item that was looked at: 0.5
    assert voice_records([one])[0].caught[2] == overall([one])[2] == 0.5
