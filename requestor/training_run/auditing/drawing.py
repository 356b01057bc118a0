"""Which deliveries are drawn to be done again, and by whom they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from requestor.training_run.auditing.findings import Finding, Findings
from requestor.training_run.auditing.means import VoiceHistory
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.trust.audit_draw import AuditCoin


@dataclass
class Suspects:
    """The voices that have faked work, the nodes that did it, and the voices that may have.

    A voice is a wallet, which any offer may name; a node id is proven.
    """

    convicted: set[str]
    convicted_nodes: set[str]
    doubted: set[str]

    @classmethod
    def known_from(cls, findings: Findings) -> Suspects:
        """Return those of whom a run knows already."""
        return cls(set(findings.convicted), set(findings.convicted_nodes), set(findings.doubted))

    def __contains__(self, voice: str) -> bool:
        """Tell whether a voice is suspicious."""
        return voice in self.convicted or voice in self.doubted

    def has_bad_company(self, finding: Finding) -> bool:
        """Tell whether another of its wallet faked work, and nobody has looked at this."""
        is_unseen = finding.standing == "unaudited" and not finding.reason
        is_mate = finding.voice in self.convicted and finding.node not in self.convicted_nodes
        return is_unseen and is_mate


@dataclass
class Drawing:
    """Tosses the coin for deliveries; a node is drawn less the more is known to be right of it."""

    coin: AuditCoin
    history: VoiceHistory
    options: AuditOptions
    suspects: Suspects
    has_equal_bits: Callable[[Delivery], bool]
    _running: Counter[str] = field(default_factory=Counter)

    def draw(self, delivery: Delivery, source: Source) -> Finding:
        """Return what is known of a delivery that has just come in: drawn or not."""
        voice, node = source.voice, source.provider_id
        known = self.history.verified(node) + self._running[node]
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
            provider_id=node,
        )

    def is_bought(self, delivery: Delivery) -> bool:
        """Tell whether a provider has to do it again."""
        by = self.options.by
        return by == "providers" or (by == "auto" and not self.has_equal_bits(delivery))

    def begun(self, finding: Finding) -> None:
        """Count an audit that goes on as if it had ended well."""
        self._running[finding.node] += 1

    def ended(self, finding: Finding) -> None:
        """Take notice that an audit is over."""
        self._running[finding.node] -= 1
