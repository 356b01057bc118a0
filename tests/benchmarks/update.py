"""The PPO update of a 2x64 actor-critic: samples times epochs per CPU-second."""

from collections.abc import Callable, Iterator

from native_kernels.limits import measure_limits
from tests.benchmarks import sides
from tests.benchmarks.measuring import Options, Row, main, missing, named, peer, rates
from tests.benchmarks.network_work import update_operations
from tests.benchmarks.settings import CARTPOLE, Settings

SB3_GOALS = {"default": 45.0, "zoo": 15.0}
SBX_GOAL = 6.0
PEAK_GOAL = 0.6


def ours(settings: Settings) -> Callable[[], object]:
    """Return what does one whole update, from the same weights each time."""
    from native_kernels.ppo import Ppo

    ppo, collector = sides.ours(settings, seed=1)
    rollout = collector.collect(
        settings.n_steps, gamma=settings.gamma, gae_lambda=settings.gae_lambda
    )
    shape, parameters = ppo.shape, ppo.parameters
    chosen = sides.update_settings(settings, 0)
    # new each time: weights that fit one rollout ever better would give gradients of zero at last
    return lambda: Ppo(shape, parameters).update(rollout, chosen, seed=1)


def of_peer(model: object) -> Callable[[], object]:
    """Return what does one whole update of an SB3 or SBX model."""
    callback = sides.begin(model)
    sides.collect(model, callback)
    return model.train  # type: ignore[attr-defined, no-any-return]


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    operations = update_operations(sides.cartpole_shape())
    peak = measure_limits(mebibytes=8).multiply_adds
    sbx = peer("sbx")
    for key, settings in CARTPOLE.items():
        work = settings.rollout * settings.n_epochs
        run = ours(settings)
        found = rates(
            {"ours": (run, work), "peer": (of_peer(sides.sb3(settings, 1)), work)}, options
        )
        what = f"update, {settings.title}, batch {settings.batch_size}"
        name = named("stable-baselines3")
        yield Row(what, found["ours"], found["peer"], name, "samples", SB3_GOALS[key])
        if sbx is None:
            yield missing(what, "sbx-rl", "samples", SBX_GOAL)
        else:
            model = sides.sbx(sbx, settings, 1)
            found = rates({"ours": (run, work), "peer": (of_peer(model), work)}, options)
            name = f"{named('sbx-rl')}, {named('jax')}"
            yield Row(what, found["ours"], found["peer"], name, "samples", SBX_GOAL)
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
