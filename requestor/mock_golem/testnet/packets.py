"""Packets of the service bus: a length, then a protobuf message that holds one of several.

Only what an exe-unit says and hears is known here; other packets are read over.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

MAX_PACKET_BYTES = 32 << 20
_LENGTH_BYTES = 4
_MAX_VARINT_BYTES = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

OK, BAD_REQUEST, SERVICE_FAILURE = 0, 400, 500


class PacketError(ValueError):
    """Bytes from the bus are no packet: too long, cut short or malformed."""


@dataclass(frozen=True)
class Hello:
    """The first packet each way; `instance_id` is 16 bytes."""

    name: str
    version: str
    instance_id: bytes


@dataclass(frozen=True)
class RegisterRequest:
    """Asks for all calls below an address."""

    service_id: str


@dataclass(frozen=True)
class RegisterReply:
    """`code` 0: the address is ours; 409: somebody else has it."""

    code: int = OK
    message: str = ""


@dataclass(frozen=True)
class CallRequest:
    """A call of `address`, whose last part is the method."""

    caller: str
    address: str
    request_id: str
    data: bytes
    no_reply: bool = False


@dataclass(frozen=True)
class CallReply:
    """An answer; `partial` means that more follow. `data` is text if `code` is not 0."""

    request_id: str
    code: int = OK
    partial: bool = False
    data: bytes = b""


@dataclass(frozen=True)
class Ping:
    """Asks for a pong."""


@dataclass(frozen=True)
class Pong:
    """Answers a ping."""


@dataclass(frozen=True)
class Unknown:
    """A packet of another kind, by its number."""

    number: int


Packet = (
    Hello | RegisterRequest | RegisterReply | CallRequest | CallReply | Ping | Pong | Unknown
)
_Value = int | bytes
_Kind = Literal["text", "bytes", "number", "flag"]

# number of the packet: its type, and the kinds of its fields from number 1 on
_LAYOUTS: dict[int, tuple[Callable[..., Packet], tuple[tuple[str, _Kind], ...]]] = {
    1: (Hello, (("name", "text"), ("version", "text"), ("instance_id", "bytes"))),
    2: (RegisterRequest, (("service_id", "text"),)),
    3: (RegisterReply, (("code", "number"), ("message", "text"))),
    6: (
        CallRequest,
        (
            ("caller", "text"),
            ("address", "text"),
            ("request_id", "text"),
            ("data", "bytes"),
            ("no_reply", "flag"),
        ),
    ),
    7: (
        CallReply,
        (("request_id", "text"), ("code", "number"), ("partial", "flag"), ("data", "bytes")),
    ),
    14: (Ping, ()),
    15: (Pong, ()),
}
_NUMBERS: dict[object, int] = {layout[0]: number for number, layout in _LAYOUTS.items()}
_ABSENT: dict[_Kind, str | bytes | int | bool] = {
    "text": "",
    "bytes": b"",
    "number": 0,
    "flag": False,
}


def encode(packet: Packet) -> bytes:
    """Return a packet as it goes over the wire, with its length.

    Raises:
        PacketError: it is longer than `MAX_PACKET_BYTES`, or of an unknown kind.
    """
    number = _NUMBERS.get(type(packet))
    if number is None:
        raise PacketError(f"a packet of this kind is never sent: {packet}")
    body = b""
    for field, (name, _) in enumerate(_LAYOUTS[number][1], start=1):
        body += _write_field(field, getattr(packet, name))
    message = _write_varint(number << 3 | _BYTES) + _write_varint(len(body)) + body
    if len(message) > MAX_PACKET_BYTES:
        raise PacketError(f"a packet of {len(message)} bytes is longer than {MAX_PACKET_BYTES}")
    return len(message).to_bytes(_LENGTH_BYTES, "big") + message


def decode(message: bytes) -> Packet:
    """Read a packet (without its length); of several, the last one counts, as protobuf has it.

    Raises:
        PacketError: it is malformed.
    """
    packet: Packet | None = None
    for number, value in _fields(message):
        if number not in _LAYOUTS:
            packet = Unknown(number)
        elif not isinstance(value, bytes):
            raise PacketError(f"packet {number} is not a message")
        else:
            packet = _read_packet(number, value)
    if packet is None:
        raise PacketError("an empty packet")
    return packet


class PacketReader:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take in bytes, yield the packets that are complete now.

        Raises:
            PacketError: what comes is no packet; the stream cannot be read on.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if length > MAX_PACKET_BYTES:
                raise PacketError(f"a packet of {length} bytes is longer than {MAX_PACKET_BYTES}")
            end = _LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield decode(message)


def _read_packet(number: int, message: bytes) -> Packet:
    make, layout = _LAYOUTS[number]
    values = {name: _ABSENT[kind] for name, kind in layout}
    for field, value in _fields(message):
        if field <= len(layout):
            name, kind = layout[field - 1]
            values[name] = _typed(value, kind, f"field {name} of packet {number}")
    return make(**values)


def _typed(value: _Value, kind: _Kind, where: str) -> str | bytes | int | bool:
    if isinstance(value, bytes) != (kind in ("text", "bytes")):
        raise PacketError(f"{where} has the wrong type")
    if isinstance(value, int):
        return bool(value) if kind == "flag" else value
    if kind == "bytes":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise PacketError(f"{where} is not UTF-8") from error


def _fields(message: bytes) -> Iterator[tuple[int, _Value]]:
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise PacketError("field number 0")
        if wire_type == _VARINT:
            value, position = _read_varint(message, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, position = _read_varint(message, position)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise PacketError(f"field {number} has wire type {wire_type}")
        if size > len(message) - position:
            raise PacketError(f"field {number} is cut short")
        yield number, message[position : position + size]
        position += size


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(message):
            raise PacketError("a number is cut short")
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + index + 1
    raise PacketError("a number has more than 10 bytes")


def _write_field(number: int, value: str | bytes | int | bool) -> bytes:
    if not value:
        return b""
    if isinstance(value, int):
        return _write_varint(number << 3 | _VARINT) + _write_varint(int(value))
    data = value.encode() if isinstance(value, str) else value
    return _write_varint(number << 3 | _BYTES) + _write_varint(len(data)) + data


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
