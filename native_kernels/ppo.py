"""Proximal policy optimisation of a perceptron actor-critic, as Stable-Baselines3 does it.

Weights pass in and out in the order and shapes of SB3's ``policy.state_dict()``. Given the same
weights, rollout and order of samples, gradients and weights are SB3's within 1e-5; and the same
bits come out at every processor level and for any number of threads.

Sources: Schulman et al. 2017 (arXiv 1707.06347); Stable-Baselines3 2.9, ``ppo/ppo.py``; Kingma and
Ba 2015 (Adam) as in PyTorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = [
    "Drift",
    "PolicyShape",
    "Ppo",
    "PpoSettings",
    "Rollout",
    "UpdateReport",
    "orthogonal_parameters",
]

MAX_DEPTH = 4
MAX_WIDTH = 512

Actions = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class PolicyShape:
    """The networks of SB3's ``MlpPolicy``: an actor and a critic that share nothing.

    observation_size: length of a flat observation, 1 or more.
    action_size: number of actions (categorical, 2 or more) or of action components (gaussian).
    pi, vf: widths of the hidden layers of actor and critic, 0 to 4 layers of 1 to 512 units.

    Raises ValueError or TypeError naming the field.
    """

    observation_size: int
    action_size: int
    distribution: Literal["categorical", "gaussian"] = "categorical"
    pi: tuple[int, ...] = (64, 64)
    vf: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pi", _widths("pi", self.pi))
        object.__setattr__(self, "vf", _widths("vf", self.vf))
        _require_choice("distribution", self.distribution, ("categorical", "gaussian"))
        _require_choice("activation", self.activation, ("tanh", "relu"))
        _require_integer("observation_size", self.observation_size, 1, 1 << 16)
        least = 2 if self.distribution == "categorical" else 1
        _require_integer("action_size", self.action_size, least, 1 << 12)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of SB3's ``policy.state_dict()``, in the order of ``parameters()``."""
        found: dict[str, tuple[int, ...]] = {}
        if self.distribution == "gaussian":
            found["log_std"] = (self.action_size,)
        last = {}
        for name, widths in (("policy_net", self.pi), ("value_net", self.vf)):
            inputs = self.observation_size
            for layer, outputs in enumerate(widths):
                place = f"mlp_extractor.{name}.{2 * layer}"  # activations have numbers, too
                found[f"{place}.weight"], found[f"{place}.bias"] = (outputs, inputs), (outputs,)
                inputs = outputs
            last[name] = inputs
        for head, outputs, inputs in (
            ("action_net", self.action_size, last["policy_net"]),
            ("value_net", 1, last["value_net"]),
        ):
            found[f"{head}.weight"], found[f"{head}.bias"] = (outputs, inputs), (outputs,)
        return found

    @property
    def parameter_count(self) -> int:
        """P: the number of entries of all tensors together."""
        return sum(prod(shape) for shape in self.tensors.values())


@dataclass(frozen=True)
class PpoSettings:
    """What SB3's ``PPO`` calls by the same names; schedules are evaluated by the caller.

    clip_range_vf None: the value is not clipped. target_kl None: no early stopping. A batch_size
    beyond the samples of a rollout takes them all.

    Raises ValueError or TypeError naming the field.
    """

    learning_rate: float = 3e-4
    clip_range: float = 0.2
    clip_range_vf: float | None = None
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    normalize_advantage: bool = True
    target_kl: float | None = None
    batch_size: int = 64
    n_epochs: int = 10
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _require_integer("batch_size", self.batch_size, 1, 1 << 30)
        _require_integer("n_epochs", self.n_epochs, 1, 1 << 20)
        for name in ("learning_rate", "ent_coef", "vf_coef"):
            _require_number(name, getattr(self, name), 0.0, above=False)
        for name in ("clip_range", "max_grad_norm", "adam_epsilon"):
            _require_number(name, getattr(self, name), 0.0, above=True)
        for name in ("clip_range_vf", "target_kl"):
            if getattr(self, name) is not None:
                _require_number(name, getattr(self, name), 0.0, above=True)
        for beta in self.adam_betas:
            _require_number("adam_betas", beta, 0.0, above=False)
            if beta >= 1.0:
                raise ValueError(f"adam_betas: must be below 1, is {beta}")


@dataclass(frozen=True)
class Drift:
    """What is added to the gradient of every minibatch, as if part of the loss.

    proximal * (weights - anchor), FedProx's term (Li et al. 2020, arXiv 1812.06127), and
    ``correction``, with SCAFFOLD's control variates c - c_i (Karimireddy et al. 2020, arXiv
    1910.06378). Both are added before the gradient's norm is clipped and change no report's losses.

    proximal: 0 or more. anchor: float32[P], given exactly when proximal is above 0. correction:
    float32[P] or None. P and the order are those of ``PolicyShape.tensors``.

    Raises ValueError or TypeError naming the field; the arrays are checked where they are used.
    """

    proximal: float = 0.0
    anchor: NDArray[np.float32] | None = None
    correction: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _require_number("proximal", self.proximal, 0.0, above=False)
        if (self.proximal > 0) != (self.anchor is not None):
            raise ValueError("anchor: must be given exactly when proximal is above 0")


