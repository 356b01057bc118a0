"""The hash chain of SB3's rounds: FORMAT.md by an implementation of its own, and parts of work."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from provider_image.learners import LearnerRefused, TrainOutcome, load_learner
from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    FileRef,
    JsonObject,
    LearnerSpec,
    LinkRange,
    NormalizeSpec,
    TrainOrder,
    base_digest,
)
from tests.provider_image.learners.fresh_model import fresh_model

CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=2)
PENDULUM = EnvironmentSpec(id="Pendulum-v1", normalize=NormalizeSpec())
NET: JsonObject = {"net_arch": [16]}
PPO_FIELDS: JsonObject = {"n_steps": 10, "batch_size": 20, "n_epochs": 2}
OFF_POLICY: JsonObject = {"learning_starts": 10, "batch_size": 16, "buffer_size": 300}
FILE = FileRef(name="m", sha256="0" * 64, bytes=0)


def order_for(
    environment: EnvironmentSpec, algorithm: Algorithm, fields: JsonObject, steps: int = 40
) -> TrainOrder:
    """The first round of a run of 400 steps."""
    return TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=LearnerSpec(algorithm, hyperparameters=fields, policy_kwargs=NET),
        local_steps=steps,
        steps_done=0,
        steps_total=400,
        model=FILE,
        output="o",
    )


def train(order: TrainOrder, last: int | None = None) -> TrainOutcome:
    """Do the order, or its links up to `last` alone."""
    model = fresh_model(order)
    if last is not None:
        order = msgspec.structs.replace(order, links=LinkRange(last=last))
    return load_learner(order.learner.algorithm).train(order, model, None)


def digest(previous: str, tensors: dict[str, Any]) -> str:
    """FORMAT.md, section 6, written down a second time."""
    said = previous.encode()
    for name, array in sorted(tensors.items()):
        shape = "x".join(str(size) for size in array.shape)
        said += b"\x1f" + b"\x1f".join([name.encode(), b"float32", shape.encode(), array.tobytes()])
    return hashlib.sha256(said).hexdigest()


def test_links_are_what_plain_sb3_has_after_each_update() -> None:
    order = order_for(CARTPOLE, "ppo", PPO_FIELDS)
    model = fresh_model(order)
    plain = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 2),
        **PPO_FIELDS,
        policy_kwargs=dict(NET),
        device="cpu",
        seed=9,
    )
    plain.policy.load_state_dict(
        {n.removeprefix("policy/"): torch.from_numpy(t.copy()) for n, t in model.items()}
    )
    plain.set_random_seed(9)
    link, expected = base_digest(order), []
    for is_first in (True, False):
        plain.learn(20, reset_num_timesteps=is_first)
        standing: dict[str, Any] = {
            f"policy/{name}": tensor.numpy() for name, tensor in plain.policy.state_dict().items()
        }
        for index, state in plain.policy.optimizer.state_dict()["state"].items():
            for field, value in state.items():
                standing[f"optimizer/policy/{index}/{field}"] = value.numpy()
        link = digest(link, standing)
        expected.append(link)
    assert list(train(order).links) == expected


@pytest.mark.parametrize(
    ("order", "count", "steps_of_two"),
    [
        (order_for(CARTPOLE, "ppo", PPO_FIELDS, steps=60), 3, 40),
        (order_for(PENDULUM, "a2c", {"n_steps": 5}), 8, 10),
        (order_for(CARTPOLE, "dqn", OFF_POLICY | {"train_freq": 6}), 4, 24),
        (order_for(PENDULUM, "sac", OFF_POLICY, steps=20), 20, 2),
        # 80 collections are 64 links: the second comes after ceil(2 * 80 / 64) = 3
        (order_for(PENDULUM, "td3", OFF_POLICY, steps=80), 64, 3),
    ],
    ids=lambda value: value.learner.algorithm if isinstance(value, TrainOrder) else str(value),
)
def test_a_part_from_the_beginning_has_the_links_of_the_whole(
    order: TrainOrder, count: int, steps_of_two: int
) -> None:
    whole = train(order)
    assert len(whole.links) == len(set(whole.links)) == count
    part = train(order, last=2)
    assert part.links == whole.links[:2]
    assert part.steps == steps_of_two
    assert whole.steps == order.local_steps
    again = train(order, last=count)
    assert again.links == whole.links
    for name, tensor in whole.tensors.items():
        assert again.tensors[name].tobytes() == tensor.tobytes()
    other = train(msgspec.structs.replace(order, seed=10))
    assert not set(other.links) & set(whole.links)


def test_collections_of_episodes_are_one_link() -> None:
    order = order_for(PENDULUM, "ddpg", OFF_POLICY | {"train_freq": [1, "episode"]}, steps=220)
    assert len(train(order).links) == 1


def test_an_optimizer_without_a_name_is_left_out() -> None:
    order = order_for(CARTPOLE, "a2c", {"n_steps": 5})
    sgd = NET | {"optimizer_class": "SGD"}
    learner = msgspec.structs.replace(order.learner, policy_kwargs=sgd)
    assert len(train(msgspec.structs.replace(order, learner=learner)).links) == 4


def test_links_that_sb3_cannot_do_are_refused() -> None:
    order = order_for(CARTPOLE, "ppo", PPO_FIELDS)
    with pytest.raises(LearnerRefused, match=r"links\.last is 3, but this work has 2 links"):
        train(order, last=3)
    late = LinkRange(
        first=1, last=2, state=FILE, state_link="1" * 64, state_previous=base_digest(order)
    )
    for links in (late, LinkRange(last=1, state_output="s")):
        asked = msgspec.structs.replace(order, links=links)
        with pytest.raises(LearnerRefused, match="only the native learner can"):
            load_learner("ppo", "sb3").train(asked, fresh_model(order), None, {})


def test_a_part_keeps_no_state_and_moves_less() -> None:
    order = order_for(PENDULUM, "sac", OFF_POLICY)
    rules = msgspec.structs.replace(order.rules, optimizer="kept", replay="kept")
    order = msgspec.structs.replace(order, rules=rules, client_state_output="s")
    assert train(order).client_state is not None
    part = train(order, last=20)
    assert part.client_state is None
    assert float(part.tensors["moments/observation/count"]) == 21
    assert np.abs(part.tensors["policy/actor.mu.weight"]).max() > 0
