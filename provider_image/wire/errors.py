"""The one error of this package: something that came over the wire is not acceptable."""

from __future__ import annotations


class WireError(ValueError):
    """What was received (or is about to be sent) breaks FORMAT.md.

    The message names the file, the field and the limit.
    """
