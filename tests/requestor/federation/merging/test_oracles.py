"""The rules beside byzfl's and Flower's, from a recording; where those two differ, whom we follow.

`record_oracles.py` made the recording, in an environment of its own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from requestor.federation.merging.centre_rules import CenteredClipping, GeometricMedian
from requestor.federation.merging.coordinate_rules import (
    CoordinateMedian,
    TrimmedMean,
    WeightedMean,
)
from requestor.federation.merging.pre_aggregators import (
    AdaptiveRobustClipping,
    NearestNeighbourMixing,
    NormClipping,
)
from requestor.federation.merging.protocol import (
    AggregationRule,
    MergeContext,
    PreAggregator,
    ServerOptimizer,
    State,
)
from requestor.federation.merging.selection_rules import (
    Bulyan,
    Krum,
    MinimumDiameterAverage,
    MultiKrum,
)
from requestor.federation.merging.server_optimizers import Adagrad, Adam, Momentum, Yogi

HERE = Path(__file__).parent
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One round and what others make of it, by `library/rule`."""

    name: str
    updates: NDArray[np.float32]
    weights: Float64
    faulty: int
    answers: Mapping[str, Float64]

    @property
    def has_ties(self) -> bool:
        return self.name.endswith("-2")

    def merge(self, rule: AggregationRule, weights: Float64 | None = None) -> Float64:
        n = len(self.updates)
        given = np.ones(n) if weights is None else weights
        context = MergeContext(self.faulty)
        return rule(self.updates, given, context).vector.astype(np.float64)

    def mix(self, step: PreAggregator) -> Float64:
        n = len(self.updates)
        return step(self.updates, np.ones(n), MergeContext(self.faulty)).updates.astype(np.float64)


@cache
def recording() -> dict[str, np.ndarray]:
    with np.load(HERE / "oracles.npz", allow_pickle=False) as archive:
        return dict(archive)


@cache
def cases() -> tuple[Case, ...]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, array in recording().items():
        name, slash, rest = key.partition("/")
        if slash and name != "optimizers":
            found.setdefault(name, {})[rest] = array
    return tuple(
        Case(
            name,
            parts.pop("updates"),
            parts.pop("weights").astype(np.float64),
            int(parts.pop("faulty")),
            parts,
        )
        for name, parts in found.items()
    )


def having(answer: str, *, ties: bool = True) -> list[Case]:
    found = [case for case in cases() if answer in case.answers and (ties or not case.has_ties)]
    assert len(found) >= 10
    return found


def squared_distances(x: NDArray[np.float32]) -> Float64:
    wide = x.astype(np.float64)
    return np.asarray(((wide[:, None] - wide[None]) ** 2).sum(axis=-1))


def scores(x: NDArray[np.float32], nearest: int) -> Float64:
    """Krum's scores by their definition, with the given number of neighbours."""
    others = np.sort(squared_distances(x), axis=1)[:, 1 : nearest + 1]
    return np.asarray(others.sum(axis=1))


def row_of(x: NDArray[np.float32], vector: Float64) -> int:
    return int(np.argmin(((x - vector) ** 2).sum(axis=1)))


def test_the_recording_tells_its_versions() -> None:
    assert recording()["versions"].tolist() == ["byzfl 0.0.11", "flwr 1.41.0"]
    assert (HERE / "oracles.npz").stat().st_size < 300_000


EXACT: list[tuple[str, AggregationRule]] = [
    ("byzfl/mean", WeightedMean()),
    ("byzfl/median", CoordinateMedian()),
    ("flower/median", CoordinateMedian()),
    ("byzfl/trimmed_mean", TrimmedMean()),
]


@pytest.mark.parametrize(("answer", "rule"), EXACT)
def test_coordinate_rules(answer: str, rule: AggregationRule) -> None:
    for case in having(answer):
        plain = case if "mean" not in answer or "trimmed" in answer else _trusting(case)
        np.testing.assert_allclose(
            plain.merge(rule), case.answers[answer], rtol=2e-6, atol=2e-6, err_msg=case.name
        )


def _trusting(case: Case) -> Case:
    return Case(case.name, case.updates, case.weights, 0, case.answers)


