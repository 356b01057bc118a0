"""What the state that a client keeps must be before it may be handed back to it.

The values are the learner's own, and are bounded there. Names, types and shapes are judged here:
a state that no learner could have written would make every later order of its client fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from provider_image.wire import (
    CONTROL_PREFIX,
    FEEDBACK_NAME,
    ClientStateMetadata,
    LearnerSpec,
    StateRules,
    Tensors,
    TensorSpec,
    WireError,
    check_tensors,
    specs_of,
)
from requestor.federation.screening import MAX_STEPS, UpdateRejected

OPTIMIZER_PREFIX = "optimizer/"
REPLAY_PREFIX = "replay/"
PAIRED_ARRAYS = ("observations", "next_observations")
FLAT_ARRAYS = ("rewards", "dones", "timeouts")
REPLAY_ARRAYS = (*PAIRED_ARRAYS, *FLAT_ARRAYS, "actions")
ON_POLICY = frozenset({"ppo", "a2c", "pg"})
OPTIMIZERS = {
    "sac": frozenset({"actor", "critic", "ent_coef"}),
    "td3": frozenset({"actor", "critic"}),
    "ddpg": frozenset({"actor", "critic"}),
}
SCALAR_FIELDS = frozenset({"step"})
ARRAY_FIELDS = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "momentum_buffer", "grad_avg"}
)
MAX_FEEDBACK = MAX_STEPS["policy/"] / 2
"""What a client may owe at most: with it, an honest next update still passes the screening."""

_OPTIMIZER_NAME = re.compile(r"optimizer/([a-z_]+)/(0|[1-9][0-9]{0,3})/([a-z_]+)")


@dataclass(frozen=True)
class FeedbackAssignment:
    """How many numbers the update of the policy has, and the size of the largest that was sent."""

    count: int
    largest_sent: float


@dataclass(frozen=True)
class StateAssignment:
    """What was ordered, as far as the state can be held against it.

    `previous` is what the order handed to the client, if anything. A replay buffer has one row
    for a step of all `n_envs` environments. `feedback` is what the update that came with the
    state tells of it, where compression has feedback.
    """

    run_id: str
    client: int
    round: int
    local_steps: int
    n_envs: int
    learner: LearnerSpec
    rules: StateRules
    model_specs: Mapping[str, TensorSpec]
    previous: Mapping[str, TensorSpec] | None = None
    feedback: FeedbackAssignment | None = None

    @property
    def buffer_rows(self) -> int | None:
        """Rows of the whole replay buffer, if the order says how large it is."""
        steps = self.learner.hyperparameters.get("buffer_size")
        return max(1, steps // self.n_envs) if isinstance(steps, int) else None


def screen_client_state(
    tensors: Tensors, metadata: ClientStateMetadata, assignment: StateAssignment
) -> None:
    """Raise `UpdateRejected` unless the state is one that the order could have led to.

    Checks what the metadata says of run, client, round and algorithm, the names, dtypes and shapes
    of FORMAT.md section 9, finiteness, and that beside a growing replay buffer nothing has another
    layout than the state that the order handed out.
    """
    said = (metadata.run_id, metadata.client, metadata.round, metadata.algorithm)
    learner = assignment.learner
    if said != (assignment.run_id, assignment.client, assignment.round, learner.algorithm):
        raise UpdateRejected("the client's state is of another run, client, round or algorithm")
    specs = specs_of(tensors)
    replay = {name: spec for name, spec in specs.items() if name.startswith(REPLAY_PREFIX)}
    has_feedback = assignment.feedback is not None
    control = {name: spec for name, spec in specs.items() if name.startswith(CONTROL_PREFIX)}
    others = {*replay, *control, *([FEEDBACK_NAME] if has_feedback else [])}
    optimizer = {name: spec for name, spec in specs.items() if name not in others}
    _check_optimizer(optimizer, assignment)
    _check_replay(replay, tensors, assignment)
    _check_control(control, tensors, assignment)
    _check_against_previous(specs, assignment)
    try:
        check_tensors(tensors, specs, source="the client's state")
    except WireError as error:
        raise UpdateRejected(str(error)) from error
    if assignment.feedback is not None:
        _check_feedback(tensors, assignment.feedback)


def _check_feedback(tensors: Tensors, assignment: FeedbackAssignment) -> None:
    """Refuse what no codec can have left out of the update beside it.

    It is added to the client's next update, which another provider may have to answer for: nothing
    that is left out is larger than the largest number sent, its rounding aside.
    """
    feedback = tensors.get(FEEDBACK_NAME)
    wanted = TensorSpec("float32", (assignment.count,))
    if feedback is None or specs_of({FEEDBACK_NAME: feedback})[FEEDBACK_NAME] != wanted:
        raise UpdateRejected(
            f"the client's state: {FEEDBACK_NAME} must be float32[{assignment.count}]"
        )
    limit = min(MAX_FEEDBACK, 1.001 * assignment.largest_sent + 1e-7)
    largest = float(np.abs(feedback).max(initial=0.0))
    if not largest <= limit:
        raise UpdateRejected(
            f"the client's state: {FEEDBACK_NAME} holds {largest:g}, where an update of at most "
            f"{assignment.largest_sent:g} can leave {limit:g}"
        )


def _check_control(
    specs: Mapping[str, TensorSpec], tensors: Tensors, assignment: StateAssignment
) -> None:
    """Refuse what is no control variate, and one that no gradients are as large as."""
    wanted = {n: s for n, s in assignment.model_specs.items() if n.startswith(CONTROL_PREFIX)}
    if assignment.rules.drift != "scaffold":
        wanted = {}
    if specs != wanted:
        odd = min(n for n in specs.keys() | wanted.keys() if specs.get(n) != wanted.get(n))
        raise UpdateRejected(f"the client's state: {odd} is not as in the model, or is missing")
    limit = MAX_STEPS[CONTROL_PREFIX]
    for name in specs:
        # written so that NaN does not pass
        if not float(np.abs(tensors[name]).max(initial=0.0)) <= limit:
            raise UpdateRejected(f"the client's state: {name} holds more than {limit:g}")


def _check_optimizer(specs: Mapping[str, TensorSpec], assignment: StateAssignment) -> None:
    if assignment.rules.optimizer != "kept":
        _refuse_any(specs)
        return
    known = OPTIMIZERS.get(assignment.learner.algorithm, frozenset({"policy"}))
    shapes = {s.shape for name, s in assignment.model_specs.items() if name.startswith("policy/")}
    fields: dict[tuple[str, int], set[str]] = {}
    for name, spec in specs.items():
        match = _OPTIMIZER_NAME.fullmatch(name)
        if match is None or match[1] not in known:
            raise UpdateRejected(f"the client's state has an unknown tensor {name}")
        fields.setdefault((match[1], int(match[2])), set()).add(match[3])
        # the logarithm of an entropy coefficient is no parameter of the policy
        allowed: set[tuple[int, ...]] = {(1,)} if match[1] == "ent_coef" else shapes
        if match[3] in SCALAR_FIELDS:
            allowed = {()}
        elif match[3] not in ARRAY_FIELDS:
            raise UpdateRejected(f"the client's state has an unknown tensor {name}")
        if spec.dtype != "float32" or spec.shape not in allowed:
            raise UpdateRejected(
                f"the client's state: {name} is {spec.dtype}{list(spec.shape)}, which is the shape "
                "of no parameter"
            )
    for optimizer in known - {"ent_coef"} | {optimizer for optimizer, _ in fields}:
        indices = sorted(index for owner, index in fields if owner == optimizer)
        if not indices or indices != list(range(len(indices))):
            raise UpdateRejected(f"the client's state has gaps in {OPTIMIZER_PREFIX}{optimizer}")
        if any(fields[optimizer, index] != fields[optimizer, 0] for index in indices):
            raise UpdateRejected(f"the client's state has gaps in {OPTIMIZER_PREFIX}{optimizer}")


def _check_replay(
    specs: Mapping[str, TensorSpec], tensors: Tensors, assignment: StateAssignment
) -> None:
    if assignment.rules.replay != "kept" or assignment.learner.algorithm in ON_POLICY:
        _refuse_any(specs)
        return
    names = {*REPLAY_ARRAYS, "position", "full"}
    if missing := sorted(names - {name.removeprefix(REPLAY_PREFIX) for name in specs}):
        raise UpdateRejected(f"the client's state lacks {REPLAY_PREFIX}{missing[0]}")
    _refuse_any({n: s for n, s in specs.items() if n.removeprefix(REPLAY_PREFIX) not in names})
    arrays = {name: specs[REPLAY_PREFIX + name] for name in REPLAY_ARRAYS}
    rows = arrays["rewards"].shape[:1]
    for name, spec in arrays.items():
        is_flat = name in FLAT_ARRAYS
        if (
            len(rows) != 1
            or spec.shape[:2] != (*rows, assignment.n_envs)
            or (is_flat and (len(spec.shape) != 2 or spec.dtype != "float32"))
        ):
            raise UpdateRejected(
                f"the client's state: {REPLAY_PREFIX}{name} is {spec.dtype}{list(spec.shape)}"
            )
    if arrays["observations"] != arrays["next_observations"]:
        raise UpdateRejected("the client's state: observations and next_observations differ")
    _check_rows(rows[0], tensors, assignment)


def _check_rows(rows: int, tensors: Tensors, assignment: StateAssignment) -> None:
    """Compare the filled rows with the steps that were ordered, and with the position."""
    position, full = tensors[REPLAY_PREFIX + "position"], tensors[REPLAY_PREFIX + "full"]
    if specs_of({"position": position, "full": full}) != {
        "position": TensorSpec("int64", ()),
        "full": TensorSpec("bool", ()),
    }:
        raise UpdateRejected("the client's state: position and full must be single values")
    previous = assignment.previous or {}
    before = previous.get(REPLAY_PREFIX + "rewards", TensorSpec("float32", (0,))).shape[0]
    most = before + assignment.local_steps // assignment.n_envs
    end = assignment.buffer_rows
    if not before <= rows <= most or (end is not None and rows > end):
        raise UpdateRejected(
            f"the client's state has {rows} rows of replay after {before}; {most} can be"
        )
    is_full = bool(full)
    is_sound = 0 <= int(position) < rows if is_full else int(position) == rows
    if not is_sound or (end is not None and is_full != (rows == end)):
        raise UpdateRejected("the client's state: position and full do not fit the rows of replay")


def _check_against_previous(specs: Mapping[str, TensorSpec], assignment: StateAssignment) -> None:
    if assignment.previous is None:
        return
    before = {name: _without_rows(name, spec) for name, spec in assignment.previous.items()}
    after = {name: _without_rows(name, spec) for name, spec in specs.items()}
    if before != after:
        changed = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
        raise UpdateRejected(
            f"the client's state: {changed[0]} has another layout than in the round before"
        )


def _without_rows(name: str, spec: TensorSpec) -> TensorSpec:
    shape = spec.shape[1:] if name.startswith(REPLAY_PREFIX) else spec.shape
    return TensorSpec(spec.dtype, shape)


def _refuse_any(specs: Mapping[str, TensorSpec]) -> None:
    for name in specs:
        raise UpdateRejected(f"the client's state has an unknown tensor {name}")
