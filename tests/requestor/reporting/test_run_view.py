from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.run_view import RunView
from requestor.training_run.events import (
    CheckpointWritten,
    Event,
    LeaseOpened,
    MarketplaceWentAway,
    ModelPublished,
    Notice,
    OrderDone,
    OrderSent,
    RoundClosed,
    RoundStarted,
    RunStarted,
    SpendingReported,
)

Story = list[TimedEvent]


def until(story: Story, kind: type[Event], nth: int = 1) -> Story:
    """The story up to and including the n-th event of a kind."""
    seen = 0
    for index, (_, event) in enumerate(story):
        seen += isinstance(event, kind)
        if seen == nth:
            return story[: index + 1]
    raise AssertionError(f"there are only {seen} {kind.kind}")


def test_whole_run(story: Story) -> None:
    view = RunView.replay(story)
    assert view.rounds_done == 2
    assert view.total_steps == 400
    assert view.elapsed_seconds() == 22.0
    assert view.elapsed_seconds(9999.0) == 22.0  # the run is over, its clock stands still
    assert view.steps_per_second() == pytest.approx(400 / 22)
    assert view.cost_glm == Decimal("0.0019")  # accepted, not the estimate of 0.002
    assert view.glm_per_million_steps() == Decimal("4.75")  # 0.0019 / 400 * 1e6
    assert [view.evaluations[n].mean_return for n in (0, 1, 2)] == [20.0, 50.0, 40.0]
    assert view.best_round == 1
    assert view.is_rolled_back(2) and not view.is_rolled_back(1)
    assert view.model_evaluation is not None and view.model_evaluation.mean_return == 49.0
    assert [text for _, text in view.notices] == ["all bills are in"]
    assert view.progress == 1.0
    assert view.remaining_seconds(1022.0) is None


def test_providers(story: Story) -> None:
    view = RunView.replay(story)
    willow, birch = view.providers["0xaaaa1111"], view.providers["0xbbbb2222"]
    assert (willow.orders_done, willow.steps, willow.busy_seconds) == (4, 400, 8.0)
    assert willow.steps_per_second == 50.0
    assert willow.troubles == 0
    assert (birch.failures, birch.rejections, birch.orders_done) == (1, 1, 0)
    assert birch.steps_per_second is None
    assert birch.end_reason == "unusable result: policy/w holds NaN"
    assert {willow.state, birch.state} == {"ended"}


def test_states_of_a_provider(story: Story) -> None:
    view = RunView.replay(until(story, OrderSent, 2))
    birch = view.providers["0xbbbb2222"]
    assert birch.state == "working"
    assert birch.task is not None
    assert (birch.task.round, birch.task.client, birch.task.started_unix_seconds) == (1, 1, 1003)
    view = RunView.replay(until(story, OrderDone))
    assert view.providers["0xaaaa1111"].state == "idle"


def test_steps_and_progress_within_a_round(story: Story) -> None:
    view = RunView.replay(until(story, OrderDone, 1))
    assert view.total_steps == 100
    assert view.progress == 0.25  # one of two clients of the first of two rounds
    view = RunView.replay(until(story, RoundClosed))
    assert view.total_steps == 200  # not counted a second time
    view = RunView.replay(until(story, OrderDone, 3))
    assert view.total_steps == 300
    assert view.progress == 0.75


def test_late_copy_is_wasted_and_counts_no_steps(story: Story) -> None:
    view = RunView.replay(until(story, OrderDone, 2))
    view.apply(OrderDone(0, 1, "L2", 5.0, 100, False), 1008.5)
    birch = view.providers["0xbbbb2222"]
    assert (birch.orders_done, birch.wasted_copies, birch.steps) == (0, 1, 100)
    assert view.total_steps == 200


def test_remaining_time(story: Story) -> None:
    # The first result after 2 s: a round of two clients is guessed to take 4 s. Two rounds of
    # 4 s, less the 2 s that have gone by.
    assert RunView.replay(until(story, OrderDone)).remaining_seconds(1005.0) == 6.0
    # The first round took 7 s from start to checkpoint; one is left.
    done = RunView.replay(until(story, CheckpointWritten, 2))
    assert done.remaining_seconds(1010.0) == 7.0
    begun = RunView.replay(until(story, RoundStarted, 2))
    assert begun.remaining_seconds(1013.0) == 4.0
    assert begun.remaining_seconds(1090.0) == 0.0


