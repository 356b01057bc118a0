"""Which deliveries are drawn to be done again, and by whom they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from requestor.training_run.auditing.findings import Finding, Findings
from requestor.training_run.auditing.means import VoiceHistory
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.deliveries import Delivery
from requestor.trust.audit_draw import AuditCoin


@dataclass
class Suspects:
    """The voices that have faked work, and those that may have."""

    convicted: set[str]
    doubted: set[str]

    @classmethod
    def known_from(cls, findings: Findings) -> Suspects:
        """Return those of whom a run knows already."""
        return cls(set(findings.convicted), set(findings.doubted))

    def __contains__(self, voice: str) -> bool:
        """Tell whether a voice is suspicious."""
        return voice in self.convicted or voice in self.doubted


@dataclass
class Drawing:
    """Tosses the coin for deliveries; a voice is drawn less the more is known to be right of it."""

    coin: AuditCoin
    history: VoiceHistory
    options: AuditOptions
    suspects: Suspects
    has_equal_bits: Callable[[Delivery], bool]
    _running: Counter[str] = field(default_factory=Counter)

    def draw(self, delivery: Delivery, voice: str) -> Finding:
        """Return what is known of a delivery that has just come in: drawn or not."""
        known = self.history.verified(voice) + self._running[voice]
        is_suspicious = voice in self.suspects
        chance = self.options.rates.chance(0 if is_suspicious else known)
        if self.is_bought(delivery) and not is_suspicious:
            chance = min(chance, self.options.bought)
        order, result = delivery.order_sha256, delivery.result_sha256
        is_drawn = self.coin.draws(order, result, chance)
        item = delivery.update.item
        return Finding(
            order,
            result,
            item.round,
            item.client,
            voice,
            chance,
            "pending" if is_drawn else "unaudited",
        )

    def is_bought(self, delivery: Delivery) -> bool:
        """Tell whether a provider has to do it again."""
        by = self.options.by
        return by == "providers" or (by == "auto" and not self.has_equal_bits(delivery))

    def begun(self, voice: str) -> None:
        """Count an audit that goes on as if it had ended well."""
        self._running[voice] += 1

    def ended(self, voice: str) -> None:
        """Take notice that an audit is over."""
        self._running[voice] -= 1
