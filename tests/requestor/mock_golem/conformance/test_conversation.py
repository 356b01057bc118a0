"""Conversations: what of a wire log is told, and what is chance."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.conformance import Exchange, WireLogError, normalise, read_wire_log
from requestor.mock_golem.conformance.sequences import route, sequences, without_repeats

MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"


def call(method: str, path: str, status: int | None = 200, **more: Any) -> Exchange:
    """Return an exchange."""
    return Exchange(method, path, status, **more)


def job(number: int) -> list[Exchange]:
    """Return what is said of one agreement with one activity; ids differ by the number."""
    agreement, activity, batch = (f"{number:0{length}x}" for length in (64, 32, 32))
    one = f"{ACTIVITY}/activity/{activity}"
    batch = f"{number + 1000:032x}"
    result = {"index": 0, "result": "Ok", "isBatchFinished": True}
    return [
        call("POST", f"{MARKET}/agreements", answer=agreement),
        call("POST", f"{MARKET}/agreements/{agreement}/confirm", 204),
        call("POST", f"{ACTIVITY}/activity", body=agreement, answer=activity),
        call("POST", f"{one}/exec", body={"text": '[{"run": {}}]'}, answer=batch),
        call("GET", f"{one}/exec/{batch}", answer=[]),
        call("GET", f"{one}/exec/{batch}", None),
        call("GET", f"{one}/exec/{batch}", answer=[result]),
        call("DELETE", one),
        call("POST", f"{MARKET}/agreements/{agreement}/terminate"),
    ]


def interleaved(streams: Sequence[Sequence[Exchange]], seed: int) -> list[Exchange]:
    """Mix streams at random, keeping the order within each."""
    generator = random.Random(seed)
    left = [list(stream) for stream in streams]
    mixed: list[Exchange] = []
    while any(left):
        mixed.append(generator.choice([stream for stream in left if stream]).pop(0))
    return mixed


def test_routes_have_names_for_ids() -> None:
    path = f"{MARKET}/demands/{'a' * 32}-{'b' * 64}/proposals/R-{'c' * 64}/reject"
    assert route(path) == f"{MARKET}/demands/{{demand}}/proposals/{{proposal}}/reject"
    assert route("/net-api/v1/net/nonsense/nodes") == "/net-api/v1/net/nonsense/nodes"


def test_one_job() -> None:
    assert sequences(job(1)) == {
        "activity": [
            [
                "POST /activity-api/v1/activity 200",
                "POST /activity-api/v1/activity/{activity}/exec 200 [run]",
                "results Ok",
                "DELETE /activity-api/v1/activity/{activity} 200",
            ]
        ],
        "agreement": [
            [
                "POST /market-api/v1/agreements 200",
                "POST /market-api/v1/agreements/{agreement}/confirm 204",
                "POST /market-api/v1/agreements/{agreement}/terminate 200",
            ]
        ],
    }


@given(st.integers(1, 5), st.integers())
def test_neither_interleaving_nor_the_number_of_workers_counts(workers: int, seed: int) -> None:
    mixed = interleaved([job(number) for number in range(1, workers + 1)], seed)
    assert normalise(mixed) == normalise(job(1))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 4))
def test_repeats_count_once(items: list[str], times: int) -> None:
    once = without_repeats(items)
    assert without_repeats(once) == once
    assert without_repeats(items * times) == without_repeats(once * times)
    assert all(one != two for one, two in pairwise(once))
    assert set(once) == set(items)


def test_polls_without_news_are_left_out() -> None:
    demand = f"{'a' * 32}-{'b' * 64}"
    events = f"{MARKET}/demands/{demand}/events"
    busy = {
        "eventType": "ProposalRejectedEvent",
        "proposalId": "R-" + "c" * 64,
        "reason": {"message": "No capacity available. Reached Agreements limit: 1"},
    }
    other = {**busy, "reason": {"message": "Proposal expires at: never"}}
    calls = [
        call("POST", f"{MARKET}/demands", 201, answer=demand),
        call("GET", events, answer=[]),
        call("GET", events, None),
        call("GET", events, answer=[busy]),
        call("GET", events, answer=[other, busy]),
        call("DELETE", f"{MARKET}/demands/{demand}", 204),
        call("GET", events, 404, answer={"message": "gone"}),
    ]
    assert sequences(calls)["demand"] == [
        [
            "POST /market-api/v1/demands 201",
            "event ProposalRejectedEvent",
            "DELETE /market-api/v1/demands/{demand} 204",
        ]
    ]
    # that the demand is gone is news to whoever makes another
    again = [*calls, call("POST", f"{MARKET}/demands", 201, answer=f"{'d' * 32}-{'b' * 64}")]
    assert "GET /market-api/v1/demands/{demand}/events 404" in sequences(again)["demand"][1]


def test_how_a_lost_poll_ends_is_chance_but_not_that_it_is_lost() -> None:
    poll = f"{ACTIVITY}/activity/{'a' * 32}/exec/{'b' * 32}"
    look = call("GET", f"{ACTIVITY}/activity/{'a' * 32}/state", answer={"state": ["Ready", None]})
    late = normalise([call("GET", poll, 408, answer={"message": "Timeout"}), look])
    soon = normalise([call("GET", poll, 500, answer={"message": "GSB error: x"})])
    assert late == soon
    assert late.sequences == {"activity": [["results lost"]]}
    asked = normalise([call("GET", poll, 408, query={"commandIndex": "0"}, answer={})])
    assert asked.sequences["activity"] != late.sequences["activity"]


@pytest.mark.parametrize(
    ("state", "told"),
    [("Initialized", "(alive)"), ("Ready", "(alive)"), ("Terminated", "Terminated")],
)
def test_how_far_a_starting_activity_has_come_is_chance(state: str, told: str) -> None:
    path = f"{ACTIVITY}/activity/{'a' * 32}/state"
    said = normalise([call("GET", path, answer={"state": [state, None]})])
    (shape,) = said.answers.values()
    assert shape.as_json() == {"state": [{"|": [f'"{told}"', "null"]}]}


def test_content_types_and_statuses_tell_answers_apart() -> None:
    said = normalise(
        [
            call("GET", "/me", answer={"role": "manager"}, content_type="application/json"),
            call("GET", "/me", 401, answer="Invalid application key", content_type="text/plain"),
        ]
    )
    assert {name: shape.as_json() for name, shape in said.answers.items()} == {
        "GET /me -> 200 application/json": {"role": '"manager"'},
        "GET /me -> 401 text/plain": '"Invalid application key"',
    }


def line(began: datetime, seconds: float, path: str) -> str:
    """Return a line of a wire log."""
    entry = {
        "time": began.isoformat(),
        "duration_seconds": seconds,
        "method": "GET",
        "path": path,
        "query": {},
        "body": None,
        "status": 200,
        "response": [],
    }
    return json.dumps(entry) + "\n"


def test_a_wire_log_is_read_in_the_order_of_the_ends(tmp_path: Path) -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    log = tmp_path / "wire.jsonl"
    seconds = timedelta(seconds=1)
    log.write_text(
        line(start, 5, "/long")
        + line(start + seconds, 0.5, "/short")
        + line(start + 9 * seconds, 0, "/late")
    )
    paths = [exchange.path for exchange in read_wire_log(log)]
    assert paths == ["/short", "/long", "/late"]
    some = read_wire_log(log, start + seconds, start + 9 * seconds)
    assert [exchange.path for exchange in some] == ["/short"]


@pytest.mark.parametrize("text", ["nonsense", "{}", "[]", '{"time": "never"}'])
def test_what_is_no_wire_log_is_refused(tmp_path: Path, text: str) -> None:
    log = tmp_path / "wire.jsonl"
    log.write_text(text + "\n")
    with pytest.raises(WireLogError, match=r"wire\.jsonl, line 1"):
        read_wire_log(log)
    with pytest.raises(WireLogError, match="cannot be read"):
        read_wire_log(tmp_path / "none")
