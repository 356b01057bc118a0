"""What benchmarks rest on: the judge, the rank test, counted operations, verdicts."""

import gymnasium
import numpy as np
import pytest

from native_kernels.ppo import PolicyShape
from native_kernels.speeds import forward_operations, update_operations
from tests.benchmarks import judging
from tests.benchmarks.measuring import Options, Row, rates, table
from tests.benchmarks.settings import CARTPOLE
from tests.benchmarks.time_to_target import rank_test


def weights(seed: int) -> judging.Weights:
    random = np.random.default_rng(seed)
    found = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in PolicyShape(4, 2).tensors.items()
    }
    # leans against the fall, so that episodes last a while
    found["mlp_extractor.policy_net.0.weight"] *= np.array([0.1, 0.3, 2, 1], dtype=np.float32)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_judge_plays_gymnasiums_cartpole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "EPISODES", 5)
    starts = np.random.default_rng(20_240_601).uniform(-0.05, 0.05, (4, 5)).T
    environment = gymnasium.make("CartPole-v1")
    total = 0.0
    for start in starts:
        environment.reset()
        environment.unwrapped.state = start.copy()  # type: ignore[attr-defined]
        seen = start
        is_over = False
        while not is_over:
            batch = seen.astype(np.float32)[None]
            action = int(judging.greedy_actions(weights(seed), batch)[0])
            seen, reward, terminated, truncated, _ = environment.step(action)
            total += float(reward)
            is_over = terminated or truncated
    assert judging.cartpole_return(weights(seed)) == total / 5


def test_operations_are_those_counted_by_hand() -> None:
    # per network 4 x 64, 64 x 64, and 64 x 2 or 64 x 1, two operations each
    assert forward_operations(PolicyShape(4, 2)) == 17_792
    # backward: as much for the weights, and as much without the first layer for the inputs
    assert update_operations(PolicyShape(4, 2)) == 52_352


def test_ranks_as_calculated_by_hand() -> None:
    # 1 to 4 against 5 to 8: U is 0, its mean 8, its variance 4 * 4 * 9 / 12 = 12;
    # z = (8 - 1/2) / sqrt(12) = 2.165, two-sided p = 0.0304
    assert rank_test([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(0.0304, abs=1e-4)
    assert rank_test([5, 6, 7, 8], [1, 2, 3, 4]) == pytest.approx(0.0304, abs=1e-4)
    # 1 2 | 2 3: ranks 1, 2.5 | 2.5, 4: U is 0.5, mean 2,
    # variance 4 / 12 * (5 - 6 / 12) = 1.5, z = 1 / sqrt(1.5) = 0.816, p = 0.414
    assert rank_test([1, 2], [2, 3]) == pytest.approx(0.414, abs=1e-3)
    assert rank_test([3, 3], [3, 3]) == 1.0


def test_decaying_settings_end_at_zero() -> None:
    zoo = CARTPOLE["zoo"]
    assert zoo.now("learning_rate", 25_000) == pytest.approx(0.75e-3)
    assert zoo.now("clip_range", 200_000) == 0.0
    assert zoo.keywords()["learning_rate"](0.5) == pytest.approx(0.5e-3)
    assert CARTPOLE["default"].now("learning_rate", 25_000) == 3e-4


def test_rows_tell_ratio_and_verdict() -> None:
    faster = Row("steps", 100e6, 1e6, "envpool", "steps", 100.0)
    slower = Row("seconds", 0.5, 10.0, "SB3", "CPU-s", 40.0, lower=True)
    share = Row("share", 60e9, 100e9, "peak", "FLOP", 0.55)
    absent = Row("steps", None, None, "envpool", "steps", 100.0, note="peer not installed")
    assert (faster.ratio, faster.met) == (100.0, True)
    assert (slower.ratio, slower.met) == (20.0, False)
    assert (absent.ratio, absent.met) == (None, None)
    lines = list(table([faster, slower, share, absent]))
    assert "100 M" in lines[1]
    assert "met" in lines[1]
    assert "NOT" in lines[2]
    assert "60%" in lines[3]
    assert "not installed" in lines[5]


def test_rates_count_work_per_cpu_second() -> None:
    def busy(times: int) -> None:
        for _ in range(times):
            sum(range(1000))

    sides = {"once": (lambda: busy(1), 1.0), "thrice": (lambda: busy(3), 1.0)}
    found = rates(sides, Options(repetitions=5, seconds=0.02))
    assert found["once"] / found["thrice"] == pytest.approx(3.0, rel=0.3)
