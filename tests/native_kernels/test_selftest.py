"""The self-test passes here, and fails, by name, when a kernel computes anything else."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native, aggregation, selftest
from native_kernels.__main__ import main, show


def off_by_one_bit(
    updates: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    mean = _native.aggregation.weighted_mean(updates, weights)
    mean[-1] = np.nextafter(mean[-1], np.float32(np.inf))
    return mean


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one number of one kernel be off by one bit."""
    monkeypatch.setattr(aggregation, "weighted_mean", off_by_one_bit)


def test_the_command_says_fit(capsys: pytest.CaptureFixture[str]) -> None:
    before = _native.levels.in_force()
    assert main(["selftest", "--quick"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith("fit (")
    assert f"in force: {before}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert _native.levels.in_force() == before


def test_the_whole_report_as_a_process_and_as_json() -> None:
    command = [sys.executable, "-m", "native_kernels", "selftest", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert report["levels"] == list(selftest.levels_here())
    assert {check["level"] for check in report["checks"]} == set(report["levels"])
    assert report["limits"]["level"] == report["level"]
    for speed in report["speeds"]:
        assert speed["rate"] > 0, speed
        assert 0 < speed["share"] < 1.5, speed


def test_the_table_of_a_whole_report_fits_a_terminal() -> None:
    shown = show(selftest.run())
    assert "limits of one core" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_wrong_bit_makes_it_unfit(broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--quick"]) == 1
    shown = capsys.readouterr().out
    assert "weighted_mean: result 0 has other bits" in shown
    assert "UNFIT" in shown


def test_a_wrong_bit_stops_the_quick_check(broken: None) -> None:
    level = _native.levels.in_force()
    with pytest.raises(selftest.KernelsUnfitError, match=f"level {level}: weighted_mean: result 0"):
        selftest.quick_check()


def test_the_quick_check_is_quick() -> None:
    selftest.quick_check()
    before = time.thread_time()
    selftest.quick_check()
    assert time.thread_time() - before < 0.02


@pytest.mark.parametrize("arguments", [[], ["selftest", "--fast"], ["benchmark"]])
def test_unknown_arguments_get_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m native_kernels" in capsys.readouterr().err
