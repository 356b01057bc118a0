"""Who is on a virtual market, and who takes whose place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from requestor.attacks.catalogue import Attack
from requestor.marketplace.choice.failures import FailureKind

STRIKES = 2
"""Who failed so often is not rented again while there is somebody else."""


@dataclass(frozen=True)
class VirtualProvider:
    """One node: its name, to whom it is paid (None: to itself), and how it lies, if it does."""

    name: str
    wallet: str | None = None
    attack: Attack | None = None

    @property
    def node_id(self) -> str:
        """The node's id, made of its name."""
        return "0x" + hashlib.sha256(self.name.encode()).hexdigest()[:40]

    @property
    def voice(self) -> str:
        """Who it counts as: all nodes of a wallet are one."""
        return self.wallet or self.node_id


def crowd(
    providers: int, liars: int, attack: Attack | None, spares: int = 0
) -> tuple[list[VirtualProvider], list[VirtualProvider]]:
    """Return `providers` of which the first `liars` lie, and honest `spares` for who is let go.

    Liars come first: where work is handed out in order, they are sure to get some. Nodes of one
    wallet are one of the `providers`, so that as many voices are there whatever the attack.
    """
    liars = 0 if attack is None else liars
    is_one = attack is not None and attack.wallets == "one"
    lying = [
        VirtualProvider(f"liar-{n + 1}", "0x" + "5" * 40 if is_one else None, attack)
        for n in range(liars)
    ]
    others = providers - min(liars, 1 if is_one else liars)
    honest = [VirtualProvider(f"honest-{n + 1}") for n in range(others)]
    return [*lying, *honest], [VirtualProvider(f"spare-{n + 1}") for n in range(spares)]


@dataclass
class Bench:
    """Who is rented next when somebody is let go."""

    spares: Sequence[VirtualProvider]
    _strikes: dict[str, int] = field(default_factory=dict)
    _used: int = 0

    def instead_of(
        self, provider: VirtualProvider, *, avoid: bool, failure: FailureKind
    ) -> VirtualProvider:
        """Return who takes the place of a provider whose lease has ended: itself, or a spare."""
        if not avoid:
            return provider
        strikes = self._strikes.get(provider.voice, 0) + 1
        self._strikes[provider.voice] = strikes
        is_out = strikes >= STRIKES or failure == "faked_work"
        if not is_out or self._used >= len(self.spares):
            return provider
        self._used += 1
        return self.spares[self._used - 1]
