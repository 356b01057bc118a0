"""By what audits are carried out: tools of the run's own, and doors to the marketplace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from requestor.marketplace.choice.history import Who
from requestor.marketplace.ports import Sanctions
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import Findings
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.replaying import Replaying
from requestor.training_run.auditing.witnesses import NoWitnesses, Witnesses
from requestor.training_run.orders.deliveries import Delivery
from requestor.trust.audit_draw import AuditCoin


class VoiceHistory(Protocol):
    """What is remembered of providers across runs."""

    def verified(self, node_id: str) -> int:
        """Return how many items of a node were verified since its wallet was last suspicious."""
        ...

    def audited(self, who: Who) -> None:
        """Note that an item was done again and found right."""
        ...


@dataclass(frozen=True)
class AuditDoors:
    """What audits need of the marketplace: what is known of voices, and what can be done to one."""

    history: VoiceHistory
    sanctions: Sanctions


@dataclass(frozen=True)
class AuditTools:
    """By what an auditor draws, replays, remembers and keeps evidence."""

    coin: AuditCoin
    findings: Findings
    replays: Replaying
    evidence: EvidenceFolder
    held: HeldFiles
    has_equal_bits: Callable[[Delivery], bool]
    """Tells whether an honest machine of that provider makes the same bits as this one."""

    witnesses: Witnesses = field(default_factory=NoWitnesses)
    """The providers that can do work again."""
