"""A native round cut at any link: the parts give the bits of the whole, and liars are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from native_kernels.environments import ENVIRONMENTS
from provider_image.learners import LearnerRefused, TrainOutcome, check_link_state, load_learner
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    LinkRange,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    WrapperSpec,
    base_digest,
    tensors_digest,
)
from tests.provider_image.learners.fresh_model import fresh_model

FILE = FileRef("m", "0" * 64, 0)
KEPT = StateRules(optimizer="kept", drift="scaffold")


def order_for(
    environment: EnvironmentSpec,
    rules: StateRules | None = None,
    updates: int = 5,
    n_steps: int = 30,
) -> TrainOrder:
    """So many updates, each of several epochs that may stop early, on a schedule."""
    return TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=LearnerSpec(
            "ppo",
            hyperparameters={
                "n_steps": n_steps,
                "batch_size": 16,
                "n_epochs": 3,
                "learning_rate": 3e-3,
                "target_kl": 0.02,
            },
            policy_kwargs={"net_arch": [8]},
            learner="native",
        ),
        rules=rules or StateRules(),
        local_steps=updates * n_steps * environment.n_envs,
        steps_done=0,
        steps_total=10**6,
        model=FILE,
        output="o",
        client_state_output="c" if rules is not None and rules.client_has_state else None,
    )


def part(order: TrainOrder, first: int, last: int, links: tuple[str, ...]) -> TrainOrder:
    """The order for these links of a chain."""
    chain = (base_digest(order), *links)
    at: dict[str, Any] = {}
    if first:
        at = {"state": FILE, "state_link": chain[first], "state_previous": chain[first - 1]}
    asked = LinkRange(first=first, last=last, state_output="s", **at)
    return msgspec.structs.replace(order, links=asked)


def bits(tensors: Tensors | None) -> dict[str, bytes]:
    """What must be equal for two sets of tensors to be the same bit for bit."""
    return {name: tensor.tobytes() for name, tensor in (tensors or {}).items()}


class Work:
    """One order's whole work, and parts of it."""

    def __init__(self, order: TrainOrder, client_state: Tensors | None = None) -> None:
        self.order, self.client_state = order, client_state
        self.learner, self.model = load_learner("ppo", "native"), fresh_model(order)
        self.whole = self.learner.train(order, self.model, client_state)

    def do(self, first: int, last: int, state: Tensors | None = None) -> TrainOutcome:
        """The links after `first` up to `last`."""
        order = part(self.order, first, last, self.whole.links)
        if state is not None:
            check_link_state(order, state)
        return self.learner.train(order, self.model, self.client_state, state)

    def check_cut(self, cut: int) -> None:
        """Both parts together are the whole."""
        links = self.whole.links
        head = self.do(0, cut)
        tail = self.do(cut, len(links), head.link_state)
        assert head.links + tail.links == links
        assert bits(tail.tensors) == bits(self.whole.tensors)
        assert bits(tail.client_state) == bits(self.whole.client_state)
        assert head.steps + tail.steps == self.whole.steps
        assert head.episodes + tail.episodes == self.whole.episodes


@pytest.mark.parametrize("normalize", [None, NormalizeSpec()], ids=["fused", "batch"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_cut_at_any_link_the_parts_give_the_whole(id: str, normalize: NormalizeSpec | None) -> None:
    work = Work(order_for(EnvironmentSpec(id, n_envs=3, normalize=normalize), n_steps=90))
    assert len(work.whole.links) == 5
    for cut in range(1, 5):
        work.check_cut(cut)
    if id in ("CartPole-v1", "Pendulum-v1", "MountainCar-v0"):
        assert work.whole.episodes > 0  # some of them cut by the time limit, some in two


@pytest.mark.parametrize(
    "rules",
    [
        StateRules(optimizer="kept"),
        StateRules(optimizer="merged", normalizer="frozen"),
        StateRules(drift="fedprox", proximal=0.3),
        KEPT,
    ],
    ids=["kept", "merged, frozen", "fedprox", "scaffold, kept"],
)
@pytest.mark.parametrize("normalize", [None, NormalizeSpec(rewards=False)])
def test_whatever_the_rules(rules: StateRules, normalize: NormalizeSpec | None) -> None:
    environment = EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=normalize)
    order = order_for(environment, rules)
    before = Work(order).whole.client_state
    work = Work(msgspec.structs.replace(order, seed=10), before)
    for cut in (1, 3):
        work.check_cut(cut)


@pytest.mark.parametrize("normalize", [None, NormalizeSpec()])
def test_links_of_several_updates(normalize: NormalizeSpec | None) -> None:
    environment = EnvironmentSpec("CartPole-v1", n_envs=2, normalize=normalize)
    work = Work(order_for(environment, updates=100, n_steps=8))
    assert len(work.whole.links) == 64
    for cut in (1, 2, 31, 63):
        work.check_cut(cut)
    middle = work.do(20, 21, work.do(0, 20).link_state)
    # ceil(20 * 100 / 64) = 32 updates come before, ceil(21 * 100 / 64) = 33 with it
    assert middle.links == work.whole.links[20:21]
    assert middle.steps == 16


def test_a_link_is_the_digest_of_a_whole_state() -> None:
    environment = EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=NormalizeSpec())
    work = Work(order_for(environment))
    state = work.do(0, 2).link_state
    assert state is not None
    assert tensors_digest(state, work.whole.links[0]) == work.whole.links[1]
    assert state["environment/elapsed_steps"].tolist() == [60, 60]
    assert state["progress/epochs"] >= 2
    assert state["moments/observation/count"] == 2 * 61
    order = part(work.order, 2, 3, work.whole.links)
    forged = state | {"environment/states": state["environment/states"] + 0.1}
    with pytest.raises(WireError, match="does not have the digest"):
        check_link_state(order, forged)


