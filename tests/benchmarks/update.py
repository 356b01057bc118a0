"""The PPO update of a 2x64 actor-critic: samples times epochs per CPU-second."""

from collections.abc import Callable, Iterator
from typing import Any

from native_kernels.limits import measure_limits
from native_kernels.speeds import update_operations
from tests.benchmarks import sides
from tests.benchmarks.measuring import Options, Row, main, missing, named, peer, rates
from tests.benchmarks.settings import CARTPOLE, Settings

SB3_GOALS = {"default": 45.0, "zoo": 15.0}
SBX_GOAL = 6.0
PEAK_GOAL = 0.6


def ours(settings: Settings, model: Any) -> Callable[[], object]:
    """Return what does one whole update, from an SB3 model's weights and rollout each time."""
    from native_kernels.ppo import Ppo

    shape = sides.cartpole_shape()
    parameters, rollout = sides.parameters_of(model), sides.rollout_of(model)
    chosen = sides.update_settings(settings, 0)
    # new each time: weights that fit one rollout ever better would give gradients of zero at last
    return lambda: Ppo(shape, parameters).update(rollout, chosen, seed=1)


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    operations = update_operations(sides.cartpole_shape())
    peak = measure_limits(mebibytes=8).multiply_adds
    sbx = peer("sbx")
    for key, settings in CARTPOLE.items():
        work = settings.rollout * settings.n_epochs
        model = sides.sb3(settings, 1)
        sides.collect(model, sides.begin(model))
        run = ours(settings, model)
        found = rates({"ours": (run, work), "peer": (model.train, work)}, options)
        what = f"update, {settings.title}, batch {settings.batch_size}"
        name = named("stable-baselines3")
        yield Row(what, found["ours"], found["peer"], name, "samples", SB3_GOALS[key])
        if sbx is None:
            yield missing(what, "sbx-rl", "samples", SBX_GOAL)
        else:
            model = sides.sbx(sbx, settings, 1)
            sides.collect(model, sides.begin(model))
            again = rates({"ours": (run, work), "peer": (model.train, work)}, options)
            name = f"{named('sbx-rl')}, {named('jax')}"
            yield Row(what, again["ours"], again["peer"], name, "samples", SBX_GOAL)
        yield Row(
            f"{what}, of FMA peak",
            found["ours"] * operations,
            peak,
            "FMA peak of this core",
            "FLOP",
            PEAK_GOAL,
            note=f"matrix work alone, {operations} operations a sample",
        )


if __name__ == "__main__":
    main("update", __doc__, rows)
