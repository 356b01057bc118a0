"""`algo`: one section per algorithm, with SB3's constructor names, defaults and types; and two
methods of federated policy gradients that SB3 does not have.

A test compares the fields with the constructors of the installed SB3, so that neither side drifts.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field

from requestor.config.policies import (
    ActorCriticKwargs,
    DQNKwargs,
    PerceptronKwargs,
    SACKwargs,
    TD3Kwargs,
)
from requestor.config.values import (
    Bool,
    CountOrAll,
    EntropyCoefficient,
    Fraction,
    NonNegative,
    NonNegativeWhole,
    Number,
    Positive,
    PositiveWhole,
    Scheduled,
    ScheduledValue,
    Section,
    TargetEntropy,
    TrainFrequency,
    TrainFrequencyValue,
    plain_data,
)

REFUSED = {
    "env": "the environment is described by env",
    "n_timesteps": "set federation.rounds and federation.local_steps instead",
    "total_timesteps": "set federation.rounds and federation.local_steps instead",
    "device": "a provider's worker runs on its processor",
    "seed": "set seed at the top level; every client and round derives its own from it",
    "verbose": "set by derl-request",
    "tensorboard_log": "derl-request writes TensorBoard files into the run folder",
    "_init_setup_model": "set by derl-request",
    "n_envs": "set env.n_envs instead",
    "normalize": "set env.normalize instead",
    "frame_stack": "set env.frame_stack instead",
    "env_wrapper": "set env.wrappers instead",
    "vec_env_wrapper": "only wrappers around one environment can be used, in env.wrappers",
    "callback": "the requestor's own steps run between rounds",
    "rollout_buffer_class": "code cannot be sent in a config",
    "rollout_buffer_kwargs": "the rollout buffer is SB3's own",
    "replay_buffer_class": "code cannot be sent in a config",
    "replay_buffer_kwargs": "the replay buffer is SB3's own",
    "optimize_memory_usage": "SB3 refuses it for environments with time limits",
    "action_noise": "set noise_type and noise_std instead",
}
"""SB3 and rl-zoo names that a config cannot set, each with the reason or the way to go."""

SB3Learner: TypeAlias = Literal["auto", "sb3"]
"""What executes an algorithm that only SB3 has."""

EpisodeCount: TypeAlias = Annotated[PositiveWhole, Field(le=1024)]

PolicyName: TypeAlias = Literal["MlpPolicy", "CnnPolicy", "MultiInputPolicy"]


class Algorithm(Section):
    """What every algorithm has."""

    is_on_policy: ClassVar[bool]
    scheduled: ClassVar[tuple[str, ...]] = ("learning_rate",)

    name: str
    learner: str = "auto"
    policy: PolicyName = "MlpPolicy"
    learning_rate: ScheduledValue
    gamma: Fraction = 0.99


class OnPolicy(Algorithm):
    """What PPO and A2C share."""

    is_on_policy: ClassVar[bool] = True

    n_steps: PositiveWhole
    gae_lambda: Fraction
    ent_coef: NonNegative = 0.0
    vf_coef: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    normalize_advantage: Bool
    use_sde: Bool = False
    sde_sample_freq: CountOrAll = -1
    stats_window_size: PositiveWhole = 100
    policy_kwargs: Annotated[ActorCriticKwargs, BeforeValidator(plain_data)] = ActorCriticKwargs()


class PPO(OnPolicy):
    """Proximal policy optimisation."""

    scheduled: ClassVar[tuple[str, ...]] = ("learning_rate", "clip_range", "clip_range_vf")

    name: Literal["ppo"]
    learner: Literal["auto", "native", "sb3"] = "auto"
    learning_rate: ScheduledValue = Scheduled(3e-4)
    n_steps: PositiveWhole = 2048
    batch_size: PositiveWhole = 64
    n_epochs: PositiveWhole = 10
    gae_lambda: Fraction = 0.95
    clip_range: ScheduledValue = Scheduled(0.2)
    clip_range_vf: ScheduledValue | None = None
    normalize_advantage: Bool = True
    target_kl: Positive | None = None


class A2C(OnPolicy):
    """Advantage actor-critic."""

    name: Literal["a2c"]
    learner: SB3Learner = "auto"
    learning_rate: ScheduledValue = Scheduled(7e-4)
    n_steps: PositiveWhole = 5
    gae_lambda: Fraction = 1.0
    rms_prop_eps: Positive = 1e-5
    use_rms_prop: Bool = True
    normalize_advantage: Bool = False


class OffPolicy(Algorithm):
    """What DQN, SAC, TD3 and DDPG share."""

    is_on_policy: ClassVar[bool] = False

    buffer_size: PositiveWhole = 1_000_000
    learning_starts: NonNegativeWhole = 100
    batch_size: PositiveWhole = 256
    tau: Fraction = 0.005
    train_freq: TrainFrequencyValue = TrainFrequency(1)
    gradient_steps: CountOrAll = 1
    n_steps: PositiveWhole = 1


class DQN(OffPolicy):
    """Deep Q-network."""

    name: Literal["dqn"]
    learner: SB3Learner = "auto"
    learning_rate: ScheduledValue = Scheduled(1e-4)
    batch_size: PositiveWhole = 32
    tau: Fraction = 1.0
    train_freq: TrainFrequencyValue = TrainFrequency(4)
    target_update_interval: PositiveWhole = 10_000
    exploration_fraction: Fraction = 0.1
    exploration_initial_eps: Fraction = 1.0
    exploration_final_eps: Fraction = 0.05
    max_grad_norm: Positive = 10.0
    stats_window_size: PositiveWhole = 100
    policy_kwargs: Annotated[DQNKwargs, BeforeValidator(plain_data)] = DQNKwargs()


class Continuous(OffPolicy):
    """What SAC, TD3 and DDPG share: noise added to actions, under rl-zoo's names."""

    noise_type: Literal["normal", "ornstein-uhlenbeck"] | None = None
    noise_std: NonNegative = 0.0


