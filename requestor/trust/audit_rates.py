"""How often a provider's work is done again: always at first, less the more of it was verified.

A node of which v items were verified since the last failure of its wallet has each item drawn with

    p(v) = max(least, first / (1 + v)^3)

so 1, 1/8, 1/27 and then 3 % as the defaults are. The cube pays for itself: identities are free, so
an unknown node must be looked at at once, and a job of 112 items on four unknown providers can
only bear a tenth of its work twice. (A square would be 13 %, a cube is 9.4 % of the work.)

v counts what was drawn and not found wrong *yet*: a record is not worse because the audit still
runs, and if it fails everything falls with it. That of another node never helps, not even of the
same wallet, which any offer may name; nor does work that only another provider has confirmed: two
nodes may have one owner.
"""

from __future__ import annotations

from dataclasses import dataclass

FALL = 3
"""The power with which the rate falls."""


@dataclass(frozen=True)
class AuditRates:
    """The chance that an item is drawn: `first` for unknown nodes, never below `least`.

    Raises:
        ValueError: they are no probabilities, or `least` is above `first`.
    """

    first: float = 1.0
    least: float = 0.03

    def __post_init__(self) -> None:
        """Check them."""
        if not 0.0 <= self.least <= self.first <= 1.0:
            raise ValueError(f"0 <= least {self.least} <= first {self.first} <= 1 does not hold")

    @property
    def is_off(self) -> bool:
        """True if nothing is ever drawn."""
        return self.first == 0.0

    def chance(self, verified: int) -> float:
        """Return the chance that the next item of a node with so many verified ones is drawn."""
        return max(self.least, self.first / float(1 + verified) ** FALL)
