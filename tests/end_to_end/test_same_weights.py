"""Providers decide when, never what: same config and seed, same final weights, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, RunFolder, Workbench

pytestmark = pytest.mark.timeout(300)  # several whole runs in a test; machines may be busy

Settled = Callable[[Decimal, dict[str, Any]], None]

FAULTY_FLEET = """
providers:
  - name: aspen
    price: {cpu_hour_glm: 0.10}
    faults: [{kind: dies_in_command, after: 1, times: 1, after_seconds: 0.1,
              returns_after_seconds: 2}]
  - {name: larch, faults: [{kind: result_tampered, tamper: truncate}]}
  - {name: yew, price: {cpu_hour_glm: 0.08}, pace: 0.2}
  - {name: beech, price: {cpu_hour_glm: 0.15}}
"""


@pytest.mark.parametrize("providers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_number_of_providers_does_not_matter(
    bench: Workbench, reference: Reference, settled: Settled, providers: int
) -> None:
    run = bench.train(f"golem.providers={providers}")
    assert run.weights == reference.run.weights
    settled(run.spent_glm, run.books)
    bench.assert_no_process_left()


def test_faulty_providers_do_not_matter(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    fleet = bench.write("faulty.yaml", FAULTY_FLEET)
    run = bench.train("golem.providers=4", f"golem.fleet={fleet}")
    assert run.weights == reference.run.weights
    ended = [(event["provider_name"], event["reason"]) for event in run.events("lease_ended")]
    # whoever failed may have been rented once more, since there are no others
    assert any(name == "larch" and "unusable result" in why for name, why in ended), ended
    over = ("released", "the run is over")
    assert any(name == "aspen" and why not in over for name, why in ended), ended
    assert run.events("update_rejected")
    settled(run.spent_glm, run.books)
    assert_names_in_history(bench.runs / "providers.json", {"aspen", "larch"})
    bench.assert_no_process_left()


def assert_names_in_history(file: Path, names: set[str]) -> None:
    text = file.read_text()
    assert {name for name in names if name in text} == names


@pytest.mark.slow
def test_another_seed_gives_other_weights(bench: Workbench, reference: Reference) -> None:
    """Or else all of the above would prove nothing."""
    run = bench.train("seed=1", "federation.rounds=1", "evaluation.final_episodes=1")
    assert run.weights != reference.run.weights
    assert first_model(run) != first_model(reference.run)


def first_model(run: RunFolder) -> str:
    return str(run.events("checkpoint_written")[0]["model_sha256"])


def test_normaliser_statistics_are_merged_the_same_way(bench: Workbench) -> None:
    """On one provider and, at the same time, on two others."""
    benches = [bench.beside(str(providers)) for providers in (1, 2)]
    started = [
        own.start(
            *("run", own.config, "env.normalize=true", "evaluation.gate.rule=none"),
            f"golem.providers={own.folder.name}",
        )
        for own in benches
    ]
    weights = []
    for own, process in zip(benches, started, strict=True):
        done = own.finish(process)
        assert done.code == 0, done.text
        folder = own.run.path
        assert (folder / "best_vecnormalize.pkl").stat().st_size > 0
        weights.append((*own.run.weights, opened_normalizer(folder / "vecnormalize.pkl")))
    assert weights[0] == weights[1]


TRUNCATING_FLEET = """
providers:
  - {name: larch, faults: [{kind: result_tampered, tamper: truncate, times: 1}]}
  - {name: beech, price: {cpu_hour_glm: 0.15}}
"""


@pytest.mark.parametrize(
    "compression",
    ["int8", pytest.param("{codec: topk, fraction: 0.2}", marks=pytest.mark.slow)],
    ids=["int8", "topk with feedback"],
)
def test_encoded_updates_are_merged_the_same_way(
    bench: Workbench, reference: Reference, compression: str
) -> None:
    """On one honest provider and, at the same time, on two of which one damages a result."""
    benches = [bench.beside(name) for name in ("alone", "damaged")]
    fleet = benches[1].write("fleet.yaml", TRUNCATING_FLEET)
    providers = [["golem.providers=1"], ["golem.providers=2", f"golem.fleet={fleet}"]]
    wanted = f"federation.compression={compression}"
    started = [
        own.start("run", own.config, wanted, *chosen)
        for own, chosen in zip(benches, providers, strict=True)
    ]
    for own, process in zip(benches, started, strict=True):
        done = own.finish(process)
        assert done.code == 0, done.text
    assert benches[0].run.weights == benches[1].run.weights
    assert benches[1].run.events("update_rejected")
    # rounding has done something, and only to the updates
    assert benches[0].run.weights != reference.run.weights
    assert first_model(benches[0].run) == first_model(reference.run)


def opened_normalizer(file: Path) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return count, mean and variance as plain SB3 reads them."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    read = VecNormalize.load(str(file), DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    statistics: Any = read.obs_rms
    # 3 rounds x 4 clients x (256 steps + a first observation of each of 2 environments)
    assert statistics.count == pytest.approx(3 * 4 * 258, abs=1)
    assert (statistics.var > 0).all()
    return (
        float(statistics.count),
        tuple(map(float, statistics.mean)),
        tuple(map(float, statistics.var)),
    )
