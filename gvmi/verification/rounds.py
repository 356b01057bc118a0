"""One tiny round by the requestor's way: a model is made, trained for a moment, and judged.

`play` does the same with whatever `Worker` it is given: one inside an image, one on this machine.
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

    async def execute(self, name: str, order: Order) -> Path:
        """Have an order executed; return its output. Raises `RoundFailed`."""
        ...


@dataclass(frozen=True)
class Played:
    """What a round came to: the model that was made, its update, and who computed them."""

    model: Tensors
    update: Tensors
    packages: dict[str, str]
    wall_seconds: float
    cpu_seconds: float

    def same_bits(self, other: Played) -> bool:
        """Tell whether another round gave the very same tensors."""
        return _bits(self.model) == _bits(other.model) and _bits(self.update) == _bits(other.update)


async def play(worker: Worker, kind: LearnerKind) -> Played:
    """Have a model made and trained for a round.

    Raises:
        RoundFailed: an order fails, or a result is not as the wire format and the order demand.
    """
    learner = LearnerSpec("ppo", hyperparameters=_HYPERPARAMETERS, learner=kind)
    make = InitialiseOrder(
        run_id="verify",
        seed=1,
        environment=_ENVIRONMENT,
        learner=learner,
        output=f"{kind}.model",
    )
    path = await worker.execute(f"{kind}-make.json", make)
    try:
        model = read_bundle(path, max_bytes=MAX_BUNDLE_BYTES)
        made = decode_metadata(model, ModelMetadata)
    except WireError as error:
        raise RoundFailed(f"the {kind} model: {error}") from error
    if made.learner != kind:
        raise RoundFailed(f"the {kind} model was made by {made.learner}: {made.learner_reason}")
    content = path.read_bytes()
    train = TrainOrder(
        run_id="verify",
        round=0,
        client=0,
        seed=7,
        environment=_ENVIRONMENT,
        learner=learner,
        local_steps=STEPS,
        steps_done=0,
        steps_total=STEPS,
        model=FileRef(path.name, hashlib.sha256(content).hexdigest(), len(content)),
        output=f"{kind}.update",
    )
    return _judged(await worker.execute(f"{kind}-train.json", train), train, model.tensors, kind)


def _judged(path: Path, order: TrainOrder, model: Tensors, kind: LearnerKind) -> Played:
    try:
        update = read_bundle(path, max_bytes=MAX_BUNDLE_BYTES)
        result = decode_metadata(update, TrainResult)
        check_tensors(update.tensors, result_specs(specs_of(model)))
    except WireError as error:
        raise RoundFailed(f"the {kind} round: {error}") from error
    if result.order_sha256 != order_digest(order) or result.steps != order.local_steps:
        raise RoundFailed(f"the {kind} round is of another order, or of {result.steps} steps")
    if not any(tensor.any() for tensor in update.tensors.values()):
        raise RoundFailed(f"the {kind} round changed nothing")
    return Played(
        model=model,
        update=update.tensors,
        packages=dict(result.packages),
        wall_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
    )


def _bits(tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (tensor.dtype.str, tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()
    }
