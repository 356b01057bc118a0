"""Screening: whatever it lets pass can be merged, and nothing but a refusal comes out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from native_kernels import aggregation
from provider_image.wire import (
    Algorithm,
    ClientStateMetadata,
    LearnerSpec,
    StateRules,
    Tensors,
    TensorSpec,
    result_specs,
    specs_of,
)
from requestor.federation.client_states import (
    FeedbackAssignment,
    StateAssignment,
    screen_client_state,
)
from requestor.federation.model import averaged_names, flatten
from requestor.federation.screening import Assignment, UpdateRejected, screen_update
from tests.fuzz.dice import Dice
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import MODEL_SPECS

ASSIGNMENT = Assignment(MODEL_SPECS, 128, 2)
_NUMBERS = (0.0, 1.0, -1.0, 1e-30, 49.9, 51.0, 9e3, 1e20, 3e38, 1e99, 1e300)
_KINDS = ("float32", "float64", "int64", "uint8", "bool")


def screened_update(data: bytes, folder: Path) -> None:
    """Screen an update and merge what passes."""
    dice = Dice(data)
    tensors = _tensors(dice, result_specs(MODEL_SPECS))
    if dice.below(8):
        tensors["moments/observation/count"] = np.array(130.0)
    steps = 128 if dice.below(8) else dice.below(1 << 31)
    screen_update(tensors, steps, ASSIGNMENT)
    names = averaged_names(tensors)
    rows = np.stack([flatten(tensors, names)] * 3)
    merged = aggregation.weighted_mean(rows, np.ones(3))
    if not np.isfinite(merged).all():
        raise AssertionError("an update that passed cannot be merged")


def screened_state(data: bytes, folder: Path) -> None:
    """Screen a client's state, of one of four learners."""
    dice = Dice(data)
    algorithms: tuple[Algorithm, ...] = ("ppo", "sac", "dqn", "td3")
    algorithm = dice.pick(algorithms)
    learner = LearnerSpec(algorithm, hyperparameters={"buffer_size": 100} if dice.flag() else {})
    rules = StateRules(optimizer=dice.pick(("reset", "kept")), replay=dice.pick(("reset", "kept")))
    specs = _state_specs(dice, algorithm)
    tensors = _tensors(dice, specs)
    if dice.flag():
        tensors["replay/position"] = np.array(dice.pick((64, 0, -1, 63)))
    feedback = FeedbackAssignment(10, 1.0) if dice.flag() else None
    previous = specs_of(_tensors(dice, specs)) if dice.flag() else None
    said: dict[str, Any] = {"run_id": "r", "client": 0, "round": 1, "algorithm": algorithm}
    metadata = msgspec.json.decode(
        json.dumps({"type": "client_state", **dice.spoilt(said)}), type=ClientStateMetadata
    )
    screen_client_state(
        tensors,
        metadata,
        StateAssignment("r", 0, 1, 128, 2, learner, rules, MODEL_SPECS, previous, feedback),
    )


def _state_specs(dice: Dice, algorithm: str) -> dict[str, TensorSpec]:
    rows = dice.pick((64, 1, 0, 50, 65))
    parts = ("actor", "critic", "ent_coef") if algorithm in ("sac", "td3") else ("policy",)
    specs = {"feedback/update": TensorSpec("float32", (10,))} if dice.flag() else {}
    if dice.flag():
        for part in parts:
            for index in range(dice.below(3)):
                shape = (1,) if part == "ent_coef" else dice.pick(((2, 3), (4,), (5,)))
                specs[f"optimizer/{part}/{index}/exp_avg"] = TensorSpec("float32", shape)
                specs[f"optimizer/{part}/{index}/step"] = TensorSpec("float32", ())
    if dice.flag():
        for name in ("observations", "next_observations", "actions"):
            specs[f"replay/{name}"] = TensorSpec("float32", (rows, 2, 3))
        for name in ("rewards", "dones", "timeouts"):
            specs[f"replay/{name}"] = TensorSpec("float32", (rows, 2))
        specs |= {"replay/position": TensorSpec("int64", ()), "replay/full": TensorSpec("bool", ())}
    return specs


def _tensors(dice: Dice, specs: dict[str, TensorSpec]) -> Tensors:
    """Tensors as specified, mostly, full of one number each with another one somewhere."""
    tensors: Tensors = {}
    for name, spec in specs.items():
        fate = dice.below(32)
        if fate == 31:
            continue
        dtype = dice.pick(_KINDS) if fate == 30 else spec.dtype
        shape = (*spec.shape, dice.below(3)) if fate == 29 else spec.shape
        value = dice.real() if fate > 24 else dice.pick(_NUMBERS)
        with np.errstate(all="ignore"):
            tensor = np.full(shape, 1.0).astype(dtype)
            if tensor.size:
                tensor.reshape(-1)[dice.below(tensor.size)] = np.array(value).astype(dtype)
        tensors[name] = tensor
    if dice.below(32) == 31:
        tensors[dice.text()] = np.zeros(dice.below(3), np.float32)
    return tensors


TARGETS = (
    Target("update-screening", screened_update, (UpdateRejected,), max_bytes=512),
    Target(
        "state-screening",
        screened_state,
        (UpdateRejected, msgspec.MsgspecError),
        max_bytes=512,
    ),
)
