"""Which processor level runs: the machine's, a lower one on request, never one beyond it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from native_kernels import _native

SHOW = "from native_kernels import _native; print(_native.levels.in_force())"


def started_with(level: str, program: str = SHOW) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "DERL_CPU_LEVEL": level},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _level_as_before() -> Iterator[None]:
    before = _native.levels.in_force()
    yield
    _native.levels.force(before)


def test_each_level_of_this_machine_can_be_forced(levels: list[str]) -> None:
    assert levels[-1] == _native.levels.of_this_machine()
    for name in levels:
        _native.levels.force(name)
        assert _native.levels.in_force() == name


def test_the_environment_chooses_the_level(levels: list[str]) -> None:
    for name in {levels[0], levels[-1]}:
        ran = started_with(name)
        assert (ran.returncode, ran.stdout.strip()) == (0, name), ran.stderr
    assert started_with("").stdout.strip() == levels[-1]


@pytest.mark.parametrize("name", ["avx", "AVX2", "sse4.2", "v2 ", ""])
def test_an_unknown_level_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"CPU level .*known: generic, v2, avx2, avx512"):
        _native.levels.force(name)


def test_a_level_of_another_kind_of_machine_is_refused(levels: list[str]) -> None:
    other = "generic" if levels[-1] != "generic" else "v2"
    with pytest.raises(ValueError, match=f"{other} is not to be had here; this machine has"):
        _native.levels.force(other)
    assert _native.levels.in_force() in levels


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast", "is unknown; known: generic, v2, avx2, avx512; fix: unset it"),
        ("generic", "is not to be had here; this machine has"),
    ],
)
def test_a_wrong_level_in_the_environment_is_a_named_error(name: str, message: str) -> None:
    if _native.levels.of_this_machine() == name:
        pytest.skip("this machine has the level")
    ran = started_with(name)
    assert ran.returncode == 1, "the interpreter must end with an exception, not die"
    assert f"ImportError: DERL_CPU_LEVEL: CPU level {name} {message}" in ran.stderr
