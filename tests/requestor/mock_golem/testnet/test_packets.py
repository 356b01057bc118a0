"""Packets of the service bus against bytes worked out by hand, and against hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.testnet.packets import (
    MAX_PACKET_BYTES,
    CallReply,
    CallRequest,
    Hello,
    Packet,
    PacketError,
    PacketReader,
    Ping,
    Pong,
    RegisterReply,
    RegisterRequest,
    Unknown,
    decode,
    encode,
)

ID = bytes(range(16))
# packet: number of the field in the outer message, its length, then its fields
BY_HAND = [
    (Hello("a", "b", ID), "0000001a 0a18 0a0161 120162 1a10" + ID.hex()),
    (RegisterRequest("/x"), "00000006 1204 0a022f78"),
    (RegisterReply(409, "no"), "00000009 1a07 089903 12026e6f"),
    (
        CallRequest("", "/x", "7", b"\x00\xff", no_reply=True),
        "0000000f 320d 12022f78 1a0137 220200ff 2801",
    ),
    (CallReply("7", 500, True, b"!"), "0000000d 3a0b 0a0137 10f403 1801 220121"),
    (Ping(), "00000002 7200"),
    (Pong(), "00000002 7a00"),
]


def by_hand(text: str) -> bytes:
    """Return the bytes of a hexadecimal text with spaces."""
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize(("packet", "text"), BY_HAND, ids=lambda one: type(one).__name__)
def test_packets_are_written_and_read_as_by_hand(packet: Packet, text: str) -> None:
    assert encode(packet) == by_hand(text)
    assert list(PacketReader().feed(by_hand(text))) == [packet]


def test_absent_fields_have_their_defaults() -> None:
    assert decode(by_hand("3a00")) == CallReply("", 0, False, b"")
    assert decode(by_hand("1a00")) == RegisterReply(0, "")


def test_unknown_packets_and_fields_are_read_over() -> None:
    assert decode(by_hand("4203 0a0161")) == Unknown(8)
    # fields 9 (varint), 10 (8 bytes), 11 (4 bytes) and 12 (text) of a newer ping
    fields = "4801 51" + "00" * 8 + "5d" + "00" * 4 + "620161"
    assert decode(b"\x72" + bytes([len(by_hand(fields))]) + by_hand(fields)) == Ping()


def test_of_several_packets_in_a_message_the_last_one_counts() -> None:
    assert decode(by_hand("7200 7a00")) == Pong()


@given(
    st.lists(
        st.one_of(
            st.builds(Hello, st.text(), st.text(), st.binary()),
            st.builds(RegisterRequest, st.text()),
            st.builds(RegisterReply, st.integers(0, 2**63), st.text()),
            st.builds(
                CallRequest, st.text(), st.text(), st.text(), st.binary(max_size=500), st.booleans()
            ),
            st.builds(
                CallReply, st.text(), st.integers(0, 999), st.booleans(), st.binary(max_size=500)
            ),
            st.just(Ping()),
        ),
        max_size=5,
    ),
    st.integers(1, 200),
)
def test_any_packets_cut_anyhow_come_back(packets: list[Packet], size: int) -> None:
    stream = b"".join(map(encode, packets))
    reader = PacketReader()
    found: list[Packet] = []
    for start in range(0, len(stream), size):
        found += reader.feed(stream[start : start + size])
    assert found == packets


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_packet_error(message: bytes) -> None:
    try:
        packet = decode(message)
    except PacketError:
        return
    assert packet is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("0a", "cut short"),
        ("0a05 0a0161", "cut short"),
        ("3201 ff", "cut short"),
        ("32 ffffffffffffffffffff7f", "more than 10 bytes"),
        ("73", "wire type 3"),
        ("0202 0a00", "field number 0"),
        ("0801", "not a message"),
        ("3202 0801", "wrong type"),
        ("3a02 1200", "wrong type"),
        ("1203 0a01ff", "not UTF-8"),
    ],
)
def test_malformed_messages_are_refused(text: str, words: str) -> None:
    with pytest.raises(PacketError, match=words):
        decode(by_hand(text))


def test_lengths_are_bounded_both_ways() -> None:
    with pytest.raises(PacketError, match="longer than"):
        list(PacketReader().feed((MAX_PACKET_BYTES + 1).to_bytes(4, "big")))
    with pytest.raises(PacketError, match="longer than"):
        encode(CallReply("7", data=bytes(MAX_PACKET_BYTES)))


def test_only_known_packets_are_sent() -> None:
    with pytest.raises(PacketError, match="never sent"):
        encode(Unknown(8))
