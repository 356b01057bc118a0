"""What was said in one scenario, without what differs from run to run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from requestor.mock_golem.conformance.exchanges import Exchange
from requestor.mock_golem.conformance.names import Names
from requestor.mock_golem.conformance.sequences import (
    is_lost,
    route,
    sequences,
    worth_telling,
    worth_telling_of,
)
from requestor.mock_golem.conformance.shapes import (
    NOTHING,
    Shape,
    shape_from_json,
    shape_of,
    texts_in,
)


@dataclass(frozen=True)
class Conversation:
    """A scenario's calls in order, and the shapes of all requests and answers.

    `requests` is keyed by call (`POST /payment-api/v1/allocations`), `answers` by call, status and
    content type.
    """

    sequences: Mapping[str, Sequence[Sequence[str]]]
    requests: Mapping[str, Shape]
    answers: Mapping[str, Shape]

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "sequences": {kind: [list(one) for one in of] for kind, of in self.sequences.items()},
            "requests": {call: shape.as_json() for call, shape in sorted(self.requests.items())},
            "answers": {call: shape.as_json() for call, shape in sorted(self.answers.items())},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Conversation":
        """Return the conversation that a document of `as_json` describes."""
        return cls(
            sequences=document["sequences"],
            requests={call: shape_from_json(one) for call, one in document["requests"].items()},
            answers={call: shape_from_json(one) for call, one in document["answers"].items()},
        )


def normalise(exchanges: Sequence[Exchange]) -> Conversation:
    """Return what was said, given the exchanges in the order of their ends.

    Ids become names of their kind, marked as new in the answer that brings them first. Times and
    amounts are dropped, and so are polls that brought nothing.
    """
    names = Names()
    requests: dict[str, Shape] = {}
    answers: dict[str, Shape] = {}
    for exchange in worth_telling_of(exchanges):
        names.meet(texts_in({"path": exchange.path, "query": exchange.query}))
        names.meet(texts_in(exchange.body))
        call = f"{exchange.method} {route(exchange.path)}"
        if exchange.status is not None:
            shape = shape_of({"query": exchange.query, "body": exchange.body}, names)
            requests[call] = requests.get(call, NOTHING).merged(shape)
            answered = f"{call} -> {exchange.status}"
            if exchange.content_type is not None:
                answered += f" {exchange.content_type}"
            if is_lost(exchange):
                continue
            shape = shape_of(worth_telling(exchange), names, _bare_text(exchange))
            answers[answered] = answers.get(answered, NOTHING).merged(shape)
        names.meet(texts_in(exchange.answer))
    return Conversation(sequences(exchanges), requests, answers)


def _bare_text(exchange: Exchange) -> str:
    """Return the key under which a bare text counts as words: an error's does, an id does not."""
    return "message" if exchange.status is not None and exchange.status >= 400 else ""