STEPPED = EnvironmentSpec(
    "CartPole-v1", n_envs=2, wrappers=(WrapperSpec("TimeLimit", {"max_episode_steps": 500}),)
)


def test_gymnasium_environments_are_replayed_from_the_beginning_only() -> None:
    order = order_for(STEPPED)
    learner, model = load_learner("ppo", "native"), fresh_model(order)
    whole = learner.train(order, model, None)
    head = learner.train(msgspec.structs.replace(order, links=LinkRange(last=3)), model, None)
    assert (head.links, head.steps) == (whole.links[:3], 180)
    assert bits(head.tensors) != bits(whole.tensors)
    for asked in (part(order, 0, 3, whole.links), part(order, 2, 3, whole.links)):
        with pytest.raises(LearnerRefused, match="native environments without wrappers"):
            learner.train(asked, model, None, {})


def with_entry(name: str, value: float) -> Callable[[Tensors], Tensors]:
    """The state with the first entry of one tensor changed."""

    def change(state: Tensors) -> Tensors:
        tensor = np.array(state[name])
        tensor.reshape(-1)[0] = value
        return state | {name: tensor}

    return change


def without(name: str) -> Callable[[Tensors], Tensors]:
    """The state without one tensor."""
    return lambda state: {n: t for n, t in state.items() if n != name}


HOSTILE: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "no states": (without("environment/states"), "environment/states"),
    "one more": (lambda s: s | {"x": np.zeros(1)}, "x"),
    "another shape": (
        lambda s: s | {"environment/returns": np.zeros(10**6)},
        "environment/returns",
    ),
    "another dtype": (
        lambda s: s | {"environment/episodes": np.zeros(2, np.float64)},
        "environment/episodes",
    ),
    "beyond the time limit": (with_entry("environment/elapsed_steps", 200), "from 0 to 199"),
    "negative steps": (with_entry("environment/elapsed_steps", -1), "from 0 to 199"),
    "steps that wrap": (with_entry("environment/elapsed_steps", 2**32), "from 0 to 199"),
    "episodes": (with_entry("environment/episodes", -1), "environment/episodes"),
    "many episodes": (with_entry("environment/episodes", 2**62), "environment/episodes"),
    "NaN": (with_entry("environment/states", np.nan), "not finite"),
    "far states": (with_entry("environment/states", 1e300), "within 1e"),
    "large returns": (with_entry("environment/returns", 1e300), "within 1e"),
    "large discounted returns": (with_entry("environment/discounted_returns", -1e300), "within 1e"),
    "large mean": (with_entry("normalizer/observation/mean", 1e300), "within 1e"),
    "no epochs": (with_entry("progress/epochs", 1), "progress/epochs"),
    "many epochs": (with_entry("progress/epochs", 2**62), "progress/epochs"),
    "many gradient steps": (with_entry("progress/gradient_steps", 2**62), "gradient_steps"),
    "negative variance": (with_entry("normalizer/observation/var", -1.0), "negative"),
    "no count": (with_entry("normalizer/return/count", 0.0), "positive"),
    "negative squares": (with_entry("squares/return", -1.0), "negative"),
    "samples of others": (with_entry("moments/return/count", 1e18), "count must be 120"),
    "weights": (with_entry("policy/action_net.bias", np.inf), "not finite"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_state_is_checked_before_it_is_used(name: str) -> None:
    change, message = HOSTILE[name]
    environment = EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=NormalizeSpec())
    work = Work(order_for(environment, KEPT))
    state = work.do(0, 2).link_state
    assert state is not None
    order = part(work.order, 2, 3, work.whole.links)
    with pytest.raises((WireError, LearnerRefused), match=message):
        work.learner.train(order, work.model, None, change(state))
