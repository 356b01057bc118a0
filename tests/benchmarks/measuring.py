"""What all benchmarks share: CPU time on one core, medians, rows of goals, the machine in a line.

Both sides of a row are measured in turns in one process, so that whatever else the machine does
slows both; time is CPU time of all the process's threads. A side that is not installed is left out
and its row says how to get it.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# before anything loads a linear algebra library: one core each
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

INSTALL = "scripts/bench installs it"
Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison of ours with a peer or a limit.

    ``ours`` and ``peer`` are rates (higher is better) in ``unit`` per CPU-second, or costs where
    ``lower`` is set. None for a side that could not be had; ``note`` says why.
    ``goal`` is the least ratio that the project asks for, None where it asks for nothing.
    """

    what: str
    ours: float | None
    peer: float | None
    peer_name: str
    unit: str
    goal: float | None = None
    lower: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if not self.ours or not self.peer:
            return None
        return self.peer / self.ours if self.lower else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None if there is none or a side is missing."""
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal


@dataclass
class Options:
    """What the command line of every benchmark says."""

    repetitions: int = 7
    seconds: float = 0.15
    json: bool = False
    only: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def peer(module: str) -> Any | None:
    """Return a peer's module, None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def named(package: str) -> str:
    """Return a package's name and version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def missing(what: str, package: str, unit: str, goal: float | None = None) -> Row:
    """Return the row of a peer that is not there."""
    return Row(what, None, None, package, unit, goal, note=f"peer not installed: {INSTALL}")


def calls_for(run: Run, seconds: float) -> int:
    """Return how many calls take about so long, after warming up."""
    run()
    calls = 1
    while True:
        took = _batch_seconds(run, calls)
        if took >= seconds / 4 or calls >= 1 << 24:
            return max(1, round(calls * seconds / max(took, 1e-9)))
        calls *= 4


def _batch_seconds(run: Run, calls: int) -> float:
    before = time.process_time()
    for _ in range(calls):
        run()
    return max(time.process_time() - before, 1e-9)


def rates(sides: Mapping[str, tuple[Run, float]], options: Options) -> dict[str, float]:
    """Return each side's work per CPU-second, the median of repetitions made in turns.

    sides: name to what is called and how much work one call does.
    """
    calls = {name: calls_for(run, options.seconds) for name, (run, _) in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repetitions):
        for name, (run, work) in sides.items():
            took = _batch_seconds(run, calls[name])
            found[name].append(work * calls[name] / took)
    return {name: statistics.median(values) for name, values in found.items()}


def machine() -> dict[str, str]:
    """Describe what the figures were taken on."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        model = next(lines, f":{model}").split(":", 1)[1].strip()
    from native_kernels import _native

    return {
        "processor": model,
        "level": _native.levels.in_force(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit in ("CPU-s", "s"):
        return f"{value:.3g}"
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def _ratio(ratio: float, is_share: bool) -> str:
    return f"{ratio:.0%}" if is_share else f"{ratio:.3g}x"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Format rows, one line each and one for a note."""
    yield (f"{'what':<44} {'ours':>8} {'peer':>8} {'unit':<8} {'ratio':>7} {'goal':>6}     peer")
    for row in rows:
        verdict = {True: "met", False: "NOT", None: ""}[row.met]
        is_share = row.goal is not None and row.goal < 1
        ratio = "-" if row.ratio is None else _ratio(row.ratio, is_share)
        goal = "-" if row.goal is None else _ratio(row.goal, is_share)
        yield (
            f"{row.what:<44} {_number(row.ours, row.unit):>8} {_number(row.peer, row.unit):>8} "
            f"{row.unit:<8} {ratio:>7} {goal:>6} {verdict:<3} {row.peer_name}"
        )
        if row.note:
            yield f"    {row.note}"


def main(
    name: str,
    doc: str,
    rows: Callable[[Options], Iterator[Row]],
    arguments: Sequence[str] | None = None,
    *,
    configure: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parse the command line, print each row as soon as it is there."""
    parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=doc)
    parser.add_argument("--repetitions", type=int, default=7, help="repetitions, median of which")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if configure is not None:
        configure(parser)
    given = vars(parser.parse_args(arguments))
    options = Options(repetitions=given.pop("repetitions"), json=given.pop("json"), extra=given)
    about = machine()
    if options.json:
        found = [{**vars(row), "ratio": row.ratio, "met": row.met} for row in rows(options)]
        print(json.dumps({"benchmark": name, "machine": about, "rows": found}, indent=2))
        return
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in about.items())}")
    print(f"one core, medians of {options.repetitions} repetitions per CPU-second")
    for line in table(rows(options)):
        print(line)
        sys.stdout.flush()
