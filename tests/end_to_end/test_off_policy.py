"""Small federations of the algorithms that learn from replay: SAC and DQN, seeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from tests.end_to_end.conftest import RunFolder, Workbench

pytestmark = pytest.mark.timeout(300)  # several whole runs in a test; machines may be busy

Settled = Callable[[Decimal, dict[str, Any]], None]
CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = (
    "federation.rounds=2",
    "federation.clients=2",
    "federation.local_steps=200",
    "algo.learning_starts=50",
    "algo.batch_size=32",
    "evaluation.gate.rule=none",
    "evaluation.episodes=2",
    "evaluation.final_episodes=2",
)
CASES = [
    ("pendulum_sac.yaml", "merged", "SAC"),
    ("cartpole_dqn.yaml", "kept", "DQN"),
]


def train(bench: Workbench, config: str, runs: Mapping[str, tuple[str, ...]]) -> list[RunFolder]:
    """Run the config, with the overrides of each of `runs`, all at the same time."""
    benches = [bench.beside(name) for name in runs]
    started = [
        own.start("run", CONFIGS / config, *SMALL, *overrides)
        for own, overrides in zip(benches, runs.values(), strict=True)
    ]
    for own, process in zip(benches, started, strict=True):
        done = own.finish(process)
        assert done.code == 0, done.text
    return [own.run for own in benches]


@pytest.mark.parametrize(("config", "optimizer", "algorithm"), CASES)
def test_twice_the_same_weights(
    bench: Workbench, settled: Settled, config: str, optimizer: str, algorithm: str
) -> None:
    """On one provider and on two; replay buffers stay with the clients over the rounds."""
    rule = f"federation.optimizer={optimizer}"
    runs = train(
        bench,
        config,
        {"one": ("golem.providers=1", rule), "two": ("golem.providers=2", rule)},
    )
    for run in runs:
        settled(run.spent_glm, run.books)
    bench.assert_no_process_left()
    assert runs[0].weights == runs[1].weights
    assert_same_kept_state(*runs)
    has_optimizer = [name for name in model_tensors(runs[0]) if name.startswith("optimizer/")]
    assert bool(has_optimizer) == (optimizer == "merged")
    assert_learned(runs[0], algorithm)


def assert_same_kept_state(one: RunFolder, other: RunFolder) -> None:
    """Each client has kept the experience of both of its rounds, whoever did its work."""
    for client in ("0", "1"):
        kept = [
            load_file(run.path / "checkpoints" / run.checkpoint["client_states"][client]["name"])
            for run in (one, other)
        ]
        assert int(kept[0]["replay/position"]) == 400
        assert kept[0].keys() == kept[1].keys()
        for name, tensor in kept[0].items():
            np.testing.assert_array_equal(tensor, kept[1][name], err_msg=name)


def model_tensors(run: RunFolder) -> dict[str, Any]:
    return load_file(run.path / "checkpoints" / run.checkpoint["model"]["name"])


def assert_learned(run: RunFolder, algorithm: str) -> None:
    """The weights moved in both rounds, and plain SB3 opens them."""
    import stable_baselines3

    models = [event["model_sha256"] for event in run.events("checkpoint_written")]
    assert len(set(models)) >= 2, models
    for row in run.lines("metrics.jsonl"):
        assert row["fed/workers_ok"] == 2
        assert any(name.startswith("train/") for name in row)
    opened: Any = getattr(stable_baselines3, algorithm).load(run.path / "model.zip", device="cpu")
    assert opened.policy is not None


@pytest.mark.slow
@pytest.mark.parametrize("config", ["pendulum_sac.yaml", "cartpole_dqn.yaml"])
def test_another_seed_and_another_rule_give_other_weights(bench: Workbench, config: str) -> None:
    overrides = ("seed=1", "federation.optimizer=merged", "federation.replay=reset")
    runs = {f"run-{n}": ("golem.providers=1", one) for n, one in enumerate(("seed=0", *overrides))}
    weights = {run.weights for run in train(bench, config, runs)}
    assert len(weights) == 4
