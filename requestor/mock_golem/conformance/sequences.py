"""Calls in order, one sequence for each thing that is called about, without repeats."""

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

from requestor.mock_golem.conformance.exchanges import Exchange
from requestor.mock_golem.conformance.names import is_id

# what the id is called that follows a part of a path
_AFTER = {
    "demands": "demand",
    "proposals": "proposal",
    "agreements": "agreement",
    "activity": "activity",
    "exec": "batch",
    "allocations": "allocation",
    "invoices": "invoice",
    "debitNotes": "note",
    "net": "network",
    "nodes": "node",
}
_LOOKS = ("state", "usage")  # made now and then, beside all other calls
_ALIVE = ("New", "Initialized", "Deployed", "Ready")
_FEEDS = ("events", "invoiceEvents", "debitNoteEvents", "agreementEvents")
_LONGEST_REPEAT = 12


def route(path: str) -> str:
    """Return a path with names for its ids: `/market-api/v1/agreements/{agreement}/wait`."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        name = _AFTER.get(parts[index - 1]) if index else None
        if name is not None and is_id(part):
            parts[index] = f"{{{name}}}"
    return "/".join(parts)


def is_feed(exchange: Exchange) -> bool:
    """Tell whether this is a long poll for events."""
    return exchange.method == "GET" and exchange.path.rpartition("/")[2] in _FEEDS


def is_results(exchange: Exchange) -> bool:
    """Tell whether this asks for the results of a batch."""
    return exchange.method == "GET" and route(exchange.path).endswith("/exec/{batch}")


def worth_telling(exchange: Exchange) -> Any:
    """Return the answer without what is chance in it.

    A provider is offered again as soon as its agreement ends, and refuses until it has wound up:
    whether it is asked in between is chance. So is which state of a starting activity is seen.
    """
    if is_look(exchange) and isinstance(exchange.answer, dict):
        states = exchange.answer.get("state")
        if isinstance(states, list):
            seen = ["(alive)" if state in _ALIVE else state for state in states]
            return {**exchange.answer, "state": seen}
    if is_feed(exchange) and isinstance(exchange.answer, list):
        return [event for event in exchange.answer if not _says_busy(event)]
    return exchange.answer


def is_lost(exchange: Exchange) -> bool:
    """Tell whether a poll for results met an exe-unit that has gone.

    yagna says so at once (500) or when the poll's time is over (408), whichever comes first.
    """
    if not is_results(exchange):
        return False
    return exchange.status == 500 or (
        exchange.status == 408 and "commandIndex" not in exchange.query
    )


def is_look(exchange: Exchange) -> bool:
    """Tell whether this asks for an activity's state or usage."""
    return exchange.method == "GET" and exchange.path.rpartition("/")[2] in _LOOKS


