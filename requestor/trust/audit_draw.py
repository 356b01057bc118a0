"""Which items are done again: a coin that nobody outside can foresee.

The coin of a delivery is HMAC-SHA256 (RFC 2104) over the digests of its order and of its result,
under a key that the run made up and never tells. So it falls when the provider is committed, it
falls the same after a crash, and a provider that sends another result gets another coin.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

KEY_BYTES = 32


@dataclass(frozen=True)
class AuditCoin:
    """Draws items; `key` is secret.

    Raises:
        ValueError: the key is too short to be one.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check the key's length."""
        if len(self.key) < KEY_BYTES:
            raise ValueError(f"a key of {len(self.key)} bytes can be guessed; {KEY_BYTES} are due")

    def number(self, order_sha256: str, result_sha256: str) -> float:
        """Return the number in [0, 1) that belongs to a delivery."""
        text = f"derl audit\x1f{order_sha256}\x1f{result_sha256}"
        digest = hmac.digest(self.key, text.encode(), "sha256")
        # 53 bits: all that a float between 0 and 1 can tell apart
        return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)

    def draws(self, order_sha256: str, result_sha256: str, chance: float) -> bool:
        """Tell whether a delivery is drawn, where each is with `chance`."""
        return self.number(order_sha256, result_sha256) < chance
