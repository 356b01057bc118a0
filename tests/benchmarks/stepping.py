"""Environment steps per CPU-second, one Python call per batch step, random actions."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from tests.benchmarks.measuring import Options, Row, main, missing, named, peer, rates

ENVPOOL_GOALS = (
    ("CartPole-v1", 64, 100.0),
    ("CartPole-v1", 1024, 300.0),
    ("Pendulum-v1", 1024, 50.0),
    ("Acrobot-v1", 1024, 50.0),
    ("MountainCar-v0", 1024, 50.0),
)
BATCHES = 16
"""So many arrays of actions are taken in turns."""
STEPS = 64
"""Batch steps of one call that is timed: the loop around them costs next to nothing."""


def actions(identifier: str, count: int, dtype: Any) -> list[Any]:
    """Return random actions in the dtype that a side wants (discrete) or float32."""
    random = np.random.default_rng(1)
    if identifier.startswith("Pendulum"):
        shape = (BATCHES, count, 1)
        return list(random.uniform(-2.0, 2.0, shape).astype(np.float32))
    n_actions = 2 if identifier.startswith("CartPole") else 3
    return list(random.integers(0, n_actions, (BATCHES, count)).astype(dtype))


def stepper(environment: Any, batches: list[Any]) -> Callable[[], object]:
    """Return what makes STEPS batch steps."""
    step = environment.step
    following = batches * (STEPS // BATCHES)

    def run() -> None:
        for batch in following:
            step(batch)

    return run


def ours(
    identifier: str, count: int, precision: Literal["float32", "exact"] = "float32"
) -> Callable[[], object]:
    """Return what makes our batch steps."""
    from native_kernels.environments import BatchEnvironment

    environment = BatchEnvironment(identifier, count, seed=1, precision=precision)
    environment.reset()
    return stepper(environment, actions(identifier, count, np.int64))


def of_envpool(envpool: Any, identifier: str, count: int) -> Callable[[], object]:
    """Return what makes those of envpool, synchronous, on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = envpool.make(
            identifier, env_type="gymnasium", num_envs=count, num_threads=1, seed=1
        )
    environment.reset()
    return stepper(environment, actions(identifier, count, np.int32))


def of_gymnasium(count: int) -> Callable[[], object]:
    """Return what makes those of Gymnasium's own NumPy vector CartPole."""
    import gymnasium

    mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
    environment = gymnasium.make_vec("CartPole-v1", num_envs=count, vectorization_mode=mode)
    environment.reset(seed=1)
    return stepper(environment, actions("CartPole-v1", count, np.int64))


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    envpool = peer("envpool")
    for identifier, count, goal in ENVPOOL_GOALS:
        what = f"{identifier}, {count} at once"
        if envpool is None:
            yield missing(what, "envpool", "steps", goal)
            continue
        found = rates(
            {
                "ours": (ours(identifier, count), STEPS * count),
                "peer": (of_envpool(envpool, identifier, count), STEPS * count),
            },
            options,
        )
        yield Row(what, found["ours"], found["peer"], named("envpool"), "steps", goal)
    for count in (64, 1024):
        found = rates(
            {
                "ours": (ours("CartPole-v1", count), STEPS * count),
                "exact": (ours("CartPole-v1", count, "exact"), STEPS * count),
                "peer": (of_gymnasium(count), STEPS * count),
            },
            options,
        )
        name = f"{named('gymnasium')} vector CartPole"
        what = f"CartPole-v1, {count} at once"
        yield Row(what, found["ours"], found["peer"], name, "steps")
        yield Row(f"{what}, exact mode", found["exact"], found["peer"], name, "steps")


if __name__ == "__main__":
    main("stepping", __doc__, rows)
