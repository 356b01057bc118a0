"""One tiny round by the requestor's way: a model is made, trained for a moment, and judged.

`make_model` and `play` do the same with whatever `Worker` they are given: one inside an image, one
on this machine. The requestor has its models made on its own machine: an image with the native
learner alone can train them, but has no Gymnasium to make them from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    Order,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    check_tensors,
    decode_metadata,
    order_digest,
    read_bundle,
    result_specs,
    specs_of,
)

LearnerKind = Literal["native", "sb3"]
MAX_BUNDLE_BYTES = 4 << 20
STEPS = 128

_ENVIRONMENT = EnvironmentSpec("CartPole-v1", n_envs=2)
_HYPERPARAMETERS = {"n_steps": 32, "batch_size": 32, "n_epochs": 2}


class RoundFailed(Exception):
    """A round did not give what it must; the text says what."""


class Worker(Protocol):
    """Something that has an order executed and leaves its files in a folder of this machine."""

    async def execute(self, name: str, order: Order, *inputs: Path) -> Path:
        """Have an order executed that reads these files; return its output.

        Raises:
            RoundFailed: it fails.
        """
        ...


@dataclass(frozen=True)
class Model:
    """A model that was made, in a file on this machine."""

    kind: LearnerKind
    path: Path
    reference: FileRef
    tensors: Tensors


@dataclass(frozen=True)
class Played:
    """What a round came to: its update, and who computed it, as it says."""

    update: Tensors
    packages: dict[str, str]

    def same_bits(self, other: Played) -> bool:
        """Tell whether another round gave the very same tensors."""
        return _bits(self.update) == _bits(other.update)


async def make_model(worker: Worker, kind: LearnerKind) -> Model:
    """Have a model made.

    Raises:
        RoundFailed: the order fails, or gives no model of this learner.
    """
    make = InitialiseOrder(
        run_id="verify",
        seed=1,
        environment=_ENVIRONMENT,
        learner=_learner(kind),
        output=f"{kind}.model",
    )
    path = await worker.execute(f"{kind}-make.json", make)
    try:
        bundle = read_bundle(path, max_bytes=MAX_BUNDLE_BYTES)
        made = decode_metadata(bundle, ModelMetadata)
    except WireError as error:
        raise RoundFailed(f"the {kind} model: {error}") from error
    if made.learner != kind:
        raise RoundFailed(f"the {kind} model was made by {made.learner}: {made.learner_reason}")
    content = path.read_bytes()
    reference = FileRef(path.name, hashlib.sha256(content).hexdigest(), len(content))
    return Model(kind, path, reference, bundle.tensors)


async def play(worker: Worker, model: Model) -> Played:
    """Have a model trained for a round.

    Raises:
        RoundFailed: the order fails, or the result is not as wire format and order demand.
    """
    order = TrainOrder(
        run_id="verify",
        round=0,
        client=0,
        seed=7,
        environment=_ENVIRONMENT,
        learner=_learner(model.kind),
        local_steps=STEPS,
        steps_done=0,
        steps_total=STEPS,
        model=model.reference,
        output=f"{model.kind}.update",
    )
    path = await worker.execute(f"{model.kind}-train.json", order, model.path)
    what = f"the {model.kind} round"
    try:
        update = read_bundle(path, max_bytes=MAX_BUNDLE_BYTES)
        result = decode_metadata(update, TrainResult)
        check_tensors(update.tensors, result_specs(specs_of(model.tensors)))
    except WireError as error:
        raise RoundFailed(f"{what}: {error}") from error
    if result.order_sha256 != order_digest(order) or result.steps != order.local_steps:
        raise RoundFailed(f"{what} is of another order, or of {result.steps} steps")
    if not any(tensor.any() for tensor in update.tensors.values()):
        raise RoundFailed(f"{what} changed nothing")
    return Played(update.tensors, dict(result.packages))


def _learner(kind: LearnerKind) -> LearnerSpec:
    return LearnerSpec("ppo", hyperparameters=_HYPERPARAMETERS, learner=kind)


def _bits(tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (tensor.dtype.str, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()
    }
