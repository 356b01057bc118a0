"""The benchmark of the CUDA kernels runs where there is a device, and says so where none is."""

from collections.abc import Callable

import pytest

from native_kernels import cuda
from tests.benchmarks import cuda as benchmark

H200 = {  # of the data sheet: 4.8 TB/s, 67 TFLOP/s in float32
    "compute_capability": 90,
    "multiprocessors": 132,
    "clock_khz": 1_980_000,
    "memory_clock_khz": 3_201_000,
    "memory_bus_bits": 6144,
}


def test_the_limits_are_those_of_the_data_sheet() -> None:
    limits = benchmark.limits_of(H200)
    assert limits.bandwidth == pytest.approx(4.8e12, rel=0.05)
    assert limits.operations == pytest.approx(67e12, rel=0.01)


def test_occupancy_is_the_share_of_resident_threads() -> None:
    kernel = {"name": "k", "registers": 40, "local_bytes": 0, "shared_bytes": 128, "threads": 64}
    kernel["blocks_per_multiprocessor"] = 8
    _, line = benchmark.occupancies({"threads_per_multiprocessor": 1024}, [kernel])
    assert line.split() == ["k", "40", "0", "128", "64", "50%"]


def test_without_a_device_nothing_is_measured(without_module: Callable[[], None]) -> None:
    without_module()
    (line,) = benchmark.lines(0, True)
    assert line.startswith("not built: nvcc was not found")
    assert line.endswith("; nothing was measured")


def test_it_runs_from_end_to_end(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "RUNS", 1)
    report = list(benchmark.lines(0, True))
    assert report[0].startswith(cuda.status().removeprefix("ready: ").partition(" (")[0])
    assert sum("M steps/s" in line for line in report) == 5 * 3 + 3
    assert sum("of the card's bandwidth" in line for line in report) == 5 + 6 + 1
