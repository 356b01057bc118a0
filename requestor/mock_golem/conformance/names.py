"""Names for what differs from run to run: ids, instants and amounts."""

import re
from collections.abc import Iterable

# the longer forms first: a proposal's id holds an agreement's form
_KINDS = (
    ("subscription", r"[0-9a-f]{32}-[0-9a-f]{64}"),
    ("proposal", r"[RP]-[0-9a-f]{64}"),
    ("agreement", r"[0-9a-f]{64}"),
    ("node", r"0x[0-9a-fA-F]{40}"),
    ("uuid", r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ("id", r"[0-9a-f]{32}"),
)
_ID = re.compile(
    r"(?<![0-9A-Za-z])(?:" + "|".join(f"(?P<{kind}>{form})" for kind, form in _KINDS)
    + r")(?![0-9A-Za-z])"
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?UTC|[+-]\d\d:\d\d)?")
_NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])")
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Names:
    """Names ids by kind, and says of each whether it was met before.

    Nodes, demands and offers are met again and again in no fixed order, so that a new one has no
    name of its own.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def meet(self, texts: Iterable[str]) -> None:
        """Take the ids in these texts as known from now on."""
        for text in texts:
            self._known |= {found.group() for found in _ID.finditer(text)}

    def written(self, text: str) -> str:
        """Return a text with ids, instants and numbers replaced by what they are."""
        text = _INSTANT.sub("<instant>", _ID.sub(self._name, text))
        return _NUMBER.sub("<number>", text)

    def kind_of(self, text: str) -> str:
        """Return what a text is: an id, an instant, a decimal, empty or just text."""
        if not text:
            return "empty"
        found = _ID.fullmatch(text)
        if found is not None:
            return self._name(found)
        if _INSTANT.fullmatch(text):
            return "instant"
        return "decimal" if _DECIMAL.fullmatch(text) else "text"

    def _name(self, found: re.Match[str]) -> str:
        kind = str(found.lastgroup)
        is_new = kind not in ("node", "subscription") and found.group() not in self._known
        return f"<new {kind}>" if is_new else f"<{kind}>"


def is_id(text: str) -> bool:
    """Tell whether a text is an id and nothing else."""
    return _ID.fullmatch(text) is not None
