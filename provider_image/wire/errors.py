"""The one error of this package: something that came over the wire is not acceptable."""

from __future__ import annotations

MAX_MESSAGE_LENGTH = 500


class WireError(ValueError):
    """What was received (or is about to be sent) breaks FORMAT.md.

    The message names the file, the field and the limit. It is one printable line of at most 500
    characters, whatever a stranger has put into the names that it quotes.
    """

    def __init__(self, message: str) -> None:
        """Keep `message` as one harmless line."""
        head = message[:MAX_MESSAGE_LENGTH]
        super().__init__("".join(c if c.isprintable() else " " for c in head))