@dataclass(frozen=True)
class Rollout:
    """What T steps of B environments gave; arrays in C order.

    observations: float32[T, B, O]. actions: int64[T, B] (categorical) or float32[T, B, A].
    log_probs, values, advantages, returns: float32[T, B].
    """

    observations: NDArray[np.float32]
    actions: Actions
    log_probs: NDArray[np.float32]
    values: NDArray[np.float32]
    advantages: NDArray[np.float32]
    returns: NDArray[np.float32]


@dataclass(frozen=True)
class UpdateReport:
    """What SB3 logs under ``train/``, and how much was done.

    Losses and clip_fraction: means over minibatches, the one that stopped the update included.
    approx_kl: mean over the last epoch's minibatches. loss: the last minibatch's.
    explained_variance: NaN where the returns are all equal. epochs: begun. updates: steps taken.
    """

    policy_gradient_loss: float
    value_loss: float
    entropy_loss: float
    approx_kl: float
    clip_fraction: float
    loss: float
    explained_variance: float
    epochs: int
    updates: int


class Ppo:
    """An actor-critic and its Adam optimizer, whose memory is C++'s.

    shape: the networks. parameters: float32[P], the tensors of ``shape.tensors`` one after the
    other, each flat in C order; finite. threads: at most so many work on one update; the results
    do not depend on it. An object takes one call at a time; it is not to be shared by threads.

    Raises TypeError for another dtype, ValueError for another length or entries that are not
    finite; the message names the argument.
    """

    def __init__(
        self, shape: PolicyShape, parameters: NDArray[np.float32], *, threads: int = 1
    ) -> None:
        _require_integer("threads", threads, 1, 1024)
        self.shape = shape
        self.native = _native.ppo.Ppo(_native_shape(shape), parameters, threads)

    @property
    def parameters(self) -> NDArray[np.float32]:
        """A copy of the weights, float32[P], in the order of ``shape.tensors``."""
        return self.native.parameters()

    def act(
        self, observations: NDArray[np.float32], *, seed: int, step: int
    ) -> tuple[Actions, NDArray[np.float32], NDArray[np.float32]]:
        """Sample an action for each of B observations, float32[B, O].

        Row b takes the random numbers of (seed, step, b), whatever else is in the batch.
        Returns (actions int64[B] or float32[B, A], values float32[B], log-probabilities
        float32[B]). Continuous actions are not clipped to the action space.

        Raises TypeError for another dtype, ValueError for another shape or order or entries that
        are not finite; the message names the argument. The same for the two methods below.
        """
        return self.native.act(observations, seed, step)

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The critic's values of float32[B, O], float32[B]."""
        return self.native.values(observations)

    def best_actions(self, observations: NDArray[np.float32]) -> Actions:
        """The most probable actions: the first largest logit, int64[B], or the means, [B, A]."""
        return self.native.best_actions(observations)

    @property
    def optimizer_state(self) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
        """Adam's state as PyTorch names it: (step, exp_avg float32[P], exp_avg_sq float32[P])."""
        return self.native.optimizer_state()

    def load_optimizer_state(
        self, step: int, exp_avg: NDArray[np.float32], exp_avg_sq: NDArray[np.float32]
    ) -> None:
        """Go on from another optimizer's state, as ``optimizer_state`` gives it.

        step: updates done, 0 or more. exp_avg, exp_avg_sq: float32[P].

        Raises TypeError for another dtype, ValueError for another length, a negative step or
        entries that are not finite or, in exp_avg_sq, negative.
        """
        self.native.load_optimizer_state(step, exp_avg, exp_avg_sq)

    def update(
        self,
        rollout: Rollout,
        settings: PpoSettings,
        *,
        seed: int = 0,
        first_epoch: int = 0,
        order: NDArray[np.int64] | None = None,
        drift: Drift | None = None,
    ) -> UpdateReport:
        """SB3's ``PPO.train()``: n_epochs passes over the rollout in minibatches.

        order: int64[n_epochs, N] with N = T * B, the samples of each pass in turn, numbered as SB3
        flattens its buffer: b * T + t. None: shuffled by (seed, first_epoch + epoch). drift: added
        to every gradient.

        Raises TypeError or ValueError naming the argument, also where an entry is not finite, and
        FloatingPointError where the gradient is not finite; nothing has changed then.
        """
        for name, number in (("seed", seed), ("first_epoch", first_epoch)):
            _require_integer(name, number, 0, (1 << 64) - 1)
        policy, value, entropy, divergence, clipped, loss, epochs, updates = self.native.update(
            *_arrays(rollout),
            _native_settings(settings),
            order,
            seed,
            first_epoch,
            _native_drift(drift),
        )
        explained = _explained_variance(rollout.values, rollout.returns)
        return UpdateReport(
            policy, value, entropy, divergence, clipped, loss, explained, epochs, updates
        )

    @property
    def gradient_sum(self) -> NDArray[np.float32]:
        """The sum of the gradients of the last update's steps, before drift and clipping.

        float32[P]; kept only by an update with a drift that has a correction, else zeros.
        """
        return self.native.gradient_sum()

    def gradient(
        self,
        rollout: Rollout,
        settings: PpoSettings,
        indices: NDArray[np.int64],
        drift: Drift | None = None,
    ) -> NDArray[np.float32]:
        """The gradient of the loss and the drift, float32[P], before clipping of its norm.

        indices: int64[M], the samples of one minibatch, numbered as in ``update``.
        Raises as ``update`` does.
        """
        return self.native.gradient(
            *_arrays(rollout), _native_settings(settings), indices, _native_drift(drift)
        )


