"""What the config says of audits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from requestor.trust.audit_rates import AuditRates


@dataclass(frozen=True)
class AuditOptions:
    """How audits go; see `trust` in the config. `keep_rounds` None: of all rounds.

    keep_bytes: files that take more than this are dropped, the oldest first; None: none are.
    bought: the most with which an item is drawn that a provider has to do again.
    """

    rates: AuditRates = field(default_factory=lambda: AuditRates(0.0, 0.0))
    by: Literal["auto", "requestor", "providers"] = "requestor"
    bought: float = 0.1
    when: Literal["before_merge", "background"] = "before_merge"
    on_fraud: Literal["mark", "redo"] = "mark"
    refuse_bills: bool = True
    keep_rounds: int | None = None
    keep_bytes: int | None = None
    screening: str = ""
    """How updates are screened, in words for the record."""
