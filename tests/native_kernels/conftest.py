"""Fixtures for tests that run at every processor level that this machine has."""

from collections.abc import Iterator

import pytest

from native_kernels import _native


def levels_of_this_machine() -> list[str]:
    names = ["v2", "avx2", "avx512"]
    best = _native.levels.of_this_machine()
    return names[: names.index(best) + 1] if best in names else [best]


@pytest.fixture(scope="session")
def levels() -> list[str]:
    """What this machine can run, the best last."""
    return levels_of_this_machine()


@pytest.fixture(params=levels_of_this_machine())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the processor level in force while the test runs."""
    before = _native.levels.in_force()
    _native.levels.force(request.param)
    yield request.param
    _native.levels.force(before)
