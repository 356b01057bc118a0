"""What the tests of a run's parts are given: a theatre for dispatchers, an office for desks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.requestor.training_run.orders.office import KEPT, Office
from tests.requestor.training_run.stage import (
    UNUSABLE,
    FakeLease,
    FakePool,
    Stage,
    Theatre,
    delivery,
    plan,
)


@pytest.fixture(scope="session")
def theatre() -> Theatre:
    return Theatre(FakePool, FakeLease, Stage, plan, delivery, UNUSABLE)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def keeping(tmp_path: Path) -> Office:
    return Office(tmp_path, KEPT)
