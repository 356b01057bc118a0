from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.plain_lines import PlainLines, describe
from requestor.reporting.run_view import RunView
from requestor.training_run.events import (
    DeliveryRejected,
    Evaluated,
    LeaseEnded,
    LeaseOpened,
    MarketplaceWentAway,
    ModelPublished,
    ModelRolledBack,
    Notice,
    OrderFailed,
    RentingStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
)

Story = list[TimedEvent]

GOLDEN = """\
[00:00] untrained model: return 20.00 +/- 4.00 over 5 episodes
[00:00] run ppo/CartPole-v1_1: 2 rounds of 2 clients x 100 steps, 9155 parameters, budget 0.5 GLM
[00:01] market: looking for 2 providers in subnet public on hoodi
[00:02] lease opened: willow (0xaaaa1111)
[00:03] lease opened: birch (0xbbbb2222)
[00:06] order failed: birch: round 1, client 1: exit code 1
[00:10] round 1/2: return 50.00 +/- 2.00 (best), 2 of 2 clients, 200 steps, 40 steps/s, 0.001 GLM
[00:10] cost: 5 GLM per million steps, 0.00003333 GLM per point of return gained
[00:14] result refused: birch: round 2, client 1: policy/w holds NaN
[00:14] lease ended: birch
[00:16] rollback: round 2: worse than its parent: at best -5.0 at 95 %
[00:20] round 2/2: return 40.00 +/- 2.00, 2 of 2 clients, 400 steps, 40 steps/s, 0.002 GLM
[00:20] cost: 5 GLM per million steps, 0.00006667 GLM per point of return gained
[00:21] all bills are in
[00:21] lease ended: willow
[00:22] final evaluation: return 49.00 +/- 3.00 over 10 episodes
[00:22] end: completed after 2 rounds, 400 steps, return 49.00, 0.0019 GLM
"""


def printed(events: Story, history: Story | None = None, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    lines = PlainLines(stream, history or [])
    for at, event in events:
        lines.on_event(event, at)
    lines.close()
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_lines_of_a_run(story: Story) -> None:
    assert printed(story) == GOLDEN


def test_lines_after_a_resume(story: Story, start_event: Callable[..., RunStarted]) -> None:
    text = printed(
        [
            (7000.0, start_event(1, is_resumed=True)),
            (7002.0, RoundStarted(1, 2, 1)),
            (7075.0, MarketplaceWentAway("connection refused", 1)),
            (10800.0, RunFinished("failed", "the daemon was lost", 1, 200, None, 50.0, "0", 3.0)),
        ],
        history=story[:18],
    )
    assert text.splitlines() == [
        "[00:00] run ppo/CartPole-v1_1: resumed after round 1 of 2, budget 0.5 GLM",
        "[00:02] round 2: 1 of 2 results was kept from before",
        "[01:15] daemon lost: connection refused",
        "[1:03:20] end: failed after 1 round, 200 steps, 0 GLM",
    ]


def test_clock_counts_from_the_process_first_event(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    text = printed(
        [
            (7000.0, Notice("cleaned up after the last process: 1 agreement ended")),
            (7004.0, start_event(1, is_resumed=True)),
            (7006.0, RoundStarted(1, 2, 1)),
        ],
        history=story[:18],
    )
    assert [line[:7] for line in text.splitlines()] == ["[00:00]", "[00:04]", "[00:06]"]


def test_rollbacks_in_a_row(start_event: Callable[..., RunStarted]) -> None:
    events: Story = [(0.0, start_event())]
    for number in range(7):
        if number == 3:  # one is published: the count begins anew
            events.append((1.0, ModelPublished(number, 1.0, True)))
        else:
            events.append((1.0, ModelRolledBack(number, -1.0, "worse")))
    lines = printed(events).splitlines()
    hint = "[00:01] 3 rounds in a row were rolled back; see evaluation.gate"
    assert [index for index, line in enumerate(lines) if line == hint] == [4, 8]
    assert lines[3] == "[00:01] rollback: round 3: worse"


def test_one_of_a_kind(start_event: Callable[..., RunStarted]) -> None:
    text = printed(
        [
            (0.0, RentingStarted(1, "public", "hoodi")),
            (0.0, Evaluated(0, "initial", 1, 20.0, 4.0, 20.0, 0.5)),
            (0.0, replace(start_event(), rounds=1, clients=1, local_steps=1, parameters=1)),
            (0.0, RoundStarted(0, 1, 1)),
        ]
    )
    assert not re.search(r"\b1 \w+s\b", text.replace("1 of", "")), text


def test_strangers_texts_stay_on_one_harmless_line() -> None:
    text = printed(
        [
            (0.0, LeaseOpened("L1", "a\x1b[2J\nb\u202ec", "0x1\x07", "A1")),
            (0.0, OrderFailed(0, 0, "L1", "boom\r\n[00:00] end: completed" + "x" * 5000)),
            (0.0, LeaseEnded("L1", "a", "gone\x9b31m")),
            (0.0, Notice("two\nlines")),
        ]
    )
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[0] == "[00:00] lease opened: a [2J b c (0x1)"
    assert len(lines[1]) < 400
    assert lines[2].endswith("gone 31m")
    assert lines[3] == "[00:00] two lines"
    assert all(character.isprintable() for line in lines for character in line)


def test_a_stream_that_knows_only_ascii() -> None:
    assert printed([(0.0, Notice("größer"))], encoding="ascii") == "[00:00] gr??er\n"


def test_a_rejected_update_is_told_once_with_its_provider_and_reason() -> None:
    view = RunView()
    view.apply(LeaseOpened("L1", "larch", "0xcccc3333", "A1"), 1.0)
    event = DeliveryRejected(0, 2, "L1", "larch", "0xcccc3333", "screened", "it is nothing", True)
    view.apply(event, 1.0)
    assert describe(view, event) == (
        "update rejected: larch: round 1, client 2: it is nothing; done again"
    )
    left = LeaseEnded("L1", "larch", "it is nothing")
    view.apply(left, 2.0)
    assert describe(view, left) == "lease ended: larch"
    faked = replace(event, objection="fraud", is_redone=False)
    assert describe(view, faked) == (
        "fake rejected: larch: round 1, client 2: it is nothing; the round goes on without it"
    )
    assert (view.rounds[1].rejected, view.rounds[1].screened) == (1, 1)
    assert view.providers["0xcccc3333"].rejections == 1
