"""The server's steps, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from requestor.federation.merging.protocol import ServerOptimizer, State
from requestor.federation.merging.server_optimizers import (
    Adagrad,
    Adam,
    Momentum,
    Nesterov,
    Sgd,
    Yogi,
)


def steps(optimizer: ServerOptimizer, updates: Sequence[float]) -> tuple[list[float], State]:
    parameters = np.zeros(1, dtype=np.float32)
    state: State = {}
    after = []
    for update in updates:
        before = parameters.copy()
        gradient = np.array([update], dtype=np.float32)
        moved, state = optimizer.step(parameters, gradient, state)
        assert parameters.tolist() == before.tolist()
        assert gradient.tolist() == [np.float32(update)]
        assert moved.dtype == np.float32
        parameters = moved
        after.append(float(parameters[0]))
    return after, state


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (Sgd(), [1.0, 3.0]),
        (Sgd(0.5), [0.5, 1.5]),
        # m: 1, then 0.5 + 2 = 2.5
        (Momentum(1.0, 0.5), [1.0, 3.5]),
        # 1 + 0.5 = 1.5, then 2 + 0.5 * 2.5 = 3.25
        (Nesterov(1.0, 0.5), [1.5, 4.75]),
        # v: 1 + 1 = 2, then 6; D / (sqrt(v) + 1)
        (Adagrad(1.0, tau=1.0), [1 / (2**0.5 + 1), 1 / (2**0.5 + 1) + 2 / (6**0.5 + 1)]),
        # m: 0.5, 1.25; v: 0.5 + 0.5 = 1, then 0.5 + 2 = 2.5
        (Adam(1.0, 0.5, 0.5, 1.0), [0.25, 0.25 + 1.25 / (2.5**0.5 + 1)]),
        # v: 1 (it equals D^2), then 1 + 0.5 * 4 = 3
        (Yogi(1.0, 0.5, 0.5, 1.0), [0.25, 0.25 + 1.25 / (3**0.5 + 1)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_two_steps(optimizer: ServerOptimizer, expected: list[float]) -> None:
    after, _ = steps(optimizer, [1.0, 2.0])
    np.testing.assert_allclose(after, expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [Momentum(), Nesterov(), Adagrad(), Adam(), Yogi()])
def test_going_on_from_the_state_is_going_on(optimizer: ServerOptimizer) -> None:
    whole, _ = steps(optimizer, [1.0, -2.0, 0.5])
    _, state = steps(optimizer, [1.0, -2.0])
    halfway = np.array([whole[1]], dtype=np.float32)
    again, _ = optimizer.step(halfway, np.array([0.5], dtype=np.float32), state)
    assert float(again[0]) == whole[2]