def test_pause_between_sessions_is_not_elapsed_time(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    view = RunView.replay(until(story, CheckpointWritten, 2))  # killed at 1010
    view.apply(start_event(1, is_resumed=True), 5000.0)
    assert view.elapsed_seconds(5003.0) == 13.0
    assert view.sessions == 2
    assert view.total_steps == 200
    assert all(provider.state == "ended" for provider in view.providers.values())


def test_notices_before_a_resume_are_no_work(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    view = RunView.replay(until(story, CheckpointWritten, 2))  # killed at 1010
    replayed = RunView.replay(until(story, CheckpointWritten, 2))
    view.leave_session()
    for each in (view, replayed):
        each.apply(Notice("cleaned up"), 5000.0)
    assert view.elapsed_seconds(5001.0) == 10.0
    assert view.session_providers == []
    for each in (view, replayed):
        each.apply(start_event(1, is_resumed=True), 5004.0)
        assert each.elapsed_seconds(5006.0) == 12.0
    view.apply(LeaseOpened("L9", "willow", "0xaaaa1111", "A9"), 5005.0)
    assert [provider.name for provider in view.session_providers] == ["willow"]


def test_resume_rewinds_to_what_is_on_the_disk(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    view = RunView.replay(until(story, ModelPublished))  # round 1 judged, checkpoint not written
    assert view.best_round == 1
    view.apply(start_event(0, is_resumed=True), 2000.0)
    assert view.rounds_done == 0
    assert view.best_round == 0
    assert view.total_steps == 0
    assert sorted(view.evaluations) == [0]
    assert view.rounds[1].failed_orders == 1  # that it happened stays true
    view.apply(RoundStarted(0, 2, 2), 2001.0)
    assert view.current is not None and view.current.clients_done == 2


def test_lost_daemon_ends_all_leases(story: Story) -> None:
    view = RunView.replay(until(story, OrderSent, 2))
    view.apply(MarketplaceWentAway("connection refused", 1), 1004.0)
    assert [provider.state for provider in view.providers.values()] == ["ended", "ended"]


def test_namesakes_are_told_apart() -> None:
    view = RunView()
    view.apply(LeaseOpened("L1", "ubuntu", "0xaaaa1111", "A1"), 1.0)
    assert view.label(view.provider_of("L1")) == "ubuntu"
    view.apply(LeaseOpened("L2", "ubuntu", "0xbbbb2222", "A2"), 2.0)
    assert view.label(view.provider_of("L1")) == "ubuntu 0xaaaa"
    assert view.label(view.provider_of("L2")) == "ubuntu 0xbbbb"


def test_provider_that_comes_back_has_one_entry(story: Story) -> None:
    view = RunView.replay(until(story, OrderDone))
    view.apply(LeaseOpened("L9", "willow", "0xaaaa1111", "A9"), 1006.0)
    assert list(view.providers) == ["0xaaaa1111", "0xbbbb2222"]
    assert view.providers["0xaaaa1111"].agreements == ["A1", "A9"]


@given(st.randoms(use_true_random=False))
def test_any_order_of_events_is_survived(random: object) -> None:
    # A log can lack lines of other versions; the view must not fall over what remains.
    from random import Random

    from requestor.reporting.plain_lines import describe

    assert isinstance(random, Random)
    events = [
        (1000.0, LeaseOpened("L1", "a", "0x1", "A1")),
        (1001.0, RoundStarted(0, 2, 0)),
        (1002.0, OrderSent(0, 0, "L1", False)),
        (1003.0, OrderDone(0, 0, "L1", 1.0, 10, True)),
        (1004.0, RoundClosed(0, (0,), 10, 10, 1.0)),
        (1005.0, ModelPublished(0, 1.0, True)),
        (1006.0, CheckpointWritten(1, "aa")),
    ]
    random.shuffle(events)
    view = RunView()
    for at, event in events[: random.randint(0, 7)]:
        view.apply(event, at)
        describe(view, event)
    assert 0 <= view.progress <= 1
    assert view.elapsed_seconds() >= 0


def test_costs_by_provider_go_on_over_sessions(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    view = RunView.replay(story[:25])
    willow, birch = view.providers["0xaaaa1111"], view.providers["0xbbbb2222"]
    assert view.provider_cost_glm(willow) == Decimal("0.0008")
    assert view.provider_cost_glm(birch) == 0
    view.apply(start_event(1, is_resumed=True), 5000.0)
    view.apply(SpendingReported("0.01", "0", "0.5"), 5001.0)  # of very many not all are told
    assert view.provider_cost_glm(willow) == Decimal("0.0008")
    ended = RunView.replay(story)
    assert ended.provider_cost_glm(birch) == Decimal("0.0005")  # as accepted, not as reported
    assert ended.return_gain == 29.0
    assert ended.glm_per_return_point(Decimal(58)) == 2
