"""Amounts as yapapi has to be given them."""

from __future__ import annotations

from decimal import Decimal

REFUSED_GLM = Decimal("-Infinity")
"""yapapi accepts a bill if we accept at least what it asks: this is less than any amount."""


class PlainDecimal(Decimal):
    """A decimal whose text is never in scientific notation, which daemons do not read.

    (yapapi sends `str(amount)`, and `str(Decimal("0.00000001"))` is `1E-8`.)
    """

    def __str__(self) -> str:
        """Return all digits."""
        return format(self, "f")
