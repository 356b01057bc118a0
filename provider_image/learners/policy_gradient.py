"""The policy-gradient learner: estimates for the methods of federated policy gradients.

Its parts, to be read in this order: `policy_gradient_plan.py` (an order checked and typed),
`policy_gradient_network.py`, `policy_gradient_episodes.py`, `policy_gradient_estimates.py`,
`policy_gradient_server.py` (the requestor's own steps), `policy_gradient_playing.py`. NumPy and
`native_kernels`, no torch.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from provider_image.environments import EnvironmentRefused, Spaces, read_spaces
from provider_image.learners.base import (
    METADATA_TEXT_LETTERS,
    Evaluation,
    InitialModel,
    LearnerRefused,
    Probe,
    Refinement,
    TrainingFailed,
    TrainOutcome,
)
from provider_image.learners.hash_chain import HashChain
from provider_image.learners.native import NativeLearner
from provider_image.learners.native_choice import stepping_of
from provider_image.learners.native_model import spaces_for
from provider_image.learners.native_stepping import BatchStepper, GymnasiumStepper, VectorStepper
from provider_image.learners.policy_gradient_episodes import Episodes, Source, play
from provider_image.learners.policy_gradient_estimates import (
    estimate,
    page_difference,
    step_weights,
)
from provider_image.learners.policy_gradient_network import (
    Parameters,
    parameters_of,
)
from provider_image.learners.policy_gradient_plan import (
    DIRECTION_PREFIX,
    PREVIOUS_PREFIX,
    GradientPlan,
    check_environment_rules,
    plan_of,
)
from provider_image.learners.policy_gradient_playing import evaluate, probe_policy
from provider_image.learners.policy_gradient_server import Adam, Ascent, InnerLoop
from provider_image.wire import (
    POLICY_PREFIX,
    EnvironmentSpec,
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    InitialiseOrder,
    ModelMetadata,
    ProbeOrder,
    RefineOrder,
    Tensors,
    TrainOrder,
    WireError,
    check_tensors,
)

_ERROR_LETTERS = 300


class PolicyGradientLearner:
    """Fulfils `base.Learner` for algorithm `pg`; the same bits on every processor."""

    def initialise(self, order: InitialiseOrder) -> InitialModel:
        """A fresh model; the state of the server's optimizer in it is 0."""
        spaces = read_spaces(order.environment)
        plan = plan_of(order.learner, spaces)
        check_environment_rules(order.environment.normalize, order.rules)
        tensors: Tensors = {
            name: np.zeros(spec.shape, spec.dtype) for name, spec in plan.model_specs.items()
        }
        fresh = plan.network.fresh(order.seed)
        tensors |= fresh
        if plan.given.keeps_previous:
            tensors |= _below(PREVIOUS_PREFIX, fresh)
        metadata = ModelMetadata(
            algorithm=order.learner.algorithm,
            learner="native",
            environment_id=order.environment.id,
            observation_space=spaces.observation.text[:METADATA_TEXT_LETTERS],
            action_space=spaces.action.text[:METADATA_TEXT_LETTERS],
        )
        return InitialModel(tensors, metadata)

    def train(
        self,
        order: TrainOrder,
        model: Tensors,
        client_state: Tensors | None,
        link_state: Tensors | None = None,
    ) -> TrainOutcome:
        """Estimate the gradient of `model`; the update is the estimate, in ascent, and one link."""
        plan = _opened(order, model)
        assert order.gradient is not None  # the wire has seen to it
        count = order.gradient.episodes
        if order.local_steps != count * plan.given.horizon:
            raise LearnerRefused(
                f"local_steps {order.local_steps} is not gradient.episodes * horizon = "
                f"{count * plan.given.horizon}"
            )
        stepper = stepper_for(order.environment, plan.spaces, count, order.seed)
        try:
            source = Source(stepper, count, order.seed)
            (episodes,) = play(plan.network, parameters_of(model), [source], plan.given.horizon)
            return outcome_of(order, plan, model, episodes)
        except _FAILURES as error:
            raise _failed("training", error) from error
        finally:
            stepper.close()

    def refine(self, order: RefineOrder, model: Tensors, direction: Tensors) -> Refinement:
        """The server's own steps along `direction`: see `policy_gradient_server.py`."""
        plan = _opened(order, model)
        check_tensors(direction, plan.network.specs, source="direction")
        start, along = parameters_of(model), parameters_of(direction)
        adam = Adam(model, plan.learning_rate_at(order.progress))
        if order.inner is None:
            climbed = Ascent(adam.ascend(start, along), 1, 0, 0)
        else:
            loop = InnerLoop(plan.network, plan.given, order.inner, order.seed)
            stepper = stepper_for(order.environment, plan.spaces, order.inner.episodes, order.seed)
            try:
                climbed = loop.climb(stepper, adam, start, along)
            except _FAILURES as error:
                raise _failed("refining", error) from error
            finally:
                stepper.close()
        refined = dict(model) | _rounded(climbed.parameters) | adam.tensors()
        if plan.given.keeps_previous:
            refined |= _below(PREVIOUS_PREFIX, model) | _below(DIRECTION_PREFIX, direction)
        return Refinement(refined, climbed.inner_steps, climbed.episodes, climbed.steps)

    def evaluate(self, order: EvaluateOrder, model: Tensors) -> Evaluation:
        """See `base.Learner.evaluate`; rows do not depend on each other."""
        try:
            return evaluate(order, _opened(order, model), model)
        except _FAILURES as error:
            raise _failed("evaluation", error) from error

    def probe(self, order: ProbeOrder, model: Tensors, updates: Tensors) -> Probe:
        """See `base.Learner.probe`; an estimate counts as the step of learning rate 1."""
        return probe_policy(order, _opened(order, model), model, updates)

    def export(self, order: ExportOrder, model: Tensors, directory: Path) -> None:
        """Refused: no policy of Stable-Baselines3 has tanh on its logits, or no critic."""
        raise LearnerRefused(
            "algorithm pg has no counterpart in Stable-Baselines3 that its model could be exported "
            "to; the model bundle is what there is"
        )

    def import_archive(self, order: ImportOrder, directory: Path) -> InitialModel:
        """Refused, as `export` is."""
        raise LearnerRefused("algorithm pg has no counterpart in Stable-Baselines3 to import from")

    def packages(self) -> dict[str, str]:
        """As the native learner's."""
        return NativeLearner().packages()


