"""The PPO settings that are compared, for Stable-Baselines3, SBX and our kernels alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One set of hyperparameters, in Stable-Baselines3's words.

    decays: names of those that fall linearly to zero over ``decay_steps``, as rl-zoo's ``lin_``.
    """

    title: str
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    learning_rate: float = 3e-4
    clip_range: float = 0.2
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    decays: tuple[str, ...] = ()
    decay_steps: int = 0

    @property
    def rollout(self) -> int:
        """Environment steps of one rollout."""
        return self.n_envs * self.n_steps

    def now(self, name: str, steps: int) -> float:
        """Return learning_rate or clip_range after so many environment steps."""
        value = float(getattr(self, name))
        return value * max(0.0, 1.0 - steps / self.decay_steps) if name in self.decays else value

    def keywords(self) -> dict[str, Any]:
        """Return the arguments of Stable-Baselines3's PPO, n_envs left out."""

        def scheduled(name: str) -> Any:
            value = float(getattr(self, name))
            return (lambda left: left * value) if name in self.decays else value

        return {
            "n_steps": self.n_steps,
            "batch_size": self.batch_size,
            "n_epochs": self.n_epochs,
            "learning_rate": scheduled("learning_rate"),
            "clip_range": scheduled("clip_range"),
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "ent_coef": self.ent_coef,
            "device": "cpu",
        }


CARTPOLE: Mapping[str, Settings] = MappingProxyType(
    {
        "default": Settings("SB3 defaults", n_envs=1, n_steps=2048, batch_size=64, n_epochs=10),
        "zoo": Settings(
            "zoo",
            n_envs=8,
            n_steps=32,
            batch_size=256,
            n_epochs=20,
            learning_rate=1e-3,
            gamma=0.98,
            gae_lambda=0.8,
            decays=("learning_rate", "clip_range"),
            decay_steps=100_000,
        ),
    }
)
LUNAR_LANDER = Settings(
    "zoo",
    n_envs=16,
    n_steps=1024,
    batch_size=64,
    n_epochs=4,
    gamma=0.999,
    gae_lambda=0.98,
    ent_coef=0.01,
)
