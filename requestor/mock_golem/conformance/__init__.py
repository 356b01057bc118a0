"""Comparing two daemons by what they say: wire logs, normalised, and their differences."""

from requestor.mock_golem.conformance.conversation import Conversation, normalise
from requestor.mock_golem.conformance.differences import Difference, compare
from requestor.mock_golem.conformance.exchanges import Exchange, WireLogError, read_wire_log
from requestor.mock_golem.conformance.listed import (
    ListedDifference,
    ListError,
    as_entries,
    load_listed,
    table,
    unexplained,
)

__all__ = [
    "Conversation",
    "Difference",
    "Exchange",
    "ListError",
    "ListedDifference",
    "WireLogError",
    "as_entries",
    "compare",
    "load_listed",
    "normalise",
    "read_wire_log",
    "table",
    "unexplained",
]
