"""The ports between a training run and a marketplace.

`Marketplace.rent(terms)` opens a `ProviderPool`; `ProviderPool.next_lease()` yields leases as
providers become ready; `Lease.execute(job)` has one order done. Each stage sees only the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.choice.history import Who
from requestor.marketplace.choice.selection import Preferences
from requestor.marketplace.money.spending import Prices, SpendingGuard
from requestor.networks import payment_platform

RUN_PROPERTY = "golem.srv.app.derl.run"
"""Our mark on every demand, and so on every agreement: a crashed run finds its own by it."""


@dataclass(frozen=True)
class OutputFile:
    """Where an output of a job shall land, and how large it may be."""

    path: Path
    max_bytes: int


@dataclass(frozen=True)
class Job:
    """One order with its files, for one lease.

    `inputs` and `outputs` map names in the worker's directory to files here. Inputs whose content
    (SHA-256) the lease already has are not sent again.
    """

    order: bytes
    inputs: Mapping[str, Path]
    input_digests: Mapping[str, str]
    outputs: Mapping[str, OutputFile]
    deadline_seconds: float


class LeaseError(Exception):
    """An order was not done."""


class OrderFailed(LeaseError):
    """The provider answered that it could not do the order; the lease itself is sound."""


class LeaseLost(LeaseError):
    """The lease is over: the provider vanished, hung, or broke the rules; `failure` says which."""

    def __init__(self, reason: str, failure: FailureKind = "vanished") -> None:
        """Say why the lease is over."""
        super().__init__(reason)
        self.failure: FailureKind = failure


class LeaseOver(LeaseLost):
    """The lease had ended before the order was sent: nothing was tried."""


class MarketplaceLost(Exception):
    """The daemon stopped serving us; what was rented through it is out of reach."""


class MarketplaceGone(MarketplaceLost):
    """The daemon was waited for, and stayed away."""


@dataclass(frozen=True)
class LeaseInfo:
    """Who stands behind a lease."""

    id: str
    provider_name: str
    provider_id: str
    agreement_id: str
    prices: Prices
    wallet: str | None = None

    @property
    def voice(self) -> str:
        """Who it counts as where providers are counted: all nodes of a wallet are one."""
        return self.wallet or self.provider_id


class Lease(Protocol):
    """An agreement with its running activity, ready to execute orders, one at a time."""

    @property
    def info(self) -> LeaseInfo:
        """Who stands behind it."""
        ...

    async def execute(self, job: Job) -> Mapping[str, str]:
        """Have the job done; return the SHA-256 that the worker *claims* for each output.

        Raises:
            OrderFailed: the worker refused or failed the order.
            LeaseLost: the lease ended before the order did.
            LeaseOver: it had ended before the order was sent.
        """
        ...

    def assess(self, useful_steps: int, seconds: float) -> None:
        """Note what came of an order: so many steps that came to use (0: none), after so long."""
        ...

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        """End the lease; with `avoid` its provider has failed us in that way."""
        ...


class ProviderPool(Protocol):
    """Leases under one set of terms; lost ones are replaced while the pool is open."""

    @property
    def spending(self) -> SpendingGuard:
        """What is owed and what may still be spent."""
        ...

    @property
    def market_view(self) -> str:
        """One line on what the market offered, for the message that nobody came."""
        ...

    @property
    def seconds_left(self) -> float:
        """How long its agreements still run; after that a new pool is needed."""
        ...

    @property
    def awaits_more(self) -> bool:
        """True while somebody else may come, as far as the market is known: false once as many
        as were asked for are at work, or all who offered something that may be rented."""
        ...

    def review(self) -> None:
        """Give up providers for which clearly better ones are there; called between rounds."""
        ...

    async def next_lease(self) -> Lease:
        """Wait for the next provider to become ready.

        Raises:
            MarketplaceLost: the daemon is gone.
        """
        ...


@dataclass(frozen=True)
class GpuNeeds:
    """The least memory of the card, and the models that will do (empty: any)."""

    memory_gib: float = 0.0
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A computation manifest, and what vouches for it: the content of files, as it is in them."""

    content: bytes
    signature: bytes | None = None
    certificate: bytes | None = None
    algorithm: str = "sha256"
    node_descriptor: bytes | None = None


@dataclass(frozen=True)
class Terms:
    """What is rented and what it may cost."""

    run_id: str
    providers: int
    budget_glm: Decimal
    ceilings: Prices
    memory_gib: float
    storage_gib: float
    threads: int
    image: str
    image_url: str | None
    subnet: str
    payment_driver: str
    payment_network: str
    expiration_seconds: float
    deploy_timeout_seconds: float
    invoice_timeout_seconds: float
    avoided: frozenset[str] = field(default_factory=frozenset)
    preferences: Preferences = field(default_factory=Preferences)
    runtime: str = "vm"
    gpu: GpuNeeds | None = None
    registry_url: str = "https://registry.golem.network"
    manifest: Manifest | None = None
    learner: str = "sb3"
    """What a provider's worker has in memory before it says that it is ready."""

    payment_interval_seconds: float = 18_000.0
    """How often at most a provider may ask to be paid before an agreement ends, if that is long."""

    daemon_patience_seconds: float = 120.0
    """How long the daemon may be away at a time before the session is given up."""

    @property
    def payment_platform(self) -> str:
        """The platform by which providers are paid, e.g. `erc20-hoodi-tglm`."""
        return payment_platform(self.payment_driver, self.payment_network)


class Marketplace(Protocol):
    """A place where compute can be rented."""

    def rent(
        self, terms: Terms, notice: Callable[[str], None]
    ) -> AbstractAsyncContextManager[ProviderPool]:
        """Open a pool under `terms`; leaving the context ends everything and settles the bills.

        `notice` receives one-line messages for the person at the terminal.
        """
        ...


class Sanctions(Protocol):
    """What can be done about who was convicted; a marketplace offers it."""

    def convict(self, who: Who, reason: str, *, refuse_bills: bool) -> None:
        """Ban a provider that faked work, at once; end all of its leases.

        Others of its wallet are avoided, not banned: an offer may name anybody's wallet.
        With `refuse_bills` nothing more is paid under its agreements; what was accepted stays.
        """
        ...
