"""The stand-in chain's books: who has what, which transactions were mined, kept in a journal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from requestor.mock_golem.journal import Journal, JournalError
from requestor.mock_golem.testnet.chain_networks import ChainNetwork
from requestor.mock_golem.testnet.chain_transactions import (
    Transaction,
    TransactionError,
    decode_transaction,
    decode_transfer,
)

BLOCK_SECONDS = 1
BASE_FEE_PER_GAS = 10**9
# what such calls use on the real network, rounded
GAS_PLAIN = 21_000
GAS_TRANSFER = 52_000


class ChainError(Exception):
    """A node refuses: the message is worded as the usual nodes do, which clients look for."""

    def __init__(self, message: str, code: int = -32000) -> None:
        super().__init__(message)
        self.code = code


class Reverted(ChainError):
    """A call to a contract fails."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"execution reverted: {reason}", 3)


@dataclass(frozen=True)
class Moved:
    """A `Transfer` event: `amount` of the token's 1e-18 units went from one to the other."""

    sender: str
    receiver: str
    amount: int


@dataclass(frozen=True)
class Mined:
    """A transaction in its block; without success only the gas was paid."""

    transaction: Transaction
    block: int
    index: int
    succeeded: bool
    gas_used: int
    gas_price: int
    move: Moved | None


@dataclass
class _Books:
    currency: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    nonces: dict[str, int] = field(default_factory=dict)


