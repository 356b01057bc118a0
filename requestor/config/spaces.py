"""What an algorithm cannot do in an environment of which all is known beforehand.

Of others the spaces show when the model is made on this machine, before anything is rented.
"""

from __future__ import annotations

from collections.abc import Iterator

from native_kernels.environments import ENVIRONMENTS, EnvironmentFacts
from requestor.config.algorithms import DQN, Algorithm, Continuous, OnPolicy, PolicyGradient
from requestor.config.contradiction import Contradiction
from requestor.config.sections import EnvConfig


def space_contradictions(algo: Algorithm, env: EnvConfig) -> Iterator[Contradiction]:
    """Yield why `algo` cannot learn in `env`; nothing where wrappers may change what it is like."""
    facts = ENVIRONMENTS.get(env.id)
    if facts is None or env.wrappers:
        return
    yield from _actions(algo, facts)
    if algo.policy != "MlpPolicy":
        yield Contradiction(
            f"{algo.policy} needs other observations than the {facts.observation_size} numbers of "
            f"{facts.id}",
            "algo.policy",
            "use MlpPolicy",
        )


def _actions(algo: Algorithm, facts: EnvironmentFacts) -> Iterator[Contradiction]:
    is_discrete = facts.n_actions > 0
    if isinstance(algo, DQN | PolicyGradient) and not is_discrete:
        yield Contradiction(
            f"{algo.name} takes actions from a list, and those of {facts.id} are continuous",
            "algo.name",
            "use ppo, a2c, sac or td3, or another env.id, as CartPole-v1",
        )
    if isinstance(algo, Continuous) and is_discrete:
        yield Contradiction(
            f"{algo.name} takes continuous actions, and {facts.id} has {facts.n_actions} to "
            "choose from",
            "algo.name",
            "use ppo, a2c or dqn, or another env.id, as Pendulum-v1",
        )
    if isinstance(algo, OnPolicy) and algo.use_sde and is_discrete:
        yield Contradiction(
            f"is for continuous actions, and {facts.id} has {facts.n_actions} to choose from",
            "algo.use_sde",
            "leave it out",
        )
