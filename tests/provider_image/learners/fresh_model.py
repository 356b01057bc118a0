"""Fresh models for orders that tests make."""

from __future__ import annotations

from provider_image.learners import load_learner
from provider_image.wire import InitialiseOrder, LearnerName, Tensors, TrainOrder


def fresh_model(order: TrainOrder) -> Tensors:
    """The model that a run with this order would begin with, drawn from one seed."""
    fresh = InitialiseOrder(
        run_id="r",
        seed=5,
        environment=order.environment,
        learner=order.learner,
        rules=order.rules,
        output="o",
    )
    name: LearnerName = "native" if order.learner.learner == "native" else "sb3"
    return load_learner(order.learner.algorithm, name).initialise(fresh).tensors
