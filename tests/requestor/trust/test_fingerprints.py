"""The canary is the run's own work in small, and tells machines apart by its bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from provider_image.round_runner import execute
from provider_image.wire import (
    CompressionSpec,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    ProbedUpdates,
    StateRules,
    TrainOrder,
    TrainResult,
    WireError,
    WrapperSpec,
    encode_order,
    order_digest,
    read_bundle,
    specs_of,
    write_bundle,
)
from requestor.trust.fingerprints import (
    canary_order,
    fingerprint,
    fingerprint_without_canary,
)

FILE = FileRef("model", "0" * 64, 9)
FIRST = FileRef("model", "1" * 64, 9)
SAC = LearnerSpec("sac", hyperparameters={"learning_starts": 10_000, "train_freq": 1})
ORDER = TrainOrder(
    run_id="run",
    round=7,
    client=3,
    seed=11,
    environment=EnvironmentSpec("Pendulum-v1", n_envs=8),
    learner=SAC,
    local_steps=20_000,
    steps_done=40_000,
    steps_total=80_000,
    model=FILE,
    output="result",
)


def ppo(**fields: Any) -> TrainOrder:
    """An order of SB3's PPO with 2 environments."""
    learner = LearnerSpec("ppo", hyperparameters={"n_steps": 64}, learner="sb3")
    environment = EnvironmentSpec("CartPole-v1", n_envs=2)
    order = replace(ORDER, learner=learner, environment=environment, local_steps=2048)
    return replace(order, **fields)


def test_all_orders_of_a_run_have_one_canary() -> None:
    canary = canary_order(ORDER, FIRST)
    other = replace(
        ORDER,
        round=8,
        client=1,
        seed=5,
        steps_done=0,
        model=replace(FILE, sha256="2" * 64),
        compression=CompressionSpec("int8", feedback=True),
        client_state=FILE,
        client_state_output="state",
    )
    assert canary_order(other, FIRST) == canary
    assert canary.model == FIRST
    encode_order(canary)


def test_few_steps_are_whole_rollouts_or_some_lessons_after_a_short_warm_up() -> None:
    assert canary_order(ppo(), FIRST).local_steps == 512  # four rollouts of 64 * 2
    assert canary_order(ppo(local_steps=128), FIRST).local_steps == 128
    long = replace(ppo(), learner=replace(ppo().learner, hyperparameters={"n_steps": 1000}))
    assert canary_order(replace(long, local_steps=4000), FIRST).local_steps == 2000
    sac = canary_order(ORDER, FIRST)
    assert sac.local_steps == 304  # 300 steps, in steps of 8 environments
    assert sac.learner.hyperparameters["learning_starts"] == 100
    assert canary_order(replace(ORDER, local_steps=16), FIRST).local_steps == 16


RULES = st.builds(
    lambda optimizer, replay, drift: StateRules(
        optimizer=optimizer, replay=replay, drift=drift, proximal=0.1 * (drift == "fedprox")
    ),
    st.sampled_from(["reset", "merged", "kept"]),
    st.sampled_from(["reset", "kept"]),
    st.sampled_from(["none", "fedprox", "scaffold"]),
)


@given(RULES, st.integers(1, 40), st.integers(1, 2000))
def test_a_canary_is_an_order_that_can_be_sent(rules: StateRules, n_envs: int, units: int) -> None:
    output = "state" if rules.client_has_state else None
    order = replace(
        ORDER,
        environment=EnvironmentSpec("Pendulum-v1", n_envs=n_envs),
        rules=rules,
        local_steps=units * n_envs,
        steps_done=0,
        steps_total=units * n_envs,
        client_state_output=output,
    )
    canary = canary_order(order, FIRST)
    encode_order(canary)
    assert canary.local_steps % n_envs == 0
    assert canary.local_steps <= order.local_steps
    assert canary.rules.drift == rules.drift


def test_native_work_in_native_environments_needs_no_canary() -> None:
    native, sb3 = (LearnerSpec("ppo", learner="native"), LearnerSpec("ppo", learner="sb3"))
    plain = EnvironmentSpec("CartPole-v1", normalize=NormalizeSpec())
    assert fingerprint_without_canary(native, plain) == "native"
    assert fingerprint_without_canary(sb3, plain) is None
    wrapped = replace(plain, wrappers=(WrapperSpec("TimeLimit", {"max_episode_steps": 9}),))
    assert fingerprint_without_canary(native, wrapped) is None
    assert fingerprint_without_canary(native, EnvironmentSpec("LunarLander-v3")) is None


def test_a_machine_has_one_fingerprint_and_other_bits_another(tmp_path: Path) -> None:
    order = ppo(learner=replace(ppo().learner, policy_kwargs={"net_arch": [8]}))
    fresh = InitialiseOrder(
        run_id="r", seed=1, environment=order.environment, learner=order.learner, output="model"
    )
    execute(fresh, tmp_path)
    tensors = read_bundle(tmp_path / "model", max_bytes=10**6).tensors
    first = write_bundle(tmp_path / "model", tensors, ProbedUpdates())
    canary = canary_order(order, first)
    found = set()
    for _ in range(2):
        execute(canary, tmp_path)
        result = read_bundle(tmp_path / "result", max_bytes=10**6)
        found.add(fingerprint(canary, result, specs_of(tensors)))
    assert len(found) == 1
    bias = result.tensors["policy/action_net.bias"]
    bias[0] = np.nextafter(bias[0], np.float32(1))
    assert fingerprint(canary, result, specs_of(tensors)) not in found


def test_what_is_no_result_of_the_canary_has_no_fingerprint(tmp_path: Path) -> None:
    canary = canary_order(ppo(), FIRST)
    model = {"policy/w": np.zeros(2, np.float32)}
    said = TrainResult(
        order_sha256=order_digest(ppo()), steps=1, episodes=0, wall_seconds=0, cpu_seconds=0
    )
    write_bundle(tmp_path / "other", model, said)
    with pytest.raises(WireError, match="another order"):
        fingerprint(canary, read_bundle(tmp_path / "other", max_bytes=10**6), specs_of(model))
    write_bundle(tmp_path / "odd", {}, replace(said, order_sha256=order_digest(canary)))
    with pytest.raises(WireError):
        fingerprint(canary, read_bundle(tmp_path / "odd", max_bytes=10**6), specs_of(model))
