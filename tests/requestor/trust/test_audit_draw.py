"""The coin: from a secret, after the commitment, and fair."""

import hashlib
import hmac
import math

import pytest

from requestor.trust.audit_draw import AuditCoin

KEY = bytes(range(32))


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def test_the_coin_is_the_first_53_bits_of_an_hmac() -> None:
    mac = hmac.new(KEY, b"derl audit\x1f" + b"aa" + b"\x1f" + b"bb", hashlib.sha256).hexdigest()
    assert AuditCoin(KEY).number("aa", "bb") == int(mac[:16], 16) // 2**11 / 2**53


def test_order_result_and_key_all_change_it() -> None:
    coin = AuditCoin(KEY)
    numbers = {
        coin.number("a", "b"),
        coin.number("a", "c"),
        coin.number("c", "b"),
        AuditCoin(KEY[::-1]).number("a", "b"),
    }
    assert len(numbers) == 4
    assert coin.number("a", "b") == AuditCoin(KEY).number("a", "b")


@pytest.mark.parametrize("chance", [0.03, 0.125, 0.5])
def test_it_draws_as_often_as_it_should(chance: float) -> None:
    coin, n = AuditCoin(KEY), 20_000
    drawn = sum(coin.draws("order", result, chance) for result in digests(n))
    spread = math.sqrt(n * chance * (1 - chance))
    assert abs(drawn - n * chance) < 3.3 * spread  # 99.9 %, and always the same


def test_sure_and_never() -> None:
    coin = AuditCoin(KEY)
    assert all(coin.draws("order", result, 1.0) for result in digests(1000))
    assert not any(coin.draws("order", result, 0.0) for result in digests(1000))


def test_the_key_is_never_shown_and_never_short() -> None:
    coin = AuditCoin(b"s" * 32)
    assert "sss" not in repr(coin) and "sss" not in str(coin)
    with pytest.raises(ValueError, match="can be guessed"):
        AuditCoin(b"s" * 31)
