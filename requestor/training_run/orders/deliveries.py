"""What comes in for the items of a round: from whom, what was rejected of it, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from requestor.federation.rounds import ClientUpdate, WorkItem
from requestor.marketplace.ports import LeaseInfo
from requestor.trust.provenance import OWN_MACHINE


@dataclass(frozen=True)
class Source:
    """Who delivered a result, under which agreement, and how long the order took.

    Where it was this machine there is no provider, no wallet, no agreement and no voice.
    """

    lease: str
    provider_id: str
    provider_name: str
    agreement_id: str
    wallet: str | None
    seconds: float

    @property
    def voice(self) -> str:
        """Who it counts as where providers are counted: all nodes of a wallet are one."""
        return self.wallet or self.provider_id

    @property
    def is_own(self) -> bool:
        """True where this machine did the work."""
        return self.lease == OWN_MACHINE


def source_of(info: LeaseInfo, seconds: float) -> Source:
    """Return who stands behind a lease, with how long its order took."""
    return Source(
        lease=info.id,
        provider_id=info.provider_id,
        provider_name=info.provider_name,
        agreement_id=info.agreement_id,
        wallet=info.wallet,
        seconds=seconds,
    )


@dataclass(frozen=True)
class Delivery:
    """A screened result: the update, the claimed metrics, and what its sender is committed to.

    `order_sha256` is the order's digest, `result_sha256` that of the update as it was decoded
    and of the state that its client keeps (`wire.work_digest`), `links` the hash chain that came
    with it. `source` is who sent it; None where that is not known.
    """

    update: ClientUpdate
    metrics: Mapping[str, float]
    order_sha256: str = ""
    result_sha256: str = ""
    links: tuple[str, ...] = ()
    source: Source | None = None

    @property
    def is_own(self) -> bool:
        """True where this machine did the work."""
        return self.source is not None and self.source.is_own


@dataclass(frozen=True)
class Rejection:
    """A delivery that was taken back: whose, what it was (its digest), and why."""

    kind: str
    reason: str
    result_sha256: str
    source: Source | None = None

    @property
    def voice(self) -> str:
        """Who sent it; empty where that is not known, and for this machine."""
        return self.source.voice if self.source is not None else ""


@dataclass(frozen=True)
class Harvest:
    """What a round brought: the deliveries in client order, and what was rejected of each item.

    An item that was rejected may have been done again by somebody else.
    """

    deliveries: tuple[Delivery, ...]
    rejections: Mapping[WorkItem, tuple[Rejection, ...]] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """How many items are not in because what was delivered of them was rejected."""
        items = {delivery.update.item for delivery in self.deliveries}
        return len(self.rejections.keys() - items)
