"""The config's names, defaults and limits against the constructors of the installed SB3."""

import inspect

import pytest
import stable_baselines3
from pydantic import BaseModel
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from requestor.config.algorithms import REFUSED, SB3_ALGORITHMS
from requestor.config.policies import PolicyKwargs
from requestor.config.values import Scheduled, TrainFrequency

OUR_OWN = {"name", "learner", "noise_type", "noise_std"}
OWNED_POLICY_KWARGS = {
    "self",
    "observation_space",
    "action_space",
    "lr_schedule",
    "use_sde",  # SB3 passes the algorithm's own
    "features_extractor_class",
    "features_extractor_kwargs",
}


def sb3_class(name: str) -> type[BaseAlgorithm]:
    found: type[BaseAlgorithm] = getattr(stable_baselines3, name.upper())
    return found


def plain(value: object) -> object:
    """Our default in SB3's own form."""
    if isinstance(value, Scheduled):
        return value.start
    if isinstance(value, TrainFrequency):
        return value.every
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True) or None
    return value


@pytest.mark.parametrize("name", sorted(SB3_ALGORITHMS))
def test_every_constructor_argument_can_be_set_or_is_refused_with_a_reason(name: str) -> None:
    arguments = set(inspect.signature(sb3_class(name)).parameters)
    ours = set(SB3_ALGORITHMS[name].model_fields) - OUR_OWN
    assert ours <= arguments
    assert arguments - ours <= set(REFUSED)
    assert not ours & set(REFUSED)


@pytest.mark.parametrize("name", sorted(SB3_ALGORITHMS))
def test_defaults_are_those_of_sb3(name: str) -> None:
    arguments = inspect.signature(sb3_class(name)).parameters
    for field, info in SB3_ALGORITHMS[name].model_fields.items():
        if field not in OUR_OWN | {"policy"}:
            assert plain(info.default) == arguments[field].default, field


@pytest.mark.parametrize("name", sorted(SB3_ALGORITHMS))
def test_policies_are_those_of_sb3(name: str) -> None:
    assert set(sb3_class(name).policy_aliases) == {"MlpPolicy", "CnnPolicy", "MultiInputPolicy"}


@pytest.mark.parametrize("name", sorted(SB3_ALGORITHMS))
def test_policy_kwargs_are_those_of_the_policy(name: str) -> None:
    policy: type[BasePolicy] = sb3_class(name).policy_aliases["MlpPolicy"]
    arguments = set(inspect.signature(policy).parameters) - OWNED_POLICY_KWARGS
    kwargs = SB3_ALGORITHMS[name].model_fields["policy_kwargs"].default
    assert isinstance(kwargs, PolicyKwargs)
    assert set(type(kwargs).model_fields) == arguments


@pytest.mark.parametrize("name", sorted(SB3_ALGORITHMS))
def test_kinds_are_those_of_sb3(name: str) -> None:
    assert SB3_ALGORITHMS[name].is_on_policy == issubclass(sb3_class(name), OnPolicyAlgorithm)
