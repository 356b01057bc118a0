"""The Ethereum JSON-RPC over the stand-in chain: the methods that payment software uses."""

from collections.abc import Callable
from typing import Any

from requestor.mock_golem.testnet.chain_ledger import (
    BASE_FEE_PER_GAS,
    ChainError,
    ChainLedger,
    Mined,
    Moved,
)
from requestor.mock_golem.testnet.chain_transactions import (
    BALANCE_OF,
    Transaction,
    TransactionError,
    decode_address,
    word,
)

MAX_BATCH = 100
MAX_PERCENTILES = 100
PRIORITY_FEE_PER_GAS = 10**3
TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_DECIMALS = "313ce567"
_EMPTY_HASH = "0x" + "0" * 64
_EMPTY_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
_NO_ADDRESS = "0x" + "0" * 40
_NO_BLOOM = "0x" + "0" * 512
_GAS_LIMIT = 30_000_000


class ChainRpc:
    """Answers JSON-RPC requests about one chain."""

    def __init__(self, ledger: ChainLedger) -> None:
        self._ledger = ledger
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "mock-golem",
            "net_version": lambda: str(ledger.network.chain_id),
            "eth_chainId": lambda: hex(ledger.network.chain_id),
            "eth_syncing": lambda: False,
            "eth_blockNumber": lambda: hex(ledger.height),
            "eth_gasPrice": lambda: hex(BASE_FEE_PER_GAS + PRIORITY_FEE_PER_GAS),
            "eth_maxPriorityFeePerGas": lambda: hex(PRIORITY_FEE_PER_GAS),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getCode": self._code,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": self._block,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
        }

    def answer(self, request: Any) -> Any:
        """Answer one request, or a batch of at most `MAX_BATCH`."""
        if isinstance(request, list):
            if not 0 < len(request) <= MAX_BATCH:
                return _failure(None, -32600, f"a batch has 1 to {MAX_BATCH} requests")
            return [self._answer_one(one) for one in request]
        return self._answer_one(request)

    def _answer_one(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failure(None, -32600, "invalid request")
        identifier, name = request.get("id"), request["method"]
        method = self._methods.get(name)
        if method is None:
            return _failure(identifier, -32601, f"the method {name} does not exist")
        parameters = request.get("params") or []
        if not isinstance(parameters, list):
            return _failure(identifier, -32602, "params must be a list")
        try:
            result = method(*parameters)
        except ChainError as error:
            return _failure(identifier, error.code, str(error))
        except (TransactionError, ValueError, TypeError, KeyError, AttributeError) as error:
            return _failure(identifier, -32602, f"invalid argument of {name}: {error}")
        return {"jsonrpc": "2.0", "id": identifier, "result": result}

    # ------------------------------------------------------------------ accounts

    def _balance(self, address: str, block: Any = "latest") -> str:
        return hex(self._ledger.currency_of(_address(address)))

    def _transaction_count(self, address: str, block: Any = "latest") -> str:
        is_pending = block == "pending"
        return hex(self._ledger.nonce_of(_address(address), with_pending=is_pending))

    def _code(self, address: str, block: Any = "latest") -> str:
        return "0x00" if _address(address) == self._ledger.network.token else "0x"

    def _call(self, call: dict[str, Any], block: Any = "latest") -> str:
        data = _data(call)
        if _address(call["to"]) != self._ledger.network.token:
            return "0x"
        selector = data[:4].hex()
        if selector == BALANCE_OF:
            return "0x" + word(self._ledger.tokens_of(decode_address(data)))
        if selector == _DECIMALS:
            return "0x" + word(18)
        raise ChainError("execution reverted", 3)

    def _estimate_gas(self, call: dict[str, Any], block: Any = "latest") -> str:
        sender, to = _address(call.get("from", _NO_ADDRESS)), _address(call["to"])
        return hex(self._ledger.gas_for(sender, to, _data(call)))

    def _fee_history(self, count: str | int, newest: Any, percentiles: Any = ()) -> dict[str, Any]:
        blocks = max(1, min(_number(count), 1024, self._ledger.height))
        if len(percentiles or ()) > MAX_PERCENTILES:  # each block would repeat them
            raise ChainError(f"more than {MAX_PERCENTILES} percentiles", -32602)
        return {
            "oldestBlock": hex(self._ledger.height - blocks + 1),
            "baseFeePerGas": [hex(BASE_FEE_PER_GAS)] * (blocks + 1),
            "gasUsedRatio": [0.5] * blocks,
            "reward": [[hex(PRIORITY_FEE_PER_GAS)] * len(percentiles or ())] * blocks,
        }

    # ------------------------------------------------------------------ transactions and blocks

    def _send(self, raw: str) -> str:
        return self._ledger.submit(_bytes(raw)).hash

    def _transaction(self, transaction_hash: str) -> dict[str, Any] | None:
        mined = self._ledger.find(transaction_hash.lower())
        if mined is not None:
            return _transaction_object(mined.transaction, mined)
        pending = self._ledger.pending(transaction_hash.lower())
        return None if pending is None else _transaction_object(pending, None)

    def _receipt(self, transaction_hash: str) -> dict[str, Any] | None:
        mined = self._ledger.find(transaction_hash.lower())
        return None if mined is None else self._receipt_object(mined)

    def _receipt_object(self, mined: Mined) -> dict[str, Any]:
        transaction = mined.transaction
        return {
            "transactionHash": transaction.hash,
            "transactionIndex": hex(mined.index),
            "blockHash": _block_hash(mined.block),
            "blockNumber": hex(mined.block),
            "from": transaction.sender,
            "to": transaction.to,
            "cumulativeGasUsed": hex(mined.gas_used),
            "gasUsed": hex(mined.gas_used),
            "effectiveGasPrice": hex(mined.gas_price),
            "contractAddress": None,
            "logs": self._log_objects(mined),
            "logsBloom": _NO_BLOOM,
            "status": hex(int(mined.succeeded)),
            "type": "0x2",
        }

    def _log_objects(self, mined: Mined) -> list[dict[str, Any]]:
        if mined.move is None:
            return []
        return [_log_object(mined, mined.move, self._ledger.network.token)]

    def _block(self, number: Any, with_transactions: bool = False) -> dict[str, Any] | None:
        height = self._ledger.height
        wanted = _block_number(number, height)
        if wanted > height:
            return None
        mined = self._ledger.in_block(wanted)
        shown: list[Any] = [
            _transaction_object(one.transaction, one) if with_transactions else one.transaction.hash
            for one in mined
        ]
        return {
            "number": hex(wanted),
            "hash": _block_hash(wanted),
            "parentHash": _block_hash(wanted - 1),
            "timestamp": hex(self._ledger.block_time(wanted)),
            "baseFeePerGas": hex(BASE_FEE_PER_GAS),
            "gasLimit": hex(_GAS_LIMIT),
            "gasUsed": hex(sum(one.gas_used for one in mined)),
            "transactions": shown,
            "nonce": "0x0000000000000000",
            "sha3Uncles": _EMPTY_UNCLES,
            "logsBloom": _NO_BLOOM,
            "transactionsRoot": _EMPTY_HASH,
            "stateRoot": _EMPTY_HASH,
            "receiptsRoot": _EMPTY_HASH,
            "mixHash": _EMPTY_HASH,
            "miner": _NO_ADDRESS,
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": "0x",
            "size": "0x400",
            "uncles": [],
        }

    def _block_by_hash(self, block_hash: str, full: bool = False) -> dict[str, Any] | None:
        number = int(block_hash, 16) - _HASH_BASE
        return self._block(hex(number), full) if 0 <= number <= self._ledger.height else None

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        height = self._ledger.height
        first = _block_number(wanted.get("fromBlock", "latest"), height)
        last = _block_number(wanted.get("toBlock", "latest"), height)
        if not _among(self._ledger.network.token, wanted.get("address")):
            return []
        self._ledger.find("")  # mines what is due
        return [
            log
            for mined in self._ledger.mined.values()
            if first <= mined.block <= last
            for log in self._log_objects(mined)
            if _has_topics(log["topics"], wanted.get("topics") or [])
        ]


_HASH_BASE = 0xB10C << 200


def _block_hash(number: int) -> str:
    return f"0x{_HASH_BASE + max(number, 0):064x}"


def _transaction_object(transaction: Transaction, mined: Mined | None) -> dict[str, Any]:
    return {
        "hash": transaction.hash,
        "type": "0x2",
        "chainId": hex(transaction.chain_id),
        "nonce": hex(transaction.nonce),
        "from": transaction.sender,
        "to": transaction.to,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(transaction.max_fee_per_gas if mined is None else mined.gas_price),
        "maxFeePerGas": hex(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        "input": "0x" + transaction.data.hex(),
        "accessList": [],
        "blockHash": None if mined is None else _block_hash(mined.block),
        "blockNumber": None if mined is None else hex(mined.block),
        "transactionIndex": None if mined is None else hex(mined.index),
    }


def _log_object(mined: Mined, move: Moved, token: str) -> dict[str, Any]:
    return {
        "address": token,
        "topics": [TRANSFER_TOPIC, "0x" + word(move.sender), "0x" + word(move.receiver)],
        "data": "0x" + word(move.amount),
        "blockNumber": hex(mined.block),
        "blockHash": _block_hash(mined.block),
        "transactionHash": mined.transaction.hash,
        "transactionIndex": hex(mined.index),
        "logIndex": hex(mined.index),
        "removed": False,
    }


def _has_topics(topics: list[str], wanted: list[Any]) -> bool:
    """Whether each place holds one of the topics asked for there; null asks for none."""
    if len(wanted) > len(topics):
        return False
    return all(_among(topic, asked) for topic, asked in zip(topics, wanted, strict=False))


def _among(value: str, asked: Any) -> bool:
    if asked is None:
        return True
    choices = asked if isinstance(asked, list) else [asked]
    return value.lower() in [str(choice).lower() for choice in choices]


def _block_number(number: Any, height: int) -> int:
    if number in (None, "latest", "pending", "safe", "finalized"):
        return height
    return 0 if number == "earliest" else _number(number)


def _number(text: str | int) -> int:
    return text if isinstance(text, int) else int(text, 16)


def _address(text: str) -> str:
    if len(_bytes(text)) != 20:
        raise ValueError(f"{text[:60]!r} is no address")
    return text.lower()


def _bytes(text: str) -> bytes:
    if not text.startswith("0x"):
        raise ValueError("hex digits begin with 0x")
    return bytes.fromhex(text[2:])


def _data(call: dict[str, Any]) -> bytes:
    return _bytes(call.get("input") or call.get("data") or "0x")


def _failure(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}
