"""Differences: where they are told, and what becomes of the list of known ones."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.conformance import (
    Conversation,
    Difference,
    Exchange,
    ListedDifference,
    ListError,
    as_entries,
    compare,
    load_listed,
    normalise,
    table,
    unexplained,
)

STATUSES = st.sampled_from([200, 404, 500])
PATHS = st.sampled_from(["/me", "/payment-api/v1/allocations", "/market-api/v1/demands"])
ANSWERS = st.sampled_from([None, "x", [], [{"a": 1}], {"a": 1}, {"a": "", "b": [1.5]}])
EXCHANGES = st.lists(
    st.builds(
        Exchange, method=st.just("GET"), path=PATHS, status=STATUSES, answer=ANSWERS
    ),
    max_size=6,
)
ENTRY: dict[str, Any] = {
    "place": "answer GET /me -> 200: .role",
    "mock": '"manager"',
    "yagna": '"viewer"',
    "scenarios": ("wrong_key", "bills"),
    "reason": "a reason | with a bar",
}


def said(answer: Any, status: int = 200) -> Conversation:
    """Return a conversation of one call."""
    return normalise([Exchange("GET", "/me", status, answer=answer)])


def test_a_field_more_a_type_and_a_word() -> None:
    ours = said({"role": "manager", "count": 1, "deep": {"a": {"b": 1}}})
    theirs = said({"role": "viewer", "count": 1.5, "more": None})
    assert compare(ours, theirs) == [
        Difference("answer GET /me -> 200: .count", "int", "float"),
        Difference("answer GET /me -> 200: .deep", "object", "nothing"),
        Difference("answer GET /me -> 200: .more", "nothing", "null"),
        Difference("answer GET /me -> 200: .role", '"manager"', '"viewer"'),
    ]


def test_another_status_shows_in_the_sequence_too() -> None:
    assert compare(said(None), said(None, 404)) == [
        Difference("answer GET /me -> 200", "null", "nothing"),
        Difference("answer GET /me -> 404", "nothing", "null"),
        Difference("sequence daemon", "GET /me 200", "GET /me 404"),
    ]


def test_of_sequences_only_the_calls_that_differ_are_told() -> None:
    ours = Conversation({"net": [["a", "b", "c"], ["x"]]}, {}, {})
    theirs = Conversation({"net": [["a", "d", "c"]]}, {}, {})
    assert compare(ours, theirs) == [
        Difference("sequence net", "b", "d"),
        Difference("sequence net", "x", "nothing"),
    ]


@given(EXCHANGES, EXCHANGES)
def test_equal_means_no_difference_and_the_other_way_round(
    one: list[Exchange], two: list[Exchange]
) -> None:
    ours, theirs = normalise(one), normalise(two)
    found = compare(ours, theirs)
    assert (found == []) == (ours.as_json() == theirs.as_json())
    # which of two calls in another order counts as the moved one depends on the side
    assert [one.place for one in compare(theirs, ours)] == [one.place for one in found]
    assert compare(Conversation.from_json(ours.as_json()), theirs) == found


def test_what_is_not_listed_and_what_is_no_more() -> None:
    listed = [ListedDifference(**ENTRY)]
    known = Difference(ENTRY["place"], ENTRY["mock"], ENTRY["yagna"])
    other = Difference("sequence net", "b", "d")
    assert unexplained("bills", [known, other], listed) == ([other], [])
    assert unexplained("bills", [], listed) == ([], [known])
    assert unexplained("another", [known], listed) == ([known], [])


def test_a_difference_can_be_pasted_into_the_list(tmp_path: Path) -> None:
    found = Difference('answer GET /me -> 200: .message', '"`a` \\"b\\" | c: d"', "nothing")
    path = tmp_path / "list.yaml"
    entries = as_entries("bills", [found])
    path.write_text(entries.replace("reason: ''", "reason: a good one, I hope"))
    (listed,) = load_listed(path)
    assert (listed.difference, listed.scenarios) == (found, ("bills",))


@pytest.mark.parametrize(
    "text",
    [
        "- {place: x}",
        "- {place: x, mock: a, yagna: b, scenarios: [s], reason: short}",
        "- {place: x, mock: a, yagna: b, scenarios: [], reason: long enough}",
        "{",
        "3",
        "- {place: x, mock: a, yagna: b, scenarios: [s, s], reason: long enough}",
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text)
    with pytest.raises(ListError, match=r"list\.yaml"):
        load_listed(path)
    with pytest.raises(ListError):
        load_listed(tmp_path / "none.yaml")


def test_the_table() -> None:
    text = table([ListedDifference(**ENTRY)])
    row = text.splitlines()[-1]
    assert row == (
        "| `answer GET /me -> 200: .role` | `\"manager\"` | `\"viewer\"` | "
        "a reason \\| with a bar | wrong_key, bills |"
    )
    assert "There is no difference." in table([])
