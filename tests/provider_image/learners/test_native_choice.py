"""Which learner a config gets, and why; who asks for the native one is told what is against it."""

from __future__ import annotations

from typing import Any

import pytest

from provider_image.environments import EnvironmentRefused, Space, Spaces, read_spaces
from provider_image.learners import LearnerRefused, choose_learner
from provider_image.learners.native_choice import choose, stepping_of
from provider_image.wire import (
    EnvironmentSpec,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    WrapperSpec,
)

FLAT = Space("box", "Box(4)", (4,), "float32", (-1.0,) * 4, (1.0,) * 4)
TWO = Space("discrete", "Discrete(2)", n=2)
IMAGE = Space("box", "Box(84, 84, 3)", (84, 84, 3), "uint8")
ARM = Space("box", "Box(3)", (3,), "float32", (-1.0,) * 3, (1.0,) * 3)
CARTPOLE = EnvironmentSpec("CartPole-v1")


def spec(**fields: Any) -> LearnerSpec:
    """A PPO whose learner is left open."""
    return LearnerSpec(**({"algorithm": "ppo", "learner": "auto"} | fields))


def chosen(learner: LearnerSpec, spaces: Spaces | None = None) -> tuple[str, str]:
    """The name and the reason for an environment with these spaces."""
    choice = choose(learner, CARTPOLE, lambda: spaces or Spaces(FLAT, TWO))
    return choice.learner, choice.reason


@pytest.mark.parametrize(
    "learner",
    [
        spec(),
        spec(policy_kwargs={"net_arch": [], "activation_fn": "relu"}),
        spec(policy_kwargs={"net_arch": {"pi": [512, 512, 512, 512], "vf": [1]}}),
        spec(policy_kwargs={"net_arch": {"vf": [16]}, "log_std_init": -1.0}),
        spec(policy_kwargs={"optimizer_kwargs": {"betas": [0.5, 0.9], "eps": 1e-7}}),
        spec(policy_kwargs={"share_features_extractor": False, "normalize_images": False}),
        spec(schedules={"learning_rate": Schedule("linear", 1e-3)}),
        spec(hyperparameters={"clip_range_vf": 0.2, "target_kl": 0.01, "learning_rate": 1e-3}),
    ],
    ids=lambda learner: str(learner.policy_kwargs or learner.hyperparameters)[:40],
)
@pytest.mark.parametrize("action", [TWO, ARM], ids=["discrete", "continuous"])
def test_what_fits_is_native(learner: LearnerSpec, action: Space) -> None:
    name, reason = chosen(learner, Spaces(FLAT, action))
    assert name == "native"
    assert reason.startswith("CartPole-v1 is a native environment")


MISFITS: list[tuple[LearnerSpec, Spaces | None, str]] = [
    (spec(policy="CnnPolicy"), None, "policy is CnnPolicy; it has MlpPolicy"),
    (
        spec(policy_kwargs={"activation_fn": "elu"}),
        None,
        "policy_kwargs.activation_fn is elu; it has tanh and relu",
    ),
    (spec(policy_kwargs={"net_arch": [64] * 5}), None, "at most 4, of at most 512 units"),
    (spec(policy_kwargs={"net_arch": [513]}), None, "net_arch has layers [513]"),
    (spec(policy_kwargs={"ortho_init": False}), None, "policy_kwargs.ortho_init is false"),
    (spec(policy_kwargs={"squash_output": True}), None, "policy_kwargs.squash_output is true"),
    (
        spec(policy_kwargs={"optimizer_class": "RMSprop"}),
        None,
        "policy_kwargs.optimizer_class is RMSprop; it has Adam",
    ),
    (
        spec(policy_kwargs={"optimizer_kwargs": {"weight_decay": 0.1}}),
        None,
        "policy_kwargs.optimizer_kwargs: object contains unknown field `weight_decay`",
    ),
    (
        spec(policy_kwargs={"optimizer_kwargs": {"betas": [1.0, 0.9]}}),
        None,
        "policy_kwargs.optimizer_kwargs.betas are [1.0, 0.9]",
    ),
    (spec(hyperparameters={"use_sde": True}), None, "use_sde is true"),
    (spec(hyperparameters={"n_step": 8}), None, "hyperparameters: object contains unknown field"),
    (spec(hyperparameters={"batch_size": "x"}), None, "hyperparameters.batch_size: expected `int`"),
    (spec(hyperparameters={"batch_size": 1}), None, "batch_size is 1"),
    (
        spec(
            hyperparameters={"clip_range": 0.1}, schedules={"clip_range": Schedule("constant", 0.1)}
        ),
        None,
        "clip_range is given as hyperparameter and as schedule",
    ),
    (spec(), Spaces(IMAGE, TWO), "the observation space is Box(84, 84, 3)"),
    (spec(), Spaces(TWO, TWO), "the observation space is Discrete(2)"),
    (spec(), Spaces(FLAT, Space("other", "MultiBinary(3)")), "the action space is MultiBinary(3)"),
    (spec(), Spaces(FLAT, TWO._replace(start=1)), "Discrete(2) and more, from 0"),
    (spec(), Spaces(FLAT, ARM._replace(dtype="int32")), "Box of floats"),
]


