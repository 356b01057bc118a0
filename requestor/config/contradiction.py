"""One thing in a config that does not fit with another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contradiction:
    """One thing that does not fit: what, at which dotted path, and what to do."""

    what: str
    path: str
    fix: str
