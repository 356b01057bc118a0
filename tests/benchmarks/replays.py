"""Whether honest SB3 workers ever differ: orders done twice, in unlike processes.

`scripts/bench replays --orders 300 --seed 0`. Two workers of this machine, each the very program
that runs on providers: one is started in a plain environment, the other where everything inherited
speaks against the determinism profile, with another home and on one CPU. Every order is drawn anew
(algorithm, environment, seed, steps), done by both, and a third time by the second worker up to a
link in its middle. It counts results and links that differ; there should be none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from msgspec.structs import replace

from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    JsonObject,
    LearnerSpec,
    LinkRange,
    NormalizeSpec,
    StateRules,
    TrainOrder,
    TrainResult,
    decode_metadata,
    read_bundle,
    sha256_file,
    tensors_digest,
)
from requestor.evaluation.local_worker import LocalWorker

LIMIT = 1 << 27
AGAINST = {
    "ATEN_CPU_CAPABILITY": "avx512",
    "MKL_CBWR": "AUTO",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    "OPENBLAS_CORETYPE": "Sandybridge",
    "PYTHONHASHSEED": "77",
    "HOME": "/tmp",
}
OFF_POLICY: JsonObject = {"learning_starts": 40, "buffer_size": 1000, "batch_size": 64}
SMALL: JsonObject = {"net_arch": [64, 64]}


@dataclass
class Tally:
    """What was compared, and what of it differed."""

    orders: Counter[str] = field(default_factory=Counter)
    results_that_differ: list[str] = field(default_factory=list)
    links_compared: int = 0
    parts_that_differ: list[str] = field(default_factory=list)


def drawn(generator: random.Random) -> tuple[InitialiseOrder, TrainOrder]:
    """A model and a round of training, of any algorithm, on any of its environments."""
    algorithm: Algorithm = generator.choice(["ppo", "a2c", "dqn", "sac", "td3", "ddpg"])
    discrete = algorithm == "dqn" or (algorithm in ("ppo", "a2c") and generator.random() < 0.5)
    names = ["CartPole-v1", "Acrobot-v1"] if discrete else ["Pendulum-v1"]
    n_envs = generator.choice([1, 4])
    environment = EnvironmentSpec(
        generator.choice(names),
        n_envs=n_envs,
        normalize=NormalizeSpec() if generator.random() < 0.5 else None,
    )
    fields: JsonObject = OFF_POLICY
    steps = generator.choice([120, 240])
    if algorithm == "ppo":
        fields = {"n_steps": 32, "batch_size": 32, "n_epochs": 4}
        steps = 32 * n_envs * generator.choice([2, 4, 8])
    elif algorithm == "a2c":
        fields = {"n_steps": 8}
        steps = 8 * n_envs * generator.choice([8, 16, 32])
    learner = LearnerSpec(algorithm, hyperparameters=fields, policy_kwargs=SMALL)
    rules = StateRules(drift=generator.choice(["none", "none", "scaffold"]))
    made = InitialiseOrder(
        run_id="bench",
        seed=generator.randrange(10**6),
        environment=environment,
        learner=learner,
        rules=rules,
        output="model",
    )
    order = TrainOrder(
        run_id="bench",
        round=0,
        client=0,
        seed=generator.randrange(10**6),
        environment=environment,
        learner=learner,
        rules=rules,
        local_steps=steps,
        steps_done=0,
        steps_total=10 * steps,
        model=FileRef("model", "0" * 64, 0),
        output="result",
        client_state_output="state" if rules.client_has_state else None,
    )
    return made, order


@contextmanager
def inherited(changes: dict[str, str]) -> Iterator[None]:
    """Other environment variables for what is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def done(worker: LocalWorker, order: TrainOrder, model: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of the update, and the links."""
    await worker.execute(order, {"model": model})
    bundle = read_bundle(worker.folder / "result", max_bytes=LIMIT)
    return tensors_digest(bundle.tensors), decode_metadata(bundle, TrainResult).links


async def compare(folder: Path, orders: int, seed: int) -> Tally:
    """Do so many orders by both workers."""
    generator, tally = random.Random(seed), Tally()
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(LocalWorker(folder / "plain"))
        with inherited(AGAINST):
            other = await stack.enter_async_context(LocalWorker(folder / "other"))
        pid = int((await _ready(other)).split("\n")[0])
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
        for number in range(orders):
            made, order = drawn(generator)
            await plain.execute(made, {})
            model = (plain.folder / "model").replace(folder / "model")
            reference = FileRef("model", sha256_file(model, LIMIT), model.stat().st_size)
            order = replace(order, model=reference)
            what = f"{number} {order.learner.algorithm} {order.environment.id} seed {order.seed}"
            first, links = await done(plain, order, model)
            second, others = await done(other, order, model)
            tally.orders[order.learner.algorithm] += 1
            tally.links_compared += len(links)
            if (first, links) != (second, others):
                tally.results_that_differ.append(what)
            last = (len(links) + 1) // 2
            part = replace(order, links=LinkRange(last=last))
            if (await done(other, part, model))[1] != links[:last]:
                tally.parts_that_differ.append(what)
            if sys.stderr.isatty():
                print(f"\r{number + 1} of {orders}", end="", file=sys.stderr)
    return tally


async def _ready(worker: LocalWorker) -> str:
    while not (worker.folder / "worker.sock").exists():
        await asyncio.sleep(0.1)
    return (worker.folder / "worker.lock").read_text()


def main() -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(prog="scripts/bench replays", description=__doc__)
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="derl-replays-") as folder:
        tally = asyncio.run(compare(Path(folder), given.orders, given.seed))
    if given.json:
        print(json.dumps(asdict(tally) | {"seed": given.seed}, indent=1))
    else:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(tally.orders.items()))
        print(f"{given.orders} orders ({counts}), seed {given.seed}, on {platform.machine()}")
        print(f"results that differ   {len(tally.results_that_differ)}")
        print(f"links compared        {tally.links_compared}")
        print(f"parts that differ     {len(tally.parts_that_differ)}")
        print(f"seconds               {time.monotonic() - begun:.0f}")
        for what in (*tally.results_that_differ, *tally.parts_that_differ):
            print(f"  {what}")
    return 1 if tally.results_that_differ or tally.parts_that_differ else 0


if __name__ == "__main__":
    sys.exit(main())