def orthogonal_parameters(
    shape: PolicyShape, seed: int, log_std_init: float = 0.0
) -> NDArray[np.float32]:
    """Weights to start from, float32[P], distributed as SB3's with ``ortho_init``.

    Orthogonal matrices times a gain of sqrt(2) (hidden layers), 0.01 (action head) or 1 (value
    head); biases zero; log_std, if any, log_std_init. The same bits on every machine; not the
    numbers that PyTorch draws for a seed. Source: Saxe et al. 2013 (arXiv 1312.6120).

    seed: from 0 to 2^64 - 1; another one is a ValueError.
    """
    _require_integer("seed", seed, 0, (1 << 64) - 1)
    return _native.ppo.orthogonal_parameters(_native_shape(shape), seed, log_std_init)


def _native_shape(shape: PolicyShape) -> _native.ppo.PolicyShape:
    return _native.ppo.PolicyShape(
        observation_size=shape.observation_size,
        action_size=shape.action_size,
        is_gaussian=shape.distribution == "gaussian",
        pi=list(shape.pi),
        vf=list(shape.vf),
        is_relu=shape.activation == "relu",
    )


def _arrays(
    rollout: Rollout,
) -> tuple[
    NDArray[np.float32],
    Actions,
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
]:
    return (
        rollout.observations,
        rollout.actions,
        rollout.log_probs,
        rollout.values,
        rollout.advantages,
        rollout.returns,
    )


def _native_settings(settings: PpoSettings) -> _native.ppo.UpdateSettings:
    return _native.ppo.UpdateSettings(
        learning_rate=settings.learning_rate,
        clip_range=settings.clip_range,
        clip_range_vf=settings.clip_range_vf or 0.0,
        entropy_weight=settings.ent_coef,
        value_weight=settings.vf_coef,
        max_gradient_norm=settings.max_grad_norm,
        normalises_advantage=settings.normalize_advantage,
        target_divergence=settings.target_kl or 0.0,
        batch_size=settings.batch_size,
        epochs=settings.n_epochs,
        beta1=settings.adam_betas[0],
        beta2=settings.adam_betas[1],
        epsilon=settings.adam_epsilon,
    )


def _native_drift(drift: Drift | None) -> _native.ppo.Drift | None:
    if drift is None:
        return None
    return _native.ppo.Drift(drift.proximal, drift.anchor, drift.correction)


def _explained_variance(values: NDArray[np.float32], returns: NDArray[np.float32]) -> float:
    targets = returns.astype(np.float64)
    variance = float(targets.var())
    return 1.0 - float((targets - values).var()) / variance if variance > 0.0 else float("nan")


def _widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    if len(widths) > MAX_DEPTH:
        raise ValueError(
            f"{name}: must have at most {MAX_DEPTH} hidden layers, has {len(widths)}; "
            "fix: fewer layers, or SB3's own learner"
        )
    for width in widths:
        _require_integer(name, width, 1, MAX_WIDTH)
    return tuple(int(width) for width in widths)


def _require_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: must be an integer, is {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: must be from {low} to {high}, is {value}")


def _require_number(name: str, value: float, low: float, *, above: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name}: must be a number, is {value!r}")
    if not (low < value < float("inf") if above else low <= value < float("inf")):
        limit = "above" if above else "at least"
        raise ValueError(f"{name}: must be finite and {limit} {low:g}, is {value}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(choices)}, is {value!r}")