class SAC(Continuous):
    """Soft actor-critic."""

    name: Literal["sac"]
    learner: SB3Learner = "auto"
    learning_rate: ScheduledValue = Scheduled(3e-4)
    ent_coef: EntropyCoefficient = "auto"
    target_update_interval: PositiveWhole = 1
    target_entropy: TargetEntropy = "auto"
    use_sde: Bool = False
    sde_sample_freq: CountOrAll = -1
    use_sde_at_warmup: Bool = False
    stats_window_size: PositiveWhole = 100
    policy_kwargs: Annotated[SACKwargs, BeforeValidator(plain_data)] = SACKwargs()


class TD3(Continuous):
    """Twin delayed DDPG."""

    name: Literal["td3"]
    learner: SB3Learner = "auto"
    learning_rate: ScheduledValue = Scheduled(1e-3)
    policy_delay: PositiveWhole = 2
    target_policy_noise: NonNegative = 0.2
    target_noise_clip: NonNegative = 0.5
    stats_window_size: PositiveWhole = 100
    policy_kwargs: Annotated[TD3Kwargs, BeforeValidator(plain_data)] = TD3Kwargs()


class DDPG(Continuous):
    """Deep deterministic policy gradient."""

    name: Literal["ddpg"]
    learner: SB3Learner = "auto"
    learning_rate: ScheduledValue = Scheduled(1e-3)
    policy_kwargs: Annotated[TD3Kwargs, BeforeValidator(plain_data)] = TD3Kwargs()


class PolicyGradient(Algorithm):
    """Methods of federated policy gradients: clients estimate, the server takes the steps.

    They are no algorithms of SB3; `horizon` is the most steps of an episode, and with
    `squash_logits` the network's outputs go through tanh, as published.
    """

    is_on_policy: ClassVar[bool] = True
    step_weights: ClassVar[str]
    keeps_previous: ClassVar[bool] = False

    learner: Literal["auto", "native"] = "auto"
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    horizon: Annotated[PositiveWhole, Field(le=100_000)] = 500
    gamma: Fraction = 0.999
    squash_logits: Bool = True
    policy_kwargs: Annotated[PerceptronKwargs, BeforeValidator(plain_data)] = PerceptronKwargs()

    @property
    def episodes_at_most(self) -> int:
        """The most episodes that a client plays in a round."""
        raise NotImplementedError


class FedPGBR(PolicyGradient):
    """FedPG-BR (Fan et al. 2021, arXiv 2110.14074); defaults as published for CartPole.

    `least_episodes` to `most_episodes` are drawn for each round; between its steps the server
    plays `server_episodes` itself, until the mean importance ratio is `ratio_bound` off 1.
    """

    step_weights: ClassVar[str] = "whitened"

    name: Literal["fedpg_br"]
    learning_rate: ScheduledValue = Scheduled(1e-3)
    least_episodes: EpisodeCount = 12
    most_episodes: EpisodeCount = 20
    server_episodes: EpisodeCount = 4
    ratio_bound: Positive = 0.005

    @property
    def episodes_at_most(self) -> int:
        """See `PolicyGradient`."""
        return self.most_episodes


class ByzPG(PolicyGradient):
    """Centralised ByzPG (Jordan et al. 2024, arXiv 2401.03489); defaults as published.

    With `large_chance` clients estimate the gradient from `large_episodes`, else what it has
    changed by from `small_episodes` (PAGE), importance ratios bounded by `max_ratio`.
    """

    step_weights: ClassVar[str] = "discounted"
    keeps_previous: ClassVar[bool] = True

    name: Literal["byzpg"]
    learning_rate: ScheduledValue = Scheduled(5e-4)
    large_episodes: EpisodeCount = 50
    small_episodes: EpisodeCount = 4
    large_chance: Fraction = 0.2
    max_ratio: Annotated[Number, Field(ge=1)] = 10.0

    @property
    def episodes_at_most(self) -> int:
        """See `PolicyGradient`."""
        return max(self.large_episodes, self.small_episodes)


def _lower_name(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return {**value, "name": value["name"].lower()}
    return value


AnyAlgorithm: TypeAlias = Annotated[
    PPO | A2C | DQN | SAC | TD3 | DDPG | FedPGBR | ByzPG,
    Discriminator("name"),
    BeforeValidator(_lower_name),
]

SB3_ALGORITHMS: dict[str, type[Algorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "dqn": DQN,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
}

METHODS: dict[str, type[PolicyGradient]] = {"fedpg_br": FedPGBR, "byzpg": ByzPG}

ALGORITHMS: dict[str, type[Algorithm]] = SB3_ALGORITHMS | METHODS