class ChainLedger:
    """Balances and transactions of one network; a block every `BLOCK_SECONDS`.

    Args:
        network: whose contracts these are.
        directory: keeps the journal; what is read from it counts again.
        now: seconds since the epoch.

    Raises:
        JournalError: the directory cannot be used, or its journal is damaged.
        ChainError: it holds another network's chain.
    """

    def __init__(self, network: ChainNetwork, directory: Path, now: Callable[[], float]) -> None:
        self.network = network
        self._now = now
        self._books = _Books()
        self._pending: list[tuple[int, Transaction]] = []
        self._funded: set[str] = set()
        self._genesis = int(now())
        self.mined: dict[str, Mined] = {}
        self._journal = Journal(directory)
        try:
            self._restore()
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    @property
    def height(self) -> int:
        """The newest block's number."""
        return 1 + int(self._now() - self._genesis) // BLOCK_SECONDS

    def block_time(self, number: int) -> int:
        """When a block was mined, in seconds since the epoch."""
        return self._genesis + (number - 1) * BLOCK_SECONDS

    def fund(self, address: str, tokens: int, currency: int) -> None:
        """Give an account its first tokens and currency, in 1e-18 units; once per account."""
        if address not in self._funded:
            record = {"address": address, "tokens": str(tokens), "currency": str(currency)}
            self._write("fund", record)
            self._fund(address, tokens, currency)

    def currency_of(self, address: str) -> int:
        """An account's currency, in 1e-18 units."""
        self._mine()
        return self._books.currency.get(address, 0)

    def tokens_of(self, address: str) -> int:
        """An account's tokens, in 1e-18 units."""
        self._mine()
        return self._books.tokens.get(address, 0)

    def nonce_of(self, address: str, *, with_pending: bool = False) -> int:
        """How many transactions an account has sent."""
        self._mine()
        waiting = sum(one.sender == address for _, one in self._pending) if with_pending else 0
        return self._books.nonces.get(address, 0) + waiting

    def find(self, transaction_hash: str) -> Mined | None:
        """A mined transaction."""
        self._mine()
        return self.mined.get(transaction_hash)

    def pending(self, transaction_hash: str) -> Transaction | None:
        """A transaction that waits for the next block."""
        return next((one for _, one in self._pending if one.hash == transaction_hash), None)

    def in_block(self, number: int) -> list[Mined]:
        """A block's transactions, in order."""
        self._mine()
        return [one for one in self.mined.values() if one.block == number]

    def submit(self, raw: bytes) -> Transaction:
        """Take a signed transaction; it is in the next block.

        Raises:
            ChainError: it is not valid, is known, has the wrong nonce, or cannot pay its gas.
        """
        try:
            transaction = decode_transaction(raw)
        except TransactionError as error:
            raise ChainError(str(error)) from error
        if transaction.chain_id != self.network.chain_id:
            raise ChainError("invalid sender")
        if self.find(transaction.hash) or self.pending(transaction.hash):
            raise ChainError("already known")
        expected = self.nonce_of(transaction.sender, with_pending=True)
        if transaction.nonce != expected:
            word = "low" if transaction.nonce < expected else "high"
            raise ChainError(f"nonce too {word}: {expected} is next, not {transaction.nonce}")
        cost = transaction.value + transaction.gas * transaction.max_fee_per_gas
        if cost > self.currency_of(transaction.sender):
            raise ChainError("insufficient funds for gas * price + value")
        if transaction.max_fee_per_gas < BASE_FEE_PER_GAS:
            raise ChainError("max fee per gas less than block base fee")
        block = self.height + 1
        self._write("transaction", {"raw": raw.hex(), "block": block})
        self._pending.append((block, transaction))
        return transaction

    def gas_for(self, sender: str, to: str, data: bytes) -> int:
        """The gas that a call would use.

        Raises:
            ChainError: it would fail.
        """
        self._mine()
        move, gas = self._plan(sender, to, data)
        self._check(move)
        return gas

    # ------------------------------------------------------------------ execution

    def _mine(self) -> None:
        while self._pending and self._pending[0][0] <= self.height:
            block, transaction = self._pending.pop(0)
            index = sum(one.block == block for one in self.mined.values())
            self.mined[transaction.hash] = self._execute(transaction, block, index)

    def _execute(self, transaction: Transaction, block: int, index: int) -> Mined:
        sender, to, books = transaction.sender, transaction.to, self._books
        price = min(
            transaction.max_fee_per_gas, BASE_FEE_PER_GAS + transaction.max_priority_fee_per_gas
        )
        books.nonces[sender] = transaction.nonce + 1
        move: Moved | None = None
        try:
            move, gas = self._plan(sender, to, transaction.data)
            if gas > transaction.gas:
                raise Reverted("out of gas")
            self._check(move)
            succeeded = True
        except ChainError:
            move, gas, succeeded = None, transaction.gas, False
        _add(books.currency, sender, -gas * price)
        if succeeded:
            _add(books.currency, sender, -transaction.value)
            _add(books.currency, to, transaction.value)
        if move is not None:
            _add(books.tokens, move.sender, -move.amount)
            _add(books.tokens, move.receiver, move.amount)
        return Mined(transaction, block, index, succeeded, gas, price, move)

    def _plan(self, sender: str, to: str, data: bytes) -> tuple[Moved | None, int]:
        """The tokens that a call would move, and the gas it takes."""
        if not data:
            return None, GAS_PLAIN
        if to != self.network.token:
            raise Reverted(f"there is no contract at {to}")
        try:
            receiver, amount = decode_transfer(data)
        except TransactionError as error:
            raise Reverted(str(error)) from error
        return Moved(sender, receiver, amount), GAS_TRANSFER

    def _check(self, move: Moved | None) -> None:
        if move is not None and move.amount > self._books.tokens.get(move.sender, 0):
            raise Reverted("ERC20: transfer amount exceeds balance")

    # ------------------------------------------------------------------ journal

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        self._journal.append(f"{self._now():.3f}", [{"type": kind, "data": data}])

    def _restore(self) -> None:
        records = list(self._journal.read())
        if not records:
            self._write("genesis", {"time": self._genesis, "network": self.network.name})
        for record in records:
            try:
                self._take(str(record["type"]), record["data"])
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise JournalError(
                    f"{self._journal.path}: a damaged record ({error!r:.200}). "
                    "Restore the file, or start with a new --state."
                ) from error

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        """Take over a record of the journal."""
        if kind == "genesis":
            self._genesis = int(data["time"])
            if data["network"] != self.network.name:
                raise ChainError(
                    f"{self._journal.path}: a chain of {data['network']}, not of "
                    f"{self.network.name}; use another --state folder"
                )
        elif kind == "fund":
            self._fund(data["address"], int(data["tokens"]), int(data["currency"]))
        else:
            raw = bytes.fromhex(data["raw"])
            self._pending.append((int(data["block"]), decode_transaction(raw)))

    def _fund(self, address: str, tokens: int, currency: int) -> None:
        self._funded.add(address)
        _add(self._books.tokens, address, tokens)
        _add(self._books.currency, address, currency)


def _add(balances: dict[str, int], address: str, amount: int) -> None:
    balances[address] = balances.get(address, 0) + amount
