from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.frame import Canvas, draw
from requestor.reporting.glyphs import ASCII, UNICODE, Glyphs
from requestor.reporting.run_view import RunView
from requestor.training_run.events import Evaluated, LeaseOpened, OrderSent, RentingStarted

Story = list[TimedEvent]
WIDTHS = [60, 80, 120]
HOSTILE = "[bold]évil\x1b[2J\n\u202e日本語日本語日本語日本語 and a name without an end" * 3


def picture(view: RunView, width: int, glyphs: Glyphs = UNICODE, height: int = 40) -> list[str]:
    console = Console(
        width=width, height=height, file=io.StringIO(), record=True, color_system=None
    )
    console.print(draw(view, view.last_unix_seconds + 2, Canvas(width, height, glyphs)))
    return console.export_text().splitlines()


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_moment_fits(story: Story, width: int, glyphs: Glyphs) -> None:
    view = RunView()
    for at, event in story:
        view.apply(event, at)
        lines = picture(view, width, glyphs)
        assert all(cell_len(line) <= width for line in lines), event
        if glyphs is ASCII:
            # The bars are rich's, which sees the console's own encoding.
            assert "\n".join(lines).replace("━", "").replace("╸", "").replace("╺", "").isascii()


@pytest.mark.parametrize("width", WIDTHS)
def test_strangers_names_do_not_break_the_picture(story: Story, width: int) -> None:
    view = RunView.replay(story[:20])
    view.apply(LeaseOpened("L3", HOSTILE, "0xcccc", "A3"), 1011.0)
    view.apply(OrderSent(1, 1, "L3", True), 1011.0)
    lines = picture(view, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b" not in "".join(lines) and "\u202e" not in "".join(lines)
    assert any("[bold]évil" in line for line in lines)  # shown, not obeyed


def test_picture_of_a_round(story: Story) -> None:
    text = "\n".join(picture(RunView.replay(story[:21]), 80))
    for expected in [
        "ppo/CartPole-v1_1",
        "round 2 of 2 · 0 of 2 clients",
        "0:12 · about 0:05 left",
        "50.0 ± 2.0",
        "▁▆",  # 20 and 50 on the way from 20 to the target, 60: 30/40 of 7 levels = 5.25 -> 5
        "best 50.0 after round 1 · target 60.0",
        "0.001 of 0.5 GLM",
        "0.2 %",
        "5 GLM per million steps · 0.00003333 per point of return gained",
        "0.0008",
        "2 of 2 providers",
        "● willow",
        "client 1 · 0:02",
    ]:
        assert expected in text, expected


def test_rolled_back_round_is_named(story: Story) -> None:
    assert "40.0 ± 2.0 rolled back" in "\n".join(picture(RunView.replay(story[:31]), 80))


def test_finished_run_shows_outcome_and_curve_only(story: Story) -> None:
    text = "\n".join(picture(RunView.replay(story), 80))
    assert "✓ all rounds done" in text
    assert "from 20.0 to 40.0" in text
    assert "willow" not in text


def test_empty_view_and_waiting_for_the_market(story: Story) -> None:
    assert "preparing the model" in "\n".join(picture(RunView(), 80))
    waiting = RunView.replay(story[:4])
    assert isinstance(story[3][1], RentingStarted)
    text = "\n".join(picture(waiting, 80))
    assert "looking for providers" in text
    assert "asking the market for 2 providers" in text


def test_many_providers_fit_on_the_screen(story: Story) -> None:
    view = RunView.replay(story[:4])
    for i in range(64):
        view.apply(LeaseOpened(f"L{i}", f"node-{i}", f"0x{i:04x}", f"A{i}"), 1002.0)
    view.apply(OrderSent(0, 0, "L63", False), 1003.0)
    lines = picture(view, 80, height=24)
    assert len(lines) <= 24
    assert "and 53 more, 1 of them at work" in lines[-1]


def test_returns_that_are_no_numbers(story: Story) -> None:
    view = RunView.replay(story[:18])
    view.apply(Evaluated(2, "candidate", 5, float("nan"), float("inf"), 1.0, 0.5), 1012.0)
    assert "nan ± inf" in "\n".join(picture(view, 80))
