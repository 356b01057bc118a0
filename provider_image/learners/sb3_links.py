"""The hash chain of an SB3 round: how many updates it has, and when each of them is done."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from provider_image.learners.hash_chain import HashChain
from provider_image.learners.sb3_environments import VectorEnvironment
from provider_image.learners.sb3_state import link_tensors
from provider_image.wire import Tensors, TrainOrder


class Links:
    """The chain of an order's work with one model; `steps` is how far the order goes.

    An update is a rollout with its epochs, or a collection of an off-policy learner's steps with
    the gradient steps after it. Collections of whole episodes cannot be counted beforehand: then
    all of them are one update.
    """

    def __init__(
        self, order: TrainOrder, model: BaseAlgorithm, environment: VectorEnvironment
    ) -> None:
        """Begin; raises LearnerRefused for links that there are not or that cannot be begun at."""
        self._model, self._environment = model, environment
        collection = _steps_of_a_collection(model, order.local_steps)
        updates = -(-order.local_steps // collection)
        self.chain = HashChain(order, updates, can_resume=False)
        self.steps = min(self.chain.last_update * collection, order.local_steps)
        self._is_one = updates == 1
        self._done = -1

    def begun(self) -> None:
        """Take note that a collection begins: what came before it is done."""
        self._done += 1
        if self._done and not self._is_one:
            self.chain.note(self._done, self._standing)

    def ended(self) -> None:
        """Take note that the last update is done."""
        self.chain.note(self.chain.last_update, self._standing)

    def _standing(self) -> Tensors:
        recorder = self._environment.recorder
        moments = {} if recorder is None else recorder.tensors()
        return link_tensors(self._model) | moments


class LinkCallback(BaseCallback):
    """Tells `links` where SB3 is."""

    def __init__(self, links: Links) -> None:
        super().__init__()
        self._links = links

    def _on_rollout_start(self) -> None:
        self._links.begun()

    def _on_training_end(self) -> None:
        self._links.ended()

    def _on_step(self) -> bool:
        return True


def _steps_of_a_collection(model: BaseAlgorithm, local_steps: int) -> int:
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_steps * model.n_envs
    train_freq: Any = getattr(model, "train_freq", None)
    assert isinstance(train_freq, TrainFreq)
    if train_freq.unit == TrainFrequencyUnit.EPISODE:
        return local_steps
    return int(train_freq[0]) * model.n_envs
