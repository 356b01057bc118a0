"""scripts/bench lists its benchmarks; each of them can be asked what it takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def listed() -> list[str]:
    done = subprocess.run([ROOT / "scripts" / "bench"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr.splitlines()


def names() -> list[str]:
    return [line.split()[0] for line in listed()[1:]]


def test_the_list_names_every_benchmark_and_what_it_measures() -> None:
    assert {"kernels", "stepping", "rollout", "update", "round", "aggregation"} <= set(names())
    assert {"time_to_target", "lunar_lander", "overhead"} <= set(names())
    for line in listed()[1:]:
        assert re.fullmatch(r"  \w+ +\S.{10,}\.", line), line
        assert len(line) <= 100


def test_an_unknown_benchmark_gets_the_list() -> None:
    command = [str(ROOT / "scripts" / "bench"), "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == listed()


@pytest.mark.parametrize("name", names())
def test_every_benchmark_has_help(name: str) -> None:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: scripts/bench {name}" in done.stdout
