"""A local round at SB3's defaults (2048 steps, 10 epochs), and starting a process."""

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks import sides
from tests.benchmarks.measuring import Options, Row, main, missing, named, peer, rates
from tests.benchmarks.settings import CARTPOLE, Settings

ROOT = Path(__file__).parents[2]
START_GOAL = 0.15
"""CPU-seconds from process start to the first gradient."""

FIRST_GRADIENT = {
    "ours": """
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, orthogonal_parameters
from native_kernels.rollouts import Collector
shape = PolicyShape(4, 2)
ppo = Ppo(shape, orthogonal_parameters(shape, 1))
collector = Collector(ppo, BatchEnvironment("CartPole-v1", 1, seed=1), seed=1)
rollout = collector.collect(64, gamma=0.99, gae_lambda=0.95)
ppo.update(rollout, PpoSettings(learning_rate=3e-4, clip_range=0.2, n_epochs=1))
import sys
assert "torch" not in sys.modules
""",
    "peer": """
import torch
torch.set_num_threads(1)
from stable_baselines3 import PPO
PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, device="cpu").learn(64)
""",
}


def ours(settings: Settings) -> Callable[[], object]:
    """Return what does one of our rounds: collect, then update."""
    ppo, collector = sides.ours(settings, seed=1)
    chosen = sides.update_settings(settings, 0)

    def run() -> None:
        rollout = collector.collect(
            settings.n_steps, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        ppo.update(rollout, chosen, seed=1)

    return run


def process_seconds(python: str, program: str) -> float:
    """Return the CPU time of a process of its own, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", program], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def plain_python() -> str:
    """Return the interpreter that a provider would have: without the peers' packages."""
    plain = ROOT / ".venv" / "bin" / "python"
    return str(plain) if plain.exists() else sys.executable


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    for key, goal in (("default", 80.0), ("zoo", None)):
        settings = CARTPOLE[key]
        run = ours(settings)
        model = sides.sb3(settings, 1)
        learn = partial(model.learn, settings.rollout, reset_num_timesteps=False)
        work = settings.rollout
        found = rates({"ours": (run, work), "peer": (learn, work)}, options)
        what = f"local round, {settings.title}"
        yield Row(what, found["ours"], found["peer"], named("stable-baselines3"), "steps", goal)
        seconds = settings.rollout / found["ours"]
        yield Row(f"{what}, seconds", seconds, None, "", "CPU-s", lower=True)
    sbx = peer("sbx")
    what = f"local round, {settings.title}"
    if sbx is None:
        yield missing(what, "sbx-rl", "steps")
    else:
        model = sides.sbx(sbx, settings, 1)
        learn = partial(model.learn, settings.rollout, reset_num_timesteps=False)
        found = rates({"ours": (run, work), "peer": (learn, work)}, options)
        yield Row(what, found["ours"], found["peer"], named("sbx-rl"), "steps")
    yield from start_rows(options)


def start_rows(options: Options) -> Iterator[Row]:
    """Yield the rows on starting a process."""
    python = plain_python()
    taken: dict[str, list[float]] = {side: [] for side in FIRST_GRADIENT}
    for _ in range(options.repetitions):
        for side, program in FIRST_GRADIENT.items():
            taken[side].append(process_seconds(python, program))
    found = {side: statistics.median(values) for side, values in taken.items()}
    what = "process start to first gradient"
    yield Row(what, found["ours"], START_GOAL, "goal in CPU-seconds", "CPU-s", goal=1.0, lower=True)
    name = named("stable-baselines3")
    yield Row(what, found["ours"], found["peer"], name, "CPU-s", lower=True)


if __name__ == "__main__":
    main("round", __doc__, rows)