def test_the_mean_is_flower_s_with_our_weights() -> None:
    for case in having("flower/mean"):
        merged = _trusting(case).merge(WeightedMean(), case.weights)
        np.testing.assert_allclose(merged, case.answers["flower/mean"], rtol=2e-6, atol=2e-6)


def test_flower_trims_by_a_share_and_loses_one_to_rounding() -> None:
    """We trim by a number: of 44 with 15 bad, 15 on each side; Flower int(15 / 44 * 44) = 14."""
    differing = 0
    for case in having("flower/trimmed_mean"):
        n = len(case.updates)
        share = int(case.faulty / n * n)
        as_theirs = Case(case.name, case.updates, case.weights, share, case.answers)
        theirs = case.answers["flower/trimmed_mean"]
        np.testing.assert_allclose(as_theirs.merge(TrimmedMean()), theirs, rtol=2e-6, atol=2e-6)
        if share != case.faulty:
            assert n == 44
            differing += not np.allclose(case.merge(TrimmedMean()), theirs, rtol=1e-4, atol=1e-4)
    assert differing > 0


def test_krum_is_flower_s() -> None:
    for case in having("flower/krum"):
        ours, theirs = case.merge(Krum()), case.answers["flower/krum"]
        if case.has_ties:  # theirs takes squares of roots, so equal scores come out unequal
            points = scores(case.updates, len(case.updates) - case.faulty - 2)
            chosen = points[[row_of(case.updates, ours), row_of(case.updates, theirs)]]
            np.testing.assert_allclose(chosen, points.min(), rtol=1e-9)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=case.name)


def test_byzfl_s_krum_has_a_neighbour_more_than_the_paper_s() -> None:
    """Blanchard et al. sum N - f - 2 distances, as we do; byzfl N - f - 1."""
    differing = 0
    for case in having("byzfl/krum", ties=False):
        n, theirs = len(case.updates), case.answers["byzfl/krum"]
        expected = case.updates[int(np.argmin(scores(case.updates, n - case.faulty - 1)))]
        np.testing.assert_allclose(theirs, expected, rtol=1e-6, err_msg=case.name)
        differing += not np.allclose(case.merge(Krum()), theirs, rtol=1e-6)
    assert differing > 0


def test_multi_krum_is_flower_s_with_our_weights() -> None:
    for case in having("flower/multi_krum", ties=False):
        merged = case.merge(MultiKrum(), case.weights)
        np.testing.assert_allclose(
            merged, case.answers["flower/multi_krum"], rtol=2e-6, atol=2e-6, err_msg=case.name
        )


def test_bulyan_is_flower_s() -> None:
    for case in having("flower/bulyan", ties=False):
        np.testing.assert_allclose(
            case.merge(Bulyan()),
            case.answers["flower/bulyan"],
            rtol=2e-6,
            atol=2e-6,
            err_msg=case.name,
        )


def test_the_minimum_diameter_average_is_byzfl_s() -> None:
    """Where several sets have the least diameter byzfl takes the first, we the tightest."""
    unique = 0
    for case in having("byzfl/mda"):
        distances, n = squared_distances(case.updates), len(case.updates)
        subsets = np.array(list(itertools.combinations(range(n), n - case.faulty)))
        diameters = distances[subsets[:, :, None], subsets[:, None, :]].max(axis=(1, 2))
        least = subsets[diameters <= diameters.min() * (1 + 1e-9)]
        means = case.updates[least].astype(np.float64).mean(axis=1)
        for merged in (case.merge(MinimumDiameterAverage()), case.answers["byzfl/mda"]):
            assert np.abs(means - merged).max(axis=1).min() < 5e-6, case.name
        unique += len(least) == 1
    assert unique > 20


def test_the_geometric_median_is_as_near_to_all_as_byzfl_s() -> None:
    for case in having("byzfl/geometric_median"):
        wide = case.updates.astype(np.float64)

        def far(point: Float64, rows: Float64 = wide) -> float:
            return float(np.linalg.norm(rows - point, axis=1).sum())

        ours = case.merge(GeometricMedian(iterations=2000))
        assert far(ours) <= far(case.answers["byzfl/geometric_median"]) * (1 + 2e-6), case.name


