"""What signed transactions and calls to the token contracts say, as plain values."""

import sys
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_normalized_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

# py_ecc, which comes with these, raises it to 100 000: deeply nested JSON then exhausts the C stack
sys.setrecursionlimit(1000)

MAX_RAW_BYTES = 1 << 16
_WORD_BYTES = 32
_ADDRESS_BYTES = 20
_DYNAMIC_FEE = 2  # EIP-1559, the only type that yagna sends

TRANSFER, BALANCE_OF = "a9059cbb", "70a08231"


class TransactionError(ValueError):
    """Bytes are no transaction, or no call, that this chain understands."""


@dataclass(frozen=True)
class Transaction:
    """A signed transaction; `value` and prices are in 1e-18 units of the network's currency."""

    hash: str
    chain_id: int
    sender: str
    nonce: int
    to: str
    value: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    data: bytes
    raw: bytes


def decode_transaction(raw: bytes) -> Transaction:
    """Read a signed EIP-1559 transaction and find out who signed it.

    Raises:
        TransactionError: it is none, or its signature is not valid.
    """
    if len(raw) > MAX_RAW_BYTES:
        raise TransactionError(f"{len(raw)} bytes are more than {MAX_RAW_BYTES}")
    if not raw or raw[0] != _DYNAMIC_FEE:
        raise TransactionError("transaction type not supported: only EIP-1559 (2) is")
    try:
        transaction = TypedTransaction.from_bytes(HexBytes(raw))
        fields: dict[str, Any] = transaction.as_dict()
        is_canonical = bytes(transaction.encode()) == raw
        sender = Account.recover_transaction(raw)
    except Exception as error:  # the libraries below raise errors of many families
        raise TransactionError(f"no valid transaction: {error}") from error
    if not is_canonical:  # an empty list for a 0 is read, but not what was signed
        raise TransactionError("no valid transaction: not in its only right form")
    to = bytes(fields["to"])
    if len(to) != _ADDRESS_BYTES:
        raise TransactionError("a transaction without a receiver (a new contract)")
    return Transaction(
        hash="0x" + keccak(raw).hex(),
        chain_id=int(fields["chainId"]),
        sender=to_normalized_address(sender),
        nonce=int(fields["nonce"]),
        to="0x" + to.hex(),
        value=int(fields["value"]),
        gas=int(fields["gas"]),
        max_fee_per_gas=int(fields["maxFeePerGas"]),
        max_priority_fee_per_gas=int(fields["maxPriorityFeePerGas"]),
        data=bytes(fields["data"]),
        raw=raw,
    )


def decode_transfer(data: bytes) -> tuple[str, int]:
    """Read a call of the token's `transfer`: the receiver and the amount in 1e-18 units.

    Raises:
        TransactionError: it is another call, or its arguments do not fit.
    """
    if data[:4].hex() != TRANSFER:
        raise TransactionError(f"the token has no method 0x{data[:4].hex()} here")
    receiver, amount = _arguments(["address", "uint256"], data)
    return receiver, amount


def decode_address(data: bytes) -> str:
    """Read a call whose only argument is an address.

    Raises:
        TransactionError: the argument does not fit.
    """
    (address,) = _arguments(["address"], data)
    return str(address)


def _arguments(types: list[str], data: bytes) -> tuple[Any, ...]:
    try:
        return tuple(decode(types, data[4:], strict=False))
    except (DecodingError, ValueError, OverflowError) as error:
        raise TransactionError(f"arguments of 0x{data[:4].hex()}: {error}") from error


def word(value: int | str) -> str:
    """A number or an address as 32 bytes, in hex digits without `0x`."""
    number = int(value, 16) if isinstance(value, str) else value
    return number.to_bytes(_WORD_BYTES, "big").hex()
