"""doctor and offers on real yagna: eight providers of different prices and machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

pytestmark = pytest.mark.testnet
FLEET = """
requestor: {funds_glm: 20}
providers:
  - {name: willow, price: {cpu_hour_glm: 0.10, hour_glm: 0.02}, threads: 4, memory_gib: 8}
  - {name: alder, price: {cpu_hour_glm: 0.12, hour_glm: 0.02}}
  - {name: rowan, price: {start_glm: 0.0001, cpu_hour_glm: 0.08, hour_glm: 0.03}}
  - {name: hazel, price: {cpu_hour_glm: 0.15, hour_glm: 0.01}, pace: 0.5}
  - {name: liar, price: {cpu_hour_glm: 0.05, hour_glm: 0.01}}
  - {name: greedy, price: {start_glm: 0.5, cpu_hour_glm: 3, hour_glm: 1}}
  - {name: tiny, memory_gib: 0.5}
  - {name: gpu, runtime: vm-nvidia, gpu: {model: NVIDIA A30, memory_gib: 24, quantity: 2}}
"""


class Program(Protocol):
    """`derl-request` (see conftest.py)."""

    def json(self, *arguments: str) -> Any:
        """Run a command with --json."""
        ...


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The overrides that name the testnet and its fleet."""
    # real yagna matches offers in its own time
    monkeypatch.setattr("requestor.marketplace.golem.daemon.market_scan.QUIET_SECONDS", 3.0)
    monkeypatch.setattr("requestor.cli.doctor.SCAN_SECONDS", 20.0)
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    return ["golem.mode=testnet", f"golem.fleet={fleet}"]


def test_doctor(program: Program, testnet: list[str]) -> None:
    record = program.json("doctor", *testnet, "golem.providers=5", "golem.budget_glm=19")
    found = {one["name"]: one for one in record["checks"]}
    assert record["is_fit"], record
    assert found["version"]["facts"]["version"] == "0.17.6"
    assert found["funds"]["facts"]["glm"] == "20"
    assert found["funds"]["facts"]["token"] == "tGLM"
    assert float(found["funds"]["facts"]["gas"]) > 0
    assert found["offers"]["facts"] == {"seen": 8, "kept": 5, "providers": 5}


def test_doctor_finds_too_little_money(program: Program, testnet: list[str]) -> None:
    record = program.json("doctor", *testnet, "golem.budget_glm=21")
    failed = [one["name"] for one in record["checks"] if one["state"] == "failed"]
    assert failed == ["funds"]


def test_offers(program: Program, testnet: list[str]) -> None:
    """An hour with one busy thread costs 0.06, 0.11, 0.12, 0.14 and 0.16 GLM."""
    record = program.json("offers", *testnet, "--all", "--seconds", "20")
    assert [one["name"] for one in record["offers"]][:5] == [
        "liar",
        "rowan",
        "willow",
        "alder",
        "hazel",
    ]
    assert {one["name"]: one["removed_by"] for one in record["offers"][5:]} == {
        "gpu": "runtime",
        "tiny": "memory",
        "greedy": "start price",
    }
    gpus = {one["name"]: one["gpus"] for one in record["offers"]}
    assert gpus["gpu"][0] | {"cuda_version": "", "compute_capability": ""} == {
        "model": "NVIDIA A30",
        "quantity": 2,
        "memory_gib": 24.0,
        "cuda_cores": 4096,
        "cuda_version": "",
        "compute_capability": "",
    }
