"""The choice of a backend: made once, told to the log, never by falling back."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from native_kernels import advantages, aggregation, backends, catalogue, cuda, reference


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_chosen", [])
    monkeypatch.delenv("DERL_BACKEND", raising=False)


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "status", lambda: "no device: none")


def test_unless_told_otherwise_the_cpu_computes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert backends.in_force() == "cpu"
    assert backends.kernel("weighted_mean") is aggregation.weighted_mean
    assert backends.kernel("discounted_returns") is advantages.discounted_returns
    said = [record.getMessage() for record in caplog.records]
    assert said == ["kernels are computed by the backend cpu, because DERL_BACKEND names none"]


def test_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("DERL_BACKEND", "reference")
    assert backends.in_force() == "reference"
    assert backends.kernel("weighted_mean") is reference.weighted_mean
    assert "reference, because DERL_BACKEND names it" in caplog.text


def test_the_choice_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.in_force() == "cpu"
    monkeypatch.setenv("DERL_BACKEND", "reference")
    assert backends.in_force() == "cpu"


def test_a_test_may_use_another_for_a_while() -> None:
    with backends.use("reference"):
        assert backends.in_force() == "reference"
        with backends.use("cpu"):
            assert backends.in_force() == "cpu"
        assert backends.in_force() == "reference"
    assert backends.in_force() == "cpu"


def test_what_cannot_be_had_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    monkeypatch.setenv("DERL_BACKEND", "cuda")
    with pytest.raises(
        backends.BackendError, match="DERL_BACKEND: the backend cuda cannot be had here: no device"
    ):
        backends.in_force()
    with pytest.raises(backends.BackendError, match="no device"):
        backends.kernel("weighted_mean")


def test_names_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERL_BACKEND", "gpu")
    with pytest.raises(backends.BackendError, match="must be one of reference, cpu, cuda, is 'gpu"):
        backends.in_force()
    with pytest.raises(backends.BackendError, match=r"name: must be one of .*weighted_mean"):
        backends.kernel("wighted_mean", "cpu")


def test_what_there_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    found = backends.found()
    assert list(found) == list(backends.BACKENDS)
    assert found["reference"] == f"ready: NumPy {np.__version__}"
    assert found["cpu"].startswith("ready: ")
    assert found["cuda"] == "no device: none"


def test_every_kernel_is_there_on_the_cpu_and_in_numpy() -> None:
    for kernel in catalogue.KERNELS:
        assert backends.kernel(kernel.name, "cpu").__name__ == kernel.name
        assert backends.kernel(kernel.name, "reference") is kernel.definition


def test_a_kernel_that_a_device_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "status", lambda: "ready: a device")
    monkeypatch.delattr(cuda, "trimmed_mean")
    with pytest.raises(backends.BackendError, match="the backend cuda has no kernel trimmed_mean"):
        backends.kernel("trimmed_mean", "cuda")


def test_importing_backends_needs_no_gpu() -> None:
    program = "from native_kernels import backends; print(backends.kernel('trimmed_mean').__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "trimmed_mean\n", done.stderr