def test_centered_clipping_is_byzfl_s_from_the_same_start() -> None:
    """Theirs starts at zero; ours at the median, unless there is a last result."""
    for case in having("byzfl/centered_clipping"):
        rule = CenteredClipping(radius=2.0, iterations=3)
        start = {"centre": np.zeros(case.updates.shape[1], dtype=np.float32)}
        n = len(case.updates)
        if n < rule.least_updates(case.faulty):
            continue
        merged = rule(case.updates, np.ones(n), MergeContext(case.faulty, state=start))
        theirs = case.answers["byzfl/centered_clipping"]
        np.testing.assert_allclose(merged.vector, theirs, rtol=2e-6, atol=2e-6, err_msg=case.name)


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        ("byzfl/nnm", NearestNeighbourMixing()),
        ("byzfl/clipping", NormClipping(1.5)),
        ("byzfl/arc", AdaptiveRobustClipping()),
    ],
)
def test_pre_aggregators_are_byzfl_s(answer: str, step: PreAggregator) -> None:
    # of equally near neighbours NNM may take any
    for case in having(answer, ties="nnm" not in answer):
        np.testing.assert_allclose(
            case.mix(step), case.answers[answer], rtol=3e-6, atol=3e-6, err_msg=case.name
        )


def trajectory(optimizer: Callable[[int], ServerOptimizer], state: State) -> NDArray[np.float32]:
    """The parameters after each recorded update, `[5, P]`; the optimizer may differ by round."""
    parameters = recording()["optimizers/start"].astype(np.float32)
    after = []
    for number, update in enumerate(recording()["optimizers/updates"], start=1):
        parameters, state = optimizer(number).step(parameters, update.astype(np.float32), state)
        after.append(parameters)
    return np.stack(after)


FROM_ZERO = {"second": np.zeros(6)}


@pytest.mark.parametrize(
    ("theirs", "optimizer", "state"),
    [
        ("FedAvgM", Momentum(0.5, 0.9), {}),
        ("FedYogi", Yogi(0.1), FROM_ZERO),
        ("FedAdagrad", Adagrad(0.1), FROM_ZERO),
    ],
)
def test_server_optimizers_are_flower_s_where_v_starts_alike(
    theirs: str, optimizer: ServerOptimizer, state: State
) -> None:
    expected = recording()[f"optimizers/{theirs}"]
    np.testing.assert_allclose(
        trajectory(lambda _: optimizer, state), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("optimizer", [Yogi(0.1, tau=1.0), Adagrad(0.1, tau=1.0)])
def test_v_starts_at_tau_squared_as_in_the_paper(optimizer: ServerOptimizer) -> None:
    """Flower's starts at 0, whatever tau."""
    ours = trajectory(lambda _: optimizer, {})
    np.testing.assert_array_equal(ours, trajectory(lambda _: optimizer, {"second": np.ones(6)}))
    assert np.abs(ours - trajectory(lambda _: optimizer, FROM_ZERO)).max() > 0.01


def test_flower_s_adam_corrects_a_bias_and_is_a_round_ahead() -> None:
    """The paper has none. Theirs: the rate times sqrt(1 - b2^(t+1)) / (1 - b1^(t+1)) in round t."""

    def corrected(number: int) -> Adam:
        exponent = number + 1
        return Adam(0.1 * np.sqrt(1 - 0.99**exponent) / (1 - 0.9**exponent))

    expected = recording()["optimizers/FedAdam"]
    np.testing.assert_allclose(trajectory(corrected, FROM_ZERO), expected, rtol=1e-5, atol=1e-5)
    plain = trajectory(lambda _: Adam(0.1), FROM_ZERO)
    assert np.abs(plain - expected).max() > 0.01


@pytest.mark.slow
def test_the_recording_can_be_made_again(tmp_path: Path) -> None:
    """Set DERL_ORACLES to a Python with byzfl and flwr."""
    python = os.environ.get("DERL_ORACLES")
    if python is None:
        pytest.skip("DERL_ORACLES names no Python that has byzfl and flwr")
    again = tmp_path / "again.npz"
    subprocess.run([python, HERE / "record_oracles.py", again], check=True, capture_output=True)
    with np.load(again, allow_pickle=False) as archive:
        assert set(archive) == set(recording())
        for key, array in recording().items():
            if key != "versions":
                np.testing.assert_allclose(archive[key], array, rtol=1e-9, atol=1e-9)
