"""Where two conversations differ."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from requestor.mock_golem.conformance.conversation import Conversation
from requestor.mock_golem.conformance.shapes import Shape

ABSENT = "nothing"


@dataclass(frozen=True, order=True)
class Difference:
    """One place in a conversation, and what the mock and yagna have there."""

    place: str
    mock: str
    yagna: str


def compare(mock: Conversation, yagna: Conversation) -> list[Difference]:
    """Return the differences, in the order of their places."""
    found = [
        *_sequence_differences(mock.sequences, yagna.sequences),
        *_table_differences("request", mock.requests, yagna.requests),
        *_table_differences("answer", mock.answers, yagna.answers),
    ]
    return sorted(found)


def _sequence_differences(
    mock: Mapping[str, Sequence[Sequence[str]]], yagna: Mapping[str, Sequence[Sequence[str]]]
) -> Iterator[Difference]:
    for kind in sorted({*mock, *yagna}):
        ours = [list(one) for one in mock.get(kind, ())]
        theirs = [list(one) for one in yagna.get(kind, ())]
        only_ours = [one for one in ours if one not in theirs]
        only_theirs = [one for one in theirs if one not in ours]
        # sequences that differ in a few calls are paired, so that only those calls are told
        while only_ours and only_theirs:
            one, other = max(
                ((a, b) for a in only_ours for b in only_theirs),
                key=lambda pair: _matcher(*pair).ratio(),
            )
            only_ours.remove(one)
            only_theirs.remove(other)
            yield Difference(f"sequence {kind}", *_changed(one, other))
        for one in only_ours:
            yield Difference(f"sequence {kind}", "; ".join(one), ABSENT)
        for other in only_theirs:
            yield Difference(f"sequence {kind}", ABSENT, "; ".join(other))


def _changed(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str]:
    mock: list[str] = []
    yagna: list[str] = []
    for tag, i, i_end, j, j_end in _matcher(ours, theirs).get_opcodes():
        if tag != "equal":
            mock.append("; ".join(ours[i:i_end]) or ABSENT)
            yagna.append("; ".join(theirs[j:j_end]) or ABSENT)
    return " … ".join(mock), " … ".join(yagna)


def _matcher(ours: Sequence[str], theirs: Sequence[str]) -> difflib.SequenceMatcher[str]:
    return difflib.SequenceMatcher(None, ours, theirs, autojunk=False)


def _table_differences(
    what: str, mock: Mapping[str, Shape], yagna: Mapping[str, Shape]
) -> Iterator[Difference]:
    for call in sorted({*mock, *yagna}):
        ours, theirs = mock.get(call), yagna.get(call)
        if ours is None or theirs is None:
            shown = [ABSENT if one is None else next(one.places())[1] for one in (ours, theirs)]
            yield Difference(f"{what} {call}", *shown)
        else:
            yield from _shape_differences(f"{what} {call}", ours, theirs)


def _shape_differences(call: str, mock: Shape, yagna: Shape) -> Iterator[Difference]:
    ours, theirs = dict(mock.places()), dict(yagna.places())
    lacking: list[str] = []
    for place in sorted({*ours, *theirs}):
        if ours.get(place) == theirs.get(place) or any(_is_below(place, one) for one in lacking):
            continue
        if place not in ours or place not in theirs:
            lacking.append(place)
        where = f"{call}: {place}" if place else call
        yield Difference(where, ours.get(place, ABSENT), theirs.get(place, ABSENT))


def _is_below(place: str, above: str) -> bool:
    return place.startswith((f"{above}.", f"{above}[]"))
