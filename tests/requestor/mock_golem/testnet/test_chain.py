"""The stand-in chain: what yagna signed is read right, and every token is somewhere."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.journal import JournalError
from requestor.mock_golem.testnet.chain_ledger import (
    BASE_FEE_PER_GAS,
    ChainError,
    ChainLedger,
    Reverted,
)
from requestor.mock_golem.testnet.chain_networks import NETWORKS
from requestor.mock_golem.testnet.chain_rpc import MAX_PERCENTILES, TRANSFER_TOPIC, ChainRpc
from requestor.mock_golem.testnet.chain_transactions import (
    TransactionError,
    decode_transaction,
    decode_transfer,
)

HOODI = NETWORKS["hoodi"]
GWEI = 10**9
# Signed by yagna 0.17.6, which named the hash in its log; sender and payee were its identities.
RECORDED = bytes.fromhex(
    "02f8b283088bb0808203e88504a817c800830119409455555555555556acff9c332ed151758858bd7a2680b844"
    "a9059cbb000000000000000000000000ab4af3b3b16d636c80ee922ee538da7648e02695"
    "00000000000000000000000000000000000000000000000001b4fbd92b5f8000c080a0474c5e718f81755d2cfe3a"
    "6d3b042cdbd2c5bcf3754e42ca4c69a97cecac6c0ca058bebddf66c1bc56a920f4cb6c441585dd48c17e3d6a5bcd"
    "d4646c889b6b2206"
)
RECORDED_HASH = "0x3efc837a2096ba6a84dd5d3b9b788fdc90654b6a17565005c713981bc6408433"
RECORDED_SENDER = "0x4782cc8cfd223d9fb9f16839830766a7da2f1fc2"
RECORDED_PAYEE = "0xab4af3b3b16d636c80ee922ee538da7648e02695"
PAYER_KEY = "0x" + "0" * 63 + "1"
PAYER = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"  # the well-known address of that key
PAYEE = "0x" + "22" * 20


class Time:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_795_000_000.0

    def __call__(self) -> float:
        return self.seconds


def transfer(amount: int, receiver: str = PAYEE, nonce: int = 0, **changes: Any) -> bytes:
    """Sign a transfer of tokens by PAYER."""
    data = bytes.fromhex(f"a9059cbb{int(receiver, 16):064x}{amount:064x}")
    fields = {
        "type": 2,
        "chainId": HOODI.chain_id,
        "nonce": nonce,
        "to": bytes.fromhex(HOODI.token[2:]),
        "value": 0,
        "gas": 72_000,
        "maxFeePerGas": 20 * GWEI,
        "maxPriorityFeePerGas": 1000,
        "data": data,
        **changes,
    }
    return bytes(Account.sign_transaction(fields, PAYER_KEY).raw_transaction)


@pytest.fixture
def now() -> Time:
    """The chain's time."""
    return Time()


@pytest.fixture
def open_ledger(tmp_path: Path, now: Time) -> Callable[[], ChainLedger]:
    """Open a ledger in a folder of this test."""
    return lambda: ChainLedger(HOODI, tmp_path / "chain", now)


@pytest.fixture
def ledger(open_ledger: Callable[[], ChainLedger]) -> ChainLedger:
    """A ledger in which PAYER has 100 units of tokens and 1e18 of currency."""
    opened = open_ledger()
    opened.fund(PAYER, 100, 10**18)
    return opened


def test_a_transaction_that_yagna_signed() -> None:
    read = decode_transaction(RECORDED)

    assert (read.hash, read.sender, read.to) == (RECORDED_HASH, RECORDED_SENDER, HOODI.token)
    assert (read.chain_id, read.nonce, read.value) == (560048, 0, 0)
    assert (read.gas, read.max_fee_per_gas, read.max_priority_fee_per_gas) == (
        72_000,
        20 * GWEI,
        1000,
    )
    assert decode_transfer(read.data) == (RECORDED_PAYEE, 123 * 10**15)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_transaction(raw: bytes) -> None:
    with pytest.raises(TransactionError):
        decode_transaction(b"\x02" + raw)


@given(st.integers(0, 8 * len(RECORDED) - 1))
def test_a_changed_bit_changes_who_signed_or_what(bit: int) -> None:
    changed = bytearray(RECORDED)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        read = decode_transaction(bytes(changed))
    except TransactionError:
        return
    assert read.sender != RECORDED_SENDER
    assert read.hash != RECORDED_HASH


