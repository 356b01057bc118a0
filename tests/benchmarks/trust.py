"""What screening and audits cost a run: CPU, wall seconds and GLM.

`scripts/bench trust [--config configs/cartpole.yaml] [--seeds 4]`, as root: all processes of a run
are put into a control group, which counts their CPU time, also of those that are killed. Each seed
is run both ways, in turn first; a runs folder of its own makes every provider unknown, which is
when audits cost most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

OFF = (
    "trust.audits.first=0",
    "trust.audits.least=0",
    "trust.screening.norm_z=null",
    "trust.screening.divergence=null",
    "trust.screening.copies=false",
    "trust.screening.speed=null",
)


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    cpu_seconds: float
    wall_seconds: float
    glm: float
    rounds: int
    audits: int


@dataclass(frozen=True)
class Group:
    """A control group of this machine; version 1 counts nanoseconds, version 2 microseconds."""

    folder: Path

    def cpu_seconds(self) -> float:
        """CPU time of all that ever ran in it."""
        usage = self.folder / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self.folder / "cpu.stat").read_text().split()[1]) / 1e6


@contextmanager
def control_group() -> Iterator[Group]:
    """A fresh group, removed at the end."""
    root = Path("/sys/fs/cgroup")
    parent = root / "cpuacct" if (root / "cpuacct").exists() else root
    group = Group(parent / f"derl-trust-{os.getpid()}")
    try:
        group.folder.mkdir()
    except OSError as error:
        sys.exit(f"can't make a control group: {error}; run this as root")
    try:
        yield group
    finally:
        group.folder.rmdir()


def cost_of(group: Group, config: str, seed: int, changes: tuple[str, ...]) -> Cost:
    """Run a config in the group; its end and its audits are in its events."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "requestor.cli.main", "run", config, f"seed={seed}"]
        command += [f"--runs-dir={runs}", *changes]
        join = f'echo $$ > "{group.folder}/cgroup.procs"; exec "$@"'
        cpu, wall = group.cpu_seconds(), time.monotonic()
        subprocess.run(
            ["/bin/sh", "-c", join, "sh", *command], check=True, stdout=subprocess.DEVNULL
        )
        cpu, wall = group.cpu_seconds() - cpu, time.monotonic() - wall
        (log,) = Path(runs).rglob("events.jsonl")
        events = [json.loads(line) for line in log.read_text().splitlines()]
    end = next(event for event in events if event["kind"] == "run_finished")
    audits = sum(event["kind"] == "work_audited" for event in events)
    return Cost(cpu, wall, float(end["cost_glm"]), end["rounds"], audits)


def main() -> None:
    """Print each run, then the ratios of the sums."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench trust",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/cartpole.yaml")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, list[Cost]] = {"with": [], "without": []}
    with control_group() as group:
        for seed in range(given.seeds):
            ways = (("with", ()), ("without", OFF))
            for way, changes in ways if seed % 2 == 0 else ways[::-1]:
                cost = cost_of(group, given.config, seed, changes)
                found[way].append(cost)
                if not given.json:
                    print(f"seed {seed} {way:<8}{cost}", flush=True)
    sums = {way: [sum(column) for column in zip(*map(astuple, costs), strict=True)]
            for way, costs in found.items()}  # fmt: skip
    ratios = {
        name: sums["with"][column] / sums["without"][column]
        for column, name in enumerate(("cpu_seconds", "wall_seconds", "glm"))
    }
    print(json.dumps(ratios) if given.json else f"with / without: {ratios}")


if __name__ == "__main__":
    main()