def worth_telling_of(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """Return the exchanges that tell something that is not chance, in the same order."""
    told: list[Exchange] = []
    lost: set[str] = set()
    for number, exchange in enumerate(exchanges):
        if is_lost(exchange):
            lost.add(_activity(exchange))
        if not brought_nothing(exchange, exchanges[number:], lost):
            told.append(exchange)
    return told


def _activity(exchange: Exchange) -> str:
    """Return the id of the activity that a call is about."""
    parts = exchange.path.split("/")
    return parts[parts.index("activity") + 1]


def brought_nothing(
    exchange: Exchange, later: Sequence[Exchange], lost: Collection[str] = ()
) -> bool:
    """Tell whether this is a poll without news, or one that the demand's own end cut short.

    The end of a demand is news if another demand follows. To counter an offer that its provider
    has replaced in the meantime is no news either, nor is how the daemon sees an activity whose
    exe-unit has gone (`lost`).
    """
    if exchange.status == 400 and "/proposals/" in exchange.path and _was_replaced(exchange.answer):
        return True
    if exchange.status == 200 and is_look(exchange):
        return _activity(exchange) in lost
    if not (is_feed(exchange) or is_results(exchange)):
        return False
    if exchange.status in (None, 200):
        return not worth_telling(exchange)
    ended = exchange.status == 404 and "/demands/" in exchange.path
    return ended and not any(
        one.method == "POST" and one.path.endswith("/demands") for one in later
    )


def _was_replaced(answer: Any) -> bool:
    message = str(answer.get("message")) if isinstance(answer, dict) else ""
    return "already unsubscribed" in message or message.endswith("wasn't found.")


def _says_busy(event: Any) -> bool:
    reason = event.get("reason") if isinstance(event, dict) else None
    return isinstance(reason, dict) and str(reason.get("message")).startswith("No capacity")


def sequences(exchanges: Sequence[Exchange]) -> dict[str, list[list[str]]]:
    """Return the sequences of calls by the kind of thing they are about.

    Things with the same sequence count as one. In a sequence, what is repeated at once stands
    there once; polls that brought nothing are left out. Of a demand, whose negotiations with many
    providers mix, each call and event stands where it came first; that its end is heard, last.
    """
    streams: dict[tuple[str, str], list[str]] = {}
    for exchange in worth_telling_of(exchanges):
        kind, thing = _stream(exchange)
        streams.setdefault((kind, thing), []).extend(_items(exchange, exchanges))
    found: dict[str, set[tuple[str, ...]]] = {}
    for (kind, _), items in streams.items():
        in_order = _once(items) if kind == "demand" else without_repeats(items)
        if in_order:
            found.setdefault(kind, set()).add(tuple(in_order))
    return {kind: [list(one) for one in sorted(found[kind])] for kind in sorted(found)}


def _once(items: Sequence[str]) -> list[str]:
    """Return each item where it came first, refused polls last."""
    return sorted(dict.fromkeys(items), key=lambda item: item.endswith("/events 404"))


def without_repeats(items: Sequence[str]) -> list[str]:
    """Return the items with every block that follows itself directly left out."""
    kept: list[str] = []
    for item in items:
        kept.append(item)
        shortened = True
        while shortened:
            shortened = False
            for length in range(1, min(_LONGEST_REPEAT, len(kept) // 2) + 1):
                if kept[-length:] == kept[-2 * length : -length]:
                    del kept[-length:]
                    shortened = True
                    break
    return kept


def _stream(exchange: Exchange) -> tuple[str, str]:
    """Return the kind of thing that a call is about, and which one it is."""
    if is_feed(exchange) and "/demands/" not in exchange.path:
        return exchange.path.rpartition("/")[2], ""
    parts = exchange.path.split("/")
    if is_look(exchange):
        return "look at an activity", parts[-2]
    for before, part in pairwise(parts):
        if before in _AFTER and is_id(part):
            return _AFTER[before], part
    if exchange.path.endswith("/demandDecorations"):
        return "allocation", exchange.query.get("allocationIds", "")
    kind = _AFTER.get(parts[-1])
    if kind is None:
        return "daemon", ""
    created = exchange.method == "POST" and exchange.status in (200, 201)
    return kind, _created_id(exchange.answer) if created else ""


def _created_id(answer: Any) -> str:
    if isinstance(answer, dict):
        for name in ("allocationId", "activityId", "id"):
            if isinstance(answer.get(name), str):
                return str(answer[name])
    return answer if isinstance(answer, str) else ""


def _items(exchange: Exchange, exchanges: Sequence[Exchange]) -> Iterator[str]:
    call = f"{exchange.method} {route(exchange.path)}"
    if is_feed(exchange) and exchange.status == 200:
        for event in worth_telling(exchange):
            yield f"event {_event(event)}"
    elif is_lost(exchange):
        yield "results lost"
    elif is_results(exchange) and exchange.status == 200:
        last = _last_results(exchange, exchanges)
        if last is exchange:
            yield f"results {_results(exchange.answer)}"
    elif exchange.status is None:
        yield f"{call} cut off"
    elif exchange.path.endswith("/exec") and exchange.status == 200:
        yield f"{call} {exchange.status} [{_commands(exchange.body)}]"
    else:
        yield f"{call} {exchange.status}"


def _last_results(exchange: Exchange, exchanges: Sequence[Exchange]) -> Exchange | None:
    """Return the poll with the longest answer about the same batch, the first such."""
    polls = [
        one
        for one in exchanges
        if one.path == exchange.path and one.status == 200 and isinstance(one.answer, list | str)
    ]
    polls = [one for one in polls if one.answer]
    return max(polls, key=_length, default=None)


def _length(exchange: Exchange) -> int:
    return len(exchange.answer) if isinstance(exchange.answer, list) else 1


def _event(event: Any) -> str:
    if not isinstance(event, dict):
        return "(not an object)"
    proposal = event.get("proposal")
    state = proposal.get("state") if isinstance(proposal, dict) else None
    return " ".join(str(word) for word in (event.get("eventType"), state) if word is not None)


def _results(answer: Any) -> str:
    if not isinstance(answer, list):
        return str(answer)
    return " ".join(str(one.get("result")) if isinstance(one, dict) else "?" for one in answer)


def _commands(body: Any) -> str:
    try:
        script = json.loads(body["text"])
        return " ".join("+".join(command) for command in script)
    except (TypeError, KeyError, ValueError):
        return "not a script"
