"""Environments by id and by class, wrappers by name, and what is said when one cannot be had."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import pytest

from provider_image.environments import (
    EnvironmentRefused,
    import_environment,
    make_environment,
)
from provider_image.wire import EnvironmentSpec, WrapperSpec

OWN_MODULE = """
import gymnasium, numpy as np

class Corridor(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, length=3):
        self.length = length
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
    def step(self, action):
        return np.ones(1, np.float32), 1.0, True, False, {}

class Twice(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward

NotAnEnvironment = dict
gymnasium.register("derl_test/Corridor-v3", entry_point=Corridor)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with an environment of a user's own."""
    (tmp_path / "derl_test_corridor.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "derl_test_corridor"


def test_a_registered_environment_gets_its_kwargs_and_wrappers_in_order() -> None:
    environment = make_environment(
        EnvironmentSpec(
            id="CartPole-v1",
            kwargs={"sutton_barto_reward": True, "max_episode_steps": 7},
            wrappers=(
                WrapperSpec("FlattenObservation"),
                WrapperSpec("TimeLimit", {"max_episode_steps": 3}),
            ),
        )
    )
    assert isinstance(environment, gymnasium.wrappers.TimeLimit)
    assert isinstance(environment.env, gymnasium.wrappers.FlattenObservation)
    assert environment.render_mode is None
    environment.reset(seed=1)
    steps = [environment.step(step % 2) for step in range(3)]
    assert [step[1] for step in steps] == [0.0, 0.0, 0.0]
    assert [step[3] for step in steps] == [False, False, True]


def test_a_users_class_its_wrapper_and_its_registered_id_are_found(own_module: str) -> None:
    spec = EnvironmentSpec(
        id=f"{own_module}:Corridor",
        kwargs={"length": 5},
        wrappers=(WrapperSpec(f"{own_module}:Twice"),),
    )
    import_environment(spec)
    environment = make_environment(spec)
    assert environment.unwrapped.length == 5  # type: ignore[attr-defined]
    environment.reset(seed=1)
    assert environment.step(0)[1] == 2.0
    by_id = make_environment(EnvironmentSpec(id=f"{own_module}:derl_test/Corridor-v3"))
    assert type(by_id.unwrapped).__name__ == "Corridor"


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (
            EnvironmentSpec(id="CartPol-v1"),
            ["environment CartPol-v1 is not registered", "near names: CartPole-v1", "package:Id"],
        ),
        (EnvironmentSpec(id="CartPole-v7"), ["CartPole-v7", "near names: CartPole-v1"]),
        (EnvironmentSpec(id="qqqqqq"), ["qqqqqq", "no name is near"]),
        (
            EnvironmentSpec(id="no_such_module:Env"),
            ["no_such_module cannot be imported", "Install the package", "in the provider image"],
        ),
        (EnvironmentSpec(id=":Env"), [":Env", "cannot be imported"]),
        (EnvironmentSpec(id="os:system"), ["system in os is no subclass of gymnasium.Env"]),
        (
            EnvironmentSpec(id="derl_test_corridor:Coridor"),
            ["neither has Coridor nor registers it", "near names: Corridor"],
        ),
        (
            EnvironmentSpec(id="derl_test_corridor:NotAnEnvironment"),
            ["NotAnEnvironment", "no subclass"],
        ),
        (
            EnvironmentSpec(id="CartPole-v1", kwargs={"render_mode": "human"}),
            ["kwargs.render_mode cannot be set", "remove it"],
        ),
        (
            EnvironmentSpec(id="CartPole-v1", kwargs={"gravity": 3}),
            ["CartPole-v1 cannot be made", "gravity"],
        ),
        (
            EnvironmentSpec(id="CartPole-v1", wrappers=(WrapperSpec("TimeLimits"),)),
            ["has no wrapper class TimeLimits", "near names: TimeLimit"],
        ),
        (
            EnvironmentSpec(id="CartPole-v1", wrappers=(WrapperSpec("os:system"),)),
            ["os has no wrapper class system"],
        ),
        (
            EnvironmentSpec(id="CartPole-v1", wrappers=(WrapperSpec("TimeLimit", {"steps": 3}),)),
            ["wrapper TimeLimit with {'steps': 3} does not fit", "steps"],
        ),
        (
            EnvironmentSpec(id="FrozenLake-v1", frame_stack=2),
            ["FrozenLake-v1 cannot be made", "frame_stack needs a Box observation"],
        ),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_what_cannot_be_had_is_named_with_the_fix(spec: EnvironmentSpec, parts: list[str]) -> None:
    with pytest.raises(EnvironmentRefused) as refused:
        make_environment(spec)
    for part in parts:
        assert part in str(refused.value)


def test_a_missing_dependency_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_box2d(**_: object) -> gymnasium.Env[object, object]:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setitem(
        gymnasium.registry,
        "Lander-v0",
        gymnasium.envs.registration.EnvSpec("Lander-v0", entry_point=without_box2d),
    )
    with pytest.raises(EnvironmentRefused, match=r"Lander-v0 needs .*Box2D.*Install it on this"):
        make_environment(EnvironmentSpec(id="Lander-v0"))


def test_importing_an_unknown_environment_is_refused() -> None:
    with pytest.raises(EnvironmentRefused, match="near names: Pendulum-v1"):
        import_environment(EnvironmentSpec(id="Pendulum-v2"))
