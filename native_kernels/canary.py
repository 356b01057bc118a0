"""The canary: tiny training rounds whose bits are known, for who is about to sell or merge one.

It takes milliseconds and imports nothing that a round does not; ``selftest`` has the other checks.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings
from native_kernels.rollouts import Collector

__all__ = [
    "BITS",
    "KernelsUnfitError",
    "canary_problem",
    "check_rounds",
    "compare_digests",
    "training_round",
]

Floats = NDArray[np.float32]

CANARY = {
    ("CartPole-v1", PolicyShape(4, 2, pi=(16, 16), vf=(16,))): (
        "1a5f34311782533a23afe89c422b426fff8e3de0114fa9a136386bf6968dacb8"
    ),
    ("Pendulum-v1", PolicyShape(3, 1, "gaussian", pi=(16,), vf=(16,), activation="relu")): (
        "6257926a6f0697db581f5561b063e3dc8d72fcde5f4cf352b45dde4293c3184f"
    ),
}
"""SHA-256 of tiny training rounds. Who replays a stranger's round to audit it relies on these."""

BITS = hashlib.sha256("".join(CANARY.values()).encode()).hexdigest()[:16]
"""Names the bits of these kernels: who expects others has another version of them."""


class KernelsUnfitError(RuntimeError):
    """A kernel gave other bits than it must: nothing computed here may be sold or merged."""


def check_rounds() -> None:
    """Train tiny rounds at the level in force. Raises KernelsUnfitError, naming what differs."""
    problem = canary_problem()
    if problem:
        level = _native.levels.in_force()
        raise KernelsUnfitError(f"the native kernels are unfit at level {level}: {problem}")


def _exact_weights(count: int) -> Floats:
    """Numbers that every machine agrees on, about as large as a policy's."""
    return (np.arange(count, dtype=np.float32) * 37 % 101 - 50) / np.float32(400)


def training_round(environment: str, shape: PolicyShape) -> str:
    """SHA-256 of a tiny round: rollout, advantages and two epochs of updates, in hexadecimal."""
    ppo = Ppo(shape, _exact_weights(shape.parameter_count))
    collector = Collector(ppo, BatchEnvironment(environment, 4, seed=7), seed=9)
    rollout = collector.collect(24, gamma=0.99, gae_lambda=0.95)
    settings = PpoSettings(
        learning_rate=1e-3, clip_range=0.1, ent_coef=0.01, batch_size=40, n_epochs=2
    )
    ppo.update(rollout, settings, seed=11)
    digest = hashlib.sha256()
    for array in (rollout.observations, rollout.log_probs, rollout.advantages, ppo.parameters):
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def canary_problem() -> str:
    """What differs from the known rounds at the level in force; empty if nothing does."""
    for (environment, shape), wanted in CANARY.items():
        problem = compare_digests(
            f"a round on {environment}", training_round(environment, shape), wanted
        )
        if problem:
            return problem
    return ""


def compare_digests(what: str, found: str, wanted: str) -> str:
    """Nothing if both digests are the same, else what differs."""
    if found == wanted:
        return ""
    return f"{what}: the digest is {found[:16]}…, must be {wanted[:16]}…"