@pytest.mark.parametrize(
    ("learner", "spaces", "reason"), MISFITS, ids=[reason[:40] for _, _, reason in MISFITS]
)
def test_what_does_not_fit_is_sb3_and_says_why(
    learner: LearnerSpec, spaces: Spaces | None, reason: str
) -> None:
    name, said = chosen(learner, spaces)
    assert name == "sb3"
    assert said.startswith("native does not fit: ")
    assert reason in said
    asked = LearnerSpec(
        algorithm="ppo",
        learner="native",
        policy=learner.policy,
        policy_kwargs=learner.policy_kwargs,
        hyperparameters=learner.hyperparameters,
        schedules=learner.schedules,
    )
    with pytest.raises(LearnerRefused) as refused:
        chosen(asked, spaces)
    assert reason in str(refused.value)
    assert str(refused.value).endswith("or set learner to auto")


def test_other_algorithms_have_one_learner() -> None:
    assert chosen(spec(algorithm="sac")) == ("sb3", "sac has no other learner")
    with pytest.raises(LearnerRefused, match="algorithm is sac; it does ppo"):
        chosen(spec(algorithm="sac", learner="native"))


def test_who_asks_for_sb3_gets_it_without_an_environment_being_made() -> None:
    order = InitialiseOrder(
        run_id="r",
        seed=0,
        environment=EnvironmentSpec("Nowhere-v0"),
        learner=spec(learner="sb3"),
        output="o",
    )
    assert choose_learner(order).learner == "sb3"


def test_an_environment_that_cannot_be_had_is_told_by_its_own_words() -> None:
    order = InitialiseOrder(
        run_id="r",
        seed=0,
        environment=EnvironmentSpec("CartPol-v1"),
        learner=spec(),
        output="o",
    )
    with pytest.raises(EnvironmentRefused, match="near names: CartPole-v1"):
        choose_learner(order)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (CARTPOLE, "fused"),
        (EnvironmentSpec("Pendulum-v1", frame_stack=1), "fused"),
        (EnvironmentSpec("Pendulum-v1", normalize=NormalizeSpec()), "batch"),
        (EnvironmentSpec("CartPole-v1", kwargs={"sutton_barto_reward": True}), "gymnasium"),
        (EnvironmentSpec("CartPole-v1", wrappers=(WrapperSpec("ClipReward"),)), "gymnasium"),
        (EnvironmentSpec("CartPole-v1", frame_stack=2), "gymnasium"),
        (EnvironmentSpec("LunarLander-v3"), "gymnasium"),
        (EnvironmentSpec("my_package:CartPole-v1"), "gymnasium"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_environments_are_stepped_as_near_to_the_kernels_as_can_be(
    environment: EnvironmentSpec, expected: str
) -> None:
    assert stepping_of(environment) == expected


def test_spaces_are_read_as_they_are() -> None:
    spaces = read_spaces(EnvironmentSpec("Pendulum-v1", frame_stack=2))
    assert spaces.observation.shape == (6,)
    assert spaces.observation.dtype == "float32"
    assert spaces.observation.high == (1, 1, 1, 1, 8, 8)
    assert spaces.action.text == "Box(-2.0, 2.0, (1,), float32)"
    low, high = spaces.action.bounds()
    assert (low.dtype.name, low.tolist(), high.tolist()) == ("float32", [-2.0], [2.0])
    assert read_spaces(CARTPOLE).action == Space("discrete", "Discrete(2)", n=2)