def test_tokens_move_with_the_next_block(ledger: ChainLedger, now: Time) -> None:
    sent = ledger.submit(transfer(30))

    assert (ledger.tokens_of(PAYER), ledger.tokens_of(PAYEE)) == (100, 0)
    assert ledger.find(sent.hash) is None
    assert ledger.nonce_of(PAYER) == 0
    assert ledger.nonce_of(PAYER, with_pending=True) == 1

    now.seconds += 1
    mined = ledger.find(sent.hash)
    assert mined is not None and mined.succeeded
    assert mined.block == ledger.height
    assert (ledger.tokens_of(PAYER), ledger.tokens_of(PAYEE)) == (70, 30)
    assert ledger.currency_of(PAYER) == 10**18 - mined.gas_used * (BASE_FEE_PER_GAS + 1000)
    assert ledger.nonce_of(PAYER) == 1


def test_more_than_one_has_is_not_sent(ledger: ChainLedger, now: Time) -> None:
    with pytest.raises(Reverted, match="transfer amount exceeds balance"):
        ledger.gas_for(PAYER, HOODI.token, decode_transaction(transfer(101)).data)

    sent = ledger.submit(transfer(101))
    now.seconds += 1

    mined = ledger.find(sent.hash)
    assert mined is not None and not mined.succeeded
    assert (ledger.tokens_of(PAYER), ledger.tokens_of(PAYEE)) == (100, 0)
    assert ledger.currency_of(PAYER) == 10**18 - 72_000 * (BASE_FEE_PER_GAS + 1000)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (transfer(1, nonce=1), "nonce too high"),
        (transfer(1, chainId=1), "invalid sender"),
        (transfer(1, gas=10**12), "insufficient funds for gas"),
        (transfer(1, maxFeePerGas=1000), "less than block base fee"),
        (b"\x01" + RECORDED[1:], "not supported"),
    ],
)
def test_what_a_node_refuses(ledger: ChainLedger, raw: bytes, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        ledger.submit(raw)


def test_nothing_is_booked_twice(ledger: ChainLedger, now: Time) -> None:
    ledger.submit(transfer(30))
    with pytest.raises(ChainError, match="already known"):
        ledger.submit(transfer(30))
    now.seconds += 1
    with pytest.raises(ChainError, match="already known"):
        ledger.submit(transfer(30))
    with pytest.raises(ChainError, match="nonce too low"):
        ledger.submit(transfer(31))

    ledger.fund(PAYER, 5, 5)
    assert (ledger.tokens_of(PAYER), ledger.tokens_of(PAYEE)) == (70, 30)


def test_a_chain_that_is_opened_again(
    open_ledger: Callable[[], ChainLedger], ledger: ChainLedger, now: Time
) -> None:
    first = ledger.submit(transfer(30))
    now.seconds += 10
    second = ledger.submit(transfer(20, nonce=1))
    height = ledger.height
    ledger.close()

    again = open_ledger()

    assert again.height == height
    assert again.find(first.hash) is not None
    assert again.pending(second.hash) is not None
    now.seconds += 1
    assert (again.tokens_of(PAYER), again.tokens_of(PAYEE)) == (50, 50)
    again.fund(PAYER, 100, 10**18)
    assert again.tokens_of(PAYER) == 50


def test_the_chain_of_another_network(ledger: ChainLedger, tmp_path: Path, now: Time) -> None:
    ledger.close()
    with pytest.raises(ChainError, match=r"a chain of hoodi, not of polygon.*--state"):
        ChainLedger(NETWORKS["polygon"], tmp_path / "chain", now)
    ChainLedger(HOODI, tmp_path / "chain", now).close()  # nobody keeps it locked


@pytest.mark.parametrize(
    "record",
    [
        {"type": "transaction", "data": {"raw": "02c0", "block": 3}},
        {"type": "transaction", "data": {"raw": "zz", "block": 3}},
        {"type": "fund", "data": {"address": PAYER, "tokens": "many", "currency": "1"}},
        {"type": "fund", "data": {}},
        {"type": "genesis", "data": None},
        {"type": "genesis"},
        "fund",
    ],
    ids=repr,
)
def test_a_damaged_journal(ledger: ChainLedger, tmp_path: Path, now: Time, record: Any) -> None:
    ledger.close()
    with (tmp_path / "chain" / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"at": "1", "records": [record]}) + "\n")
    with pytest.raises(JournalError, match=r"journal.jsonl: a damaged record .*--state"):
        ChainLedger(HOODI, tmp_path / "chain", now)


@given(amounts=st.lists(st.tuples(st.integers(0, 60), st.sampled_from([PAYEE, PAYER])), max_size=8))
def test_no_token_is_made_or_lost(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[tuple[int, str]]
) -> None:
    now = Time()
    ledger = ChainLedger(HOODI, tmp_path_factory.mktemp("chain"), now)
    ledger.fund(PAYER, 100, 10**18)
    left, given_away = 100, 0
    for nonce, (amount, receiver) in enumerate(amounts):
        ledger.submit(transfer(amount, receiver, nonce))
        now.seconds += nonce % 2  # some share a block
        if receiver == PAYEE and amount <= left:
            left, given_away = left - amount, given_away + amount
    now.seconds += 2
    assert (ledger.tokens_of(PAYER), ledger.tokens_of(PAYEE)) == (left, given_away)
    ledger.close()


