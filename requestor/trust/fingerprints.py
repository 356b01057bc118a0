"""Which machines make the same bits of the same work: told by a small piece of it, the canary.

With torch, and in environments that compute with the machine's own libraries, bits are promised
among machines of one kind only (FORMAT.md, section 11). So before audits compare two machines,
each does the run's canary: the run's own first model, learner and environment, with a seed of its
own and few steps, one to two CPU-seconds as a rule. Equal digests of what came out are equal
*fingerprints*, and only machines of equal fingerprints are compared bit for bit (BOINC calls that
homogeneous redundancy). The native learner in native environments makes the same bits on every
CPU, each worker checks that of itself before it takes work on, and no canary is needed.

A fingerprint sorts the honest; it proves nothing. Whoever sends another machine's is convicted by
the first audit; whoever makes one up is alone with it, and can be audited by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from provider_image.wire import (
    Bundle,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    StateRules,
    TensorSpec,
    TrainOrder,
    TrainResult,
    WireError,
    check_tensors,
    decode_metadata,
    has_portable_bits,
    order_digest,
    result_specs,
    tensors_digest,
)

PORTABLE = "native"
"""The fingerprint of all machines where bits are the same on every CPU."""

CANARY_SEED = 1_301_866
CANARY_STEPS = 512
CANARY_WARM_UP = 100
CANARY_LESSONS = 200

_ON_POLICY = frozenset({"ppo", "a2c"})


def fingerprint_without_canary(learner: LearnerSpec, environment: EnvironmentSpec) -> str | None:
    """Return the fingerprint that every honest machine has; None where a canary has to tell.

    learner: with its name settled, not `auto`.
    """
    return PORTABLE if has_portable_bits(learner, environment) else None


def canary_order(order: TrainOrder, first_model: FileRef) -> TrainOrder:
    """Return the canary of the run that `order` is of: the same whichever order of it is given.

    first_model: the model that the run began with, under the name the canary shall have it by.
    The canary's `output` is that of `order`, and so is `client_state_output` under SCAFFOLD, where
    nobody needs to fetch it; no file but the model goes in.
    """
    rules = _rules(order.rules)
    learner, steps = _few_steps(order)
    return replace(
        order,
        run_id="canary",
        round=0,
        client=0,
        seed=CANARY_SEED,
        learner=learner,
        rules=rules,
        compression=None,
        local_steps=steps,
        steps_done=0,
        model=first_model,
        client_state=None,
        client_state_output=order.client_state_output if rules.client_has_state else None,
        links=None,
    )


def fingerprint(order: TrainOrder, result: Bundle, model_specs: Mapping[str, TensorSpec]) -> str:
    """Return the fingerprint of the machine that did the canary `order`: SHA-256, in hex.

    result: read with a limit of `result_bytes(model_specs)`, from a stranger perhaps.
    model_specs: of the run's first model.

    Raises:
        WireError: this is not what that order leads to.
    """
    said = decode_metadata(result, TrainResult)
    if said.order_sha256 != order_digest(order):
        raise WireError(f"{result.source}: the result is of another order than the canary")
    check_tensors(result.tensors, result_specs(model_specs), source=result.source)
    return tensors_digest(result.tensors)


def _rules(rules: StateRules) -> StateRules:
    """Nothing kept from round to round; what belongs to the model stays."""
    merged = rules.optimizer if rules.optimizer == "merged" else "reset"
    return replace(rules, optimizer=merged, replay="reset")


def _few_steps(order: TrainOrder) -> tuple[LearnerSpec, int]:
    """As few steps as show how a machine learns, and never more than the order's own."""
    learner, n_envs = order.learner, order.environment.n_envs
    given = learner.hyperparameters
    if learner.algorithm == "pg":
        return learner, order.local_steps
    if learner.algorithm in _ON_POLICY:
        rollout = given.get("n_steps")
        if not isinstance(rollout, int) or rollout < 1:
            return learner, order.local_steps
        return learner, min(_up(CANARY_STEPS, rollout * n_envs), order.local_steps)
    steps = min(_up(CANARY_WARM_UP + CANARY_LESSONS, n_envs), order.local_steps)
    asked = given.get("learning_starts")
    warm_up = min(asked if isinstance(asked, int) else CANARY_WARM_UP, CANARY_WARM_UP, steps // 2)
    return replace(learner, hyperparameters=given | {"learning_starts": warm_up}), steps


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
