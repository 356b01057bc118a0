from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.tensorboard_log import TensorBoardLog, rounds_in

Story = list[TimedEvent]


def scalars(folder: Path, tag: str) -> list[tuple[int, float, float]]:
    """(step, value, wall time) of a tag, as TensorBoard itself reads the folder."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(e.step, e.value, e.wall_time) for e in accumulator.Scalars(tag)]


def write(folder: Path, events: Story, history: Story) -> None:
    log = TensorBoardLog(folder, history)
    for at, event in events:
        log.on_event(event, at)
    log.close()


def test_tensorboard_reads_what_is_written(story: Story, tmp_path: Path) -> None:
    write(tmp_path, story, [])
    assert scalars(tmp_path, "eval/mean_reward") == [(200, 50.0, 1010.0), (400, 40.0, 1020.0)]
    assert scalars(tmp_path, "rollout/ep_rew_mean") == [(200, 20.0, 1010.0), (400, 10.0, 1020.0)]
    assert [value for _, value, _ in scalars(tmp_path, "provider/willow/steps_per_s")] == [50, 50]


def test_resumed_run_continues_without_repeating(story: Story, tmp_path: Path) -> None:
    write(tmp_path, story[:18], [])
    assert rounds_in(tmp_path) == {1}
    write(tmp_path, story[18:], story[:18])
    assert len(list(tmp_path.iterdir())) == 2
    assert [step for step, _, _ in scalars(tmp_path, "fed/round")] == [200, 400]


def test_round_torn_by_a_crash_is_written_again(story: Story, tmp_path: Path) -> None:
    write(tmp_path, story, [])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    assert rounds_in(tmp_path) == {1}
    write(tmp_path, [], story)
    assert rounds_in(tmp_path) == {1, 2}
    assert [step for step, _, _ in scalars(tmp_path, "fed/round")] == [200, 400]


def test_damaged_record_ends_its_file(story: Story, tmp_path: Path) -> None:
    write(tmp_path, story, [])
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    assert rounds_in(tmp_path) == {1}


def test_nothing_is_made_before_the_first_round(story: Story, tmp_path: Path) -> None:
    write(tmp_path / "tensorboard", story[:10], [])
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("module", ["tensorflow", "torch"])
def test_heavy_packages_are_not_touched(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('imported')\n")
    program = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from pathlib import Path
        from requestor.reporting.tensorboard_log import TensorBoardLog
        from requestor.training_run.events import *
        assert "tensorboard" not in sys.modules
        log = TensorBoardLog(Path({str(tmp_path / "tb")!r}))
        log.on_event(RoundClosed(0, (0,), 100, 100, 1.0), 1.0)
        log.on_event(CheckpointWritten(1, "aa"), 2.0)
        log.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
    assert rounds_in(tmp_path / "tb") == {1}