# ---------------------------------------------------------------------- JSON-RPC


def ask(ledger: ChainLedger, method: str, *parameters: Any) -> Any:
    """Call a method that must succeed; return its result."""
    answer = ChainRpc(ledger).answer(
        {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
    )
    assert answer["id"] == 7
    return answer["result"]


def test_a_payment_over_json_rpc(ledger: ChainLedger, now: Time) -> None:
    assert ask(ledger, "eth_chainId") == hex(560048)
    balance_of = {"to": HOODI.token, "data": f"0x70a08231{PAYER[2:]:>064}"}
    assert int(ask(ledger, "eth_call", balance_of, "latest"), 16) == 100
    assert int(ask(ledger, "eth_getBalance", PAYER, "latest"), 16) == 10**18

    name = ask(ledger, "eth_sendRawTransaction", "0x" + transfer(30).hex())
    assert ask(ledger, "eth_getTransactionReceipt", name) is None
    assert ask(ledger, "eth_getTransactionByHash", name)["blockNumber"] is None
    now.seconds += 1

    receipt = ask(ledger, "eth_getTransactionReceipt", name)
    assert (receipt["status"], receipt["from"], receipt["to"]) == ("0x1", PAYER, HOODI.token)
    (log,) = receipt["logs"]
    assert log["topics"] == [TRANSFER_TOPIC, f"0x{PAYER[2:]:>064}", f"0x{PAYEE[2:]:>064}"]
    assert int(log["data"], 16) == 30
    block = ask(ledger, "eth_getBlockByNumber", receipt["blockNumber"], False)
    assert block["transactions"] == [name]
    assert int(block["timestamp"], 16) == int(now.seconds)
    assert ask(ledger, "eth_getBlockByHash", block["hash"], True)["transactions"][0]["hash"] == name
    to_payee = {"address": HOODI.token, "topics": [TRANSFER_TOPIC, None, log["topics"][2]]}
    everywhere = {"fromBlock": "earliest", "toBlock": "latest"}
    assert ask(ledger, "eth_getLogs", {**everywhere, **to_payee}) == [log]
    to_payer = {**to_payee, "topics": [TRANSFER_TOPIC, None, log["topics"][1]]}
    assert ask(ledger, "eth_getLogs", {**everywhere, **to_payer}) == []


def test_a_batch_is_answered_in_order(ledger: ChainLedger) -> None:
    asked = [{"id": n, "method": "eth_getBalance", "params": [PAYER]} for n in range(3)]
    answers = ChainRpc(ledger).answer([*asked, {"id": 3, "method": "no_such"}])
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]
    assert answers[3]["error"]["code"] == -32601


def test_a_call_that_fails_says_why(ledger: ChainLedger) -> None:
    data = "0x" + decode_transaction(transfer(101)).data.hex()
    request = {"id": 1, "method": "eth_estimateGas"}
    request["params"] = [{"from": PAYER, "to": HOODI.token, "data": data}]
    error = ChainRpc(ledger).answer(request)["error"]
    # the payment driver looks for these words
    assert "transfer amount exceeds balance" in error["message"]


def test_a_fee_history_is_no_longer_than_what_was_asked(ledger: ChainLedger, now: Time) -> None:
    now.seconds += 2000
    percentiles = list(range(MAX_PERCENTILES))
    history = ask(ledger, "eth_feeHistory", "0xffff", "latest", percentiles)
    assert [len(rewards) for rewards in history["reward"]] == [MAX_PERCENTILES] * 1024
    request = {"id": 1, "method": "eth_feeHistory", "params": [1024, "latest", [*percentiles, 1]]}
    assert ChainRpc(ledger).answer(request)["error"]["code"] == -32602


METHODS = ["eth_call", "eth_getBalance", "eth_sendRawTransaction", "eth_getLogs", "eth_feeHistory"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("0x"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["to", "data", "topics", "fromBlock", "x"]), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"id": st.integers(), "method": st.sampled_from(METHODS) | st.text(max_size=5)},
        optional={"params": JSON},
    )
    | JSON
)
def test_whatever_is_asked_gets_an_answer(
    tmp_path_factory: pytest.TempPathFactory, request_body: Any
) -> None:
    ledger = ChainLedger(HOODI, tmp_path_factory.mktemp("chain"), Time())
    answer = ChainRpc(ledger).answer(request_body)
    for one in answer if isinstance(answer, list) else [answer]:
        assert ("result" in one) != ("error" in one)
    ledger.close()


def test_no_library_lets_nested_json_kill_the_program() -> None:
    program = (
        "import json, requestor.mock_golem.testnet.testnet\n"
        "try:\n    json.loads('[' * 100_000)\nexcept RecursionError:\n    print('refused')"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=False).stdout == b"refused\n"
