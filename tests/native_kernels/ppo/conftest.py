"""The peer of native_kernels.ppo: Stable-Baselines3's PPO with networks of the same shape."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO

from native_kernels.ppo import PolicyShape

SHAPES = {
    "cartpole": PolicyShape(4, 2),
    "pendulum": PolicyShape(3, 1, "gaussian"),
    "relu": PolicyShape(6, 3, activation="relu"),
    "unlike widths": PolicyShape(5, 4, pi=(33, 17), vf=(8, 70)),
    "linear": PolicyShape(7, 5, pi=(), vf=()),
    "one and three layers": PolicyShape(20, 3, pi=(24,), vf=(16, 40, 9), activation="relu"),
    "four layers": PolicyShape(4, 2, pi=(16, 16, 16, 16), vf=(1, 1)),
    "many actions": PolicyShape(11, 6, "gaussian", pi=(100, 50), vf=(130,)),
    "wide": PolicyShape(40, 18, pi=(256, 64), vf=(512,)),
    "linear gaussian": PolicyShape(1, 2, "gaussian", pi=(), vf=(20,)),
}


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> PolicyShape:
    value: PolicyShape = request.param
    return value


class Nowhere(gymnasium.Env[NDArray[np.float32], Any]):
    """Spaces, and nothing to do in them."""

    def __init__(self, shape: PolicyShape) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (shape.observation_size,), np.float32)
        self.action_space = (
            spaces.Discrete(shape.action_size)
            if shape.distribution == "categorical"
            else spaces.Box(-1.0, 1.0, (shape.action_size,), np.float32)
        )


def peer(shape: PolicyShape, seed: int = 0, *, fresh: bool = False, **settings: Any) -> PPO:
    """SB3's PPO, fresh or with random weights well away from their small starting values."""
    activation = torch.nn.Tanh if shape.activation == "tanh" else torch.nn.ReLU
    model = PPO(
        "MlpPolicy",
        Nowhere(shape),
        policy_kwargs={
            "net_arch": {"pi": list(shape.pi), "vf": list(shape.vf)},
            "activation_fn": activation,
        },
        device="cpu",
        seed=seed,
        **settings,
    )
    if fresh:
        return model
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.policy.named_parameters():
            scale = 0.3 if "bias" in name or name == "log_std" else tensor.shape[-1] ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=random) * scale)
    return model


def flat_weights(model: PPO) -> NDArray[np.float32]:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()]).numpy()


@pytest.fixture
def make_peer() -> Callable[..., PPO]:
    return peer


@pytest.fixture
def weights_of() -> Callable[[PPO], NDArray[np.float32]]:
    return flat_weights


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
