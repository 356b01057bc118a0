"""The wire package and the worker's client stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "gymnasium", "stable_baselines3", "scipy")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("provider_image.wire", HEAVY),
        ("provider_image.worker_cli", (*HEAVY, "numpy", "msgspec", "safetensors", "asyncio")),
        ("provider_image.learners.registry", ("torch", "gymnasium", "stable_baselines3")),
    ],
)
def test_importing_it_imports_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(sorted(set(sys.modules) & set({forbidden!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
