"""Collecting a rollout on CartPole with a 2x64 actor-critic, advantages included."""

from collections.abc import Iterator
from functools import partial

from native_kernels.limits import measure_limits
from native_kernels.speeds import forward_operations
from tests.benchmarks import sides
from tests.benchmarks.measuring import Options, Row, main, named, rates
from tests.benchmarks.settings import Settings

STEPS = 128


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    operations = forward_operations(sides.cartpole_shape())
    for count, goal in ((1, None), (8, None), (64, 80.0)):
        settings = Settings("", n_envs=count, n_steps=STEPS, batch_size=64, n_epochs=1)
        _, collector = sides.ours(settings, seed=1)
        model = sides.sb3(settings, seed=1)
        callback = sides.begin(model)
        work = STEPS * count
        found = rates(
            {
                "ours": (
                    partial(collector.collect, STEPS, gamma=0.99, gae_lambda=0.95),
                    work,
                ),
                "peer": (partial(sides.collect, model, callback), work),
            },
            options,
        )
        what = f"fused rollout, {count} at once"
        name = named("stable-baselines3")
        yield Row(what, found["ours"], found["peer"], name, "steps", goal)
    peak = measure_limits(mebibytes=8).multiply_adds
    yield Row(
        f"{what}, of FMA peak",
        found["ours"] * operations,
        peak,
        "FMA peak of this core",
        "FLOP",
        0.55,
        note=f"matrix work alone, {operations} operations a step; the other goal: 8 M steps/s",
    )


if __name__ == "__main__":
    main("rollout", __doc__, rows)
