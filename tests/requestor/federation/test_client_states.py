"""The state that a client keeps: what a learner can have left passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from provider_image.wire import ClientStateMetadata, LearnerSpec, StateRules, Tensors, specs_of
from requestor.federation.client_states import (
    FeedbackAssignment,
    StateAssignment,
    screen_client_state,
)
from requestor.federation.screening import UpdateRejected

METADATA = ClientStateMetadata(run_id="r", client=1, round=2, algorithm="sac")
POLICY: Tensors = {
    "policy/actor.weight": np.zeros((4, 3), np.float32),
    "policy/actor.bias": np.zeros(4, np.float32),
}
ASSIGNMENT = StateAssignment(
    run_id="r",
    client=1,
    round=2,
    local_steps=20,
    n_envs=2,
    learner=LearnerSpec("sac", hyperparameters={"buffer_size": 60}),
    rules=StateRules(optimizer="kept", replay="kept"),
    model_specs=specs_of(POLICY),
)


def adam(optimizer: str, shapes: list[tuple[int, ...]]) -> Tensors:
    """The state of an Adam optimizer."""
    tensors: Tensors = {}
    for index, shape in enumerate(shapes):
        stem = f"optimizer/{optimizer}/{index}/"
        tensors[stem + "step"] = np.array(3, np.float32)
        tensors[stem + "exp_avg"] = np.ones(shape, np.float32)
        tensors[stem + "exp_avg_sq"] = np.ones(shape, np.float32)
    return tensors


def replay(rows: int, position: int | None = None) -> Tensors:
    """A replay buffer, full if a position is given."""
    return {
        "replay/observations": np.zeros((rows, 2, 3), np.float32),
        "replay/next_observations": np.zeros((rows, 2, 3), np.float32),
        "replay/actions": np.zeros((rows, 2, 1), np.float32),
        "replay/rewards": np.zeros((rows, 2), np.float32),
        "replay/dones": np.zeros((rows, 2), np.float32),
        "replay/timeouts": np.zeros((rows, 2), np.float32),
        "replay/position": np.array(rows if position is None else position),
        "replay/full": np.array(position is not None),
    }


def honest(rows: int = 10, position: int | None = None) -> Tensors:
    """What a learner leaves."""
    return (
        adam("actor", [(4, 3), (4,)])
        | adam("critic", [(4, 3)])
        | adam("ent_coef", [(1,)])
        | replay(rows, position)
    )


def after(tensors: Tensors, **changes: Any) -> StateAssignment:
    """The assignment of an order that handed out `tensors`."""
    return replace(ASSIGNMENT, previous=specs_of(tensors), **changes)


@pytest.mark.parametrize(
    ("tensors", "assignment"),
    [
        (honest(10), ASSIGNMENT),
        (honest(0), ASSIGNMENT),
        (honest(20), after(honest(10))),
        (honest(30, 0), after(honest(25))),
        (honest(30, 29), after(honest(30))),
    ],
)
def test_what_a_learner_leaves_passes(tensors: Tensors, assignment: StateAssignment) -> None:
    screen_client_state(tensors, METADATA, assignment)


def test_rules_say_what_is_in_a_state() -> None:
    optimizer_only = replace(ASSIGNMENT, rules=StateRules(optimizer="kept"))
    replay_only = replace(ASSIGNMENT, rules=StateRules(replay="kept"))
    optimizer = {name: t for name, t in honest().items() if name.startswith("optimizer/")}
    screen_client_state(optimizer, METADATA, optimizer_only)
    screen_client_state(replay(10), METADATA, replay_only)
    for assignment in (optimizer_only, replay_only):
        with pytest.raises(UpdateRejected, match="unknown tensor"):
            screen_client_state(honest(), METADATA, assignment)


@pytest.mark.parametrize(
    ("feedback", "largest_sent", "passes"),
    [
        (0.0, 0.0, True),
        (9e-8, 0.0, True),
        (2e-7, 0.0, False),
        (1.0004, 1.0, True),  # a half sent as 1 may have been rounded from this
        (1.002, 1.0, False),
        (-1.002, 1.0, False),
        (4999.0, 9000.0, True),
        (5001.0, 9000.0, False),
        (float("nan"), 1.0, False),
    ],
)
def test_feedback_is_what_a_codec_can_have_left_out(
    feedback: float, largest_sent: float, passes: bool
) -> None:
    tensors = {"feedback/update": np.array([0.0, feedback, 0.0], np.float32)}
    told = FeedbackAssignment(3, largest_sent)
    assignment = replace(ASSIGNMENT, rules=StateRules(), feedback=told)
    if passes:
        screen_client_state(tensors, METADATA, assignment)
        screen_client_state({**tensors, **honest()}, METADATA, replace(ASSIGNMENT, feedback=told))
    else:
        with pytest.raises(UpdateRejected, match="feedback/update"):
            screen_client_state(tensors, METADATA, assignment)
    with pytest.raises(UpdateRejected, match="unknown tensor feedback/update"):
        screen_client_state(tensors, METADATA, replace(assignment, feedback=None))
    with pytest.raises(UpdateRejected, match=r"feedback/update must be float32\[3\]"):
        screen_client_state({}, METADATA, assignment)


def test_a_control_variate_is_one_of_the_models_and_no_larger_than_gradients() -> None:
    controls: Tensors = {
        "control/actor.weight": np.ones((4, 3), np.float32),
        "control/actor.bias": np.ones(4, np.float32),
    }
    assignment = replace(
        ASSIGNMENT, rules=StateRules(drift="scaffold"), model_specs=specs_of(POLICY | controls)
    )
    screen_client_state(controls, METADATA, assignment)
    bad: list[Tensors] = [
        {},
        controls | {"control/odd": np.ones(4, np.float32)},
        controls | {"control/actor.bias": np.ones(3, np.float32)},
        controls | {"control/actor.bias": np.full(4, 1.1e8, np.float32)},
        controls | {"control/actor.bias": np.full(4, np.nan, np.float32)},
    ]
    for tensors in bad:
        with pytest.raises(UpdateRejected, match="control/"):
            screen_client_state(tensors, METADATA, assignment)
    without = replace(assignment, rules=StateRules())
    with pytest.raises(UpdateRejected, match="control/"):
        screen_client_state(controls, METADATA, without)


def test_a_buffer_of_unknown_size_may_be_full_or_not() -> None:
    assignment = replace(ASSIGNMENT, learner=LearnerSpec("sac"))
    screen_client_state(honest(10, 3), METADATA, assignment)
    screen_client_state(honest(10), METADATA, assignment)


def test_on_policy_algorithms_keep_one_optimizer_and_no_replay() -> None:
    learner = LearnerSpec("ppo")
    metadata = ClientStateMetadata(run_id="r", client=1, round=2, algorithm="ppo")
    assignment = replace(ASSIGNMENT, learner=learner)
    screen_client_state(adam("policy", [(4,)]), metadata, assignment)
    for extra in (replay(10), adam("actor", [(4,)]), adam("ent_coef", [(1,)])):
        with pytest.raises(UpdateRejected, match="unknown tensor"):
            screen_client_state(adam("policy", [(4,)]) | extra, metadata, assignment)


@pytest.mark.parametrize("field", ["run_id", "client", "round", "algorithm"])
def test_a_state_of_something_else_is_refused(field: str) -> None:
    said: dict[str, Any] = {"run_id": "r", "client": 1, "round": 2, "algorithm": "sac"}
    said[field] = {"run_id": "q", "algorithm": "dqn"}.get(field, 7)
    with pytest.raises(UpdateRejected, match="another run, client, round or algorithm"):
        screen_client_state(honest(), ClientStateMetadata(**said), ASSIGNMENT)


def changed(**tensors: Any) -> Callable[[], Tensors]:
    """An honest state with other tensors, under names with `__` for slashes; None leaves out."""

    def make() -> Tensors:
        state = honest()
        for name, tensor in tensors.items():
            if tensor is None:
                del state[name.replace("__", "/")]
            else:
                state[name.replace("__", "/")] = tensor
        return state

    return make


FLOAT = np.float32
HOSTILE = {
    "nothing": dict,
    "something else": lambda: {"x": np.zeros(3, FLOAT)},
    "another tensor": changed(x=np.zeros(3, FLOAT)),
    "another replay array": changed(replay__x=np.zeros((10, 2), FLOAT)),
    "no rewards": changed(replay__rewards=None),
    "no position": changed(replay__position=None),
    "rewards of another type": changed(replay__rewards=np.zeros((10, 2))),
    "rewards of another shape": changed(replay__rewards=np.zeros(10, FLOAT)),
    "a single reward": changed(replay__rewards=np.array(0, FLOAT)),
    "dones of another length": changed(replay__dones=np.zeros((9, 2), FLOAT)),
    "other environments": changed(replay__actions=np.zeros((10, 3, 1), FLOAT)),
    "observations that differ": changed(replay__observations=np.zeros((10, 2, 4), FLOAT)),
    "positions": changed(replay__position=np.array([10])),
    "a position elsewhere": changed(replay__position=np.array(9)),
    "a negative position": changed(replay__position=np.array(-1)),
    "full too early": changed(replay__full=np.array(True), replay__position=np.array(0)),
    "full by number": changed(replay__full=np.array(0)),
    "values that are not finite": changed(replay__rewards=np.full((10, 2), np.nan, FLOAT)),
    "more than was ordered": lambda: honest(11),
    "an unknown optimizer": changed(optimizer__policy__0__step=np.array(0, FLOAT)),
    "an unknown field": changed(optimizer__actor__0__x=np.zeros(4, FLOAT)),
    "a missing field": changed(optimizer__actor__1__exp_avg=None),
    "a gap": changed(optimizer__actor__3__step=np.array(0, FLOAT)),
    "a name that is none": changed(optimizer__actor__00__step=np.array(0, FLOAT)),
    "no critic": lambda: {n: t for n, t in honest().items() if "/critic/" not in n},
    "the shape of nothing": changed(optimizer__actor__0__exp_avg=np.zeros((5, 3), FLOAT)),
    "moments in double": changed(optimizer__actor__0__exp_avg=np.zeros((4, 3))),
    "many steps": changed(optimizer__actor__0__step=np.zeros(4, FLOAT)),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_first_state_of_another_layout_is_refused(make: Callable[[], Tensors]) -> None:
    with pytest.raises(UpdateRejected, match="the client's state"):
        screen_client_state(make(), METADATA, ASSIGNMENT)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (honest(9), "9 rows of replay after 10; 20 can be"),
        (honest(21), "21 rows of replay after 10; 20 can be"),
        (
            {n: t for n, t in honest(20).items() if "ent_coef" not in n},
            "optimizer/ent_coef/0/exp_avg has another layout",
        ),
        (
            honest(20) | {"replay/actions": np.zeros((20, 2, 5), np.float32)},
            "replay/actions has another layout",
        ),
        (
            honest(20) | {"replay/actions": np.zeros((20, 2, 1), np.int64)},
            "replay/actions has another layout",
        ),
        (
            honest(20) | {"optimizer/critic/0/exp_avg": np.zeros(4, np.float32)},
            "optimizer/critic/0/exp_avg has another layout",
        ),
    ],
)
def test_a_later_state_has_the_layout_of_the_one_before(tensors: Tensors, message: str) -> None:
    with pytest.raises(UpdateRejected, match=message):
        screen_client_state(tensors, METADATA, after(honest(10)))
    rows = tensors["replay/rewards"].shape[0]
    if rows == 20:  # without the state before, it would have passed
        screen_client_state(tensors, METADATA, replace(ASSIGNMENT, local_steps=40))