def outcome_of(
    order: TrainOrder, plan: GradientPlan, model: Tensors, episodes: Episodes
) -> TrainOutcome:
    """What `order` asks for, from the episodes that were played for it."""
    assert order.gradient is not None
    chain = HashChain(order, 1, can_resume=False)
    given, parameters = plan.given, parameters_of(model)
    weights = step_weights(episodes, given.gamma, given.step_weights)
    if order.gradient.is_difference:
        if not given.keeps_previous:
            raise LearnerRefused("gradient.is_difference needs keeps_previous: true")
        previous = parameters_of(model, PREVIOUS_PREFIX)
        found = page_difference(
            plan.network, parameters, previous, episodes, weights, given.max_ratio
        )
    else:
        found = estimate(plan.network, parameters, episodes, weights)
    update = _rounded(found)
    if not all(np.isfinite(tensor).all() for tensor in update.values()):
        raise TrainingFailed("the gradient is not finite; lower learning_rate")
    chain.note(1, lambda: update)
    returns = episodes.returns
    return TrainOutcome(
        tensors=update,
        client_state=None,
        steps=int(episodes.lengths.sum()),
        episodes=len(episodes.lengths),
        metrics={
            "rollout/ep_rew_mean": float(returns.mean()),
            "rollout/ep_len_mean": float(episodes.lengths.mean()),
        },
        links=chain.links,
    )


def stepper_for(
    environment: EnvironmentSpec, spaces: Spaces, count: int, seed: int
) -> VectorStepper:
    """So many environments side by side: native ones where there are, else Gymnasium's."""
    several = msgspec.structs.replace(environment, n_envs=count)
    if stepping_of(environment) == "gymnasium":
        return GymnasiumStepper(several, spaces.action, spaces.observation, seed)
    return BatchStepper(several, spaces.action, seed)


_FAILURES = (ArithmeticError, AssertionError, RuntimeError, ValueError)


def _failed(what: str, error: Exception) -> Exception:
    if isinstance(error, TrainingFailed | LearnerRefused | WireError | EnvironmentRefused):
        return error
    return TrainingFailed(
        f"{what} broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}"
    )


def _opened(
    order: TrainOrder | RefineOrder | EvaluateOrder | ProbeOrder, model: Tensors
) -> GradientPlan:
    """The plan of an order whose model is exactly what it must be; raises WireError."""
    check_environment_rules(order.environment.normalize, order.rules)
    spaces = spaces_for(order.environment, stepping_of(order.environment))
    plan = plan_of(order.learner, spaces)
    check_tensors(model, plan.model_specs, source="model")
    return plan


def _rounded(parameters: Parameters) -> Tensors:
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def _below(prefix: str, tensors: Tensors) -> Tensors:
    """The policy's tensors, under another prefix."""
    return {
        prefix + name.removeprefix(POLICY_PREFIX): tensor.copy()
        for name, tensor in tensors.items()
        if name.startswith(POLICY_PREFIX)
    }
