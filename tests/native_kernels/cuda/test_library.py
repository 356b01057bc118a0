"""What is said of CUDA where there is none, and that nothing fails before it is asked for."""

import importlib
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import native_kernels
from native_kernels import cuda
from native_kernels.cuda import library


def fake(**functions: object) -> types.ModuleType:
    module = types.ModuleType("native_kernels._cuda")
    vars(module).update(functions)
    return module


def failing(message: str) -> Callable[[], int]:
    def device_count() -> int:
        raise cuda.KernelError(message)

    return device_count


def test_without_nvcc_it_says_so(without_module: Callable[[], None]) -> None:
    without_module()
    assert cuda.status() == (
        "not built: nvcc was not found when this was installed, or DERL_CUDA=OFF was set"
    )
    with pytest.raises(cuda.UnavailableError, match="not built: nvcc"):
        cuda.device_count()


@pytest.mark.parametrize(
    ("device_count", "said"),
    [
        (failing("cudaErrorNoDevice: no CUDA-capable device is detected (x)"), "no device: this m"),
        (failing("cudaErrorInsufficientDriver: CUDA driver version is (x)"), "no device: .*driver"),
        (failing("cudaErrorUnknown: unknown error (x)"), "no device: cudaErrorUnknown: unknown"),
        (lambda: 0, "no device: this machine has no GPU"),
    ],
)
def test_without_a_device_it_says_why(
    monkeypatch: pytest.MonkeyPatch, device_count: Callable[[], int], said: str
) -> None:
    monkeypatch.setitem(sys.modules, "native_kernels._cuda", fake(device_count=device_count))
    with pytest.raises(cuda.UnavailableError, match=said):
        library.require_device()
    assert cuda.status().startswith("no device: ")


def test_a_module_that_cannot_be_loaded_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "native_kernels._cuda":
                raise ImportError("libstdc++.so.6: version `GLIBCXX_9' not found")

    monkeypatch.delitem(sys.modules, "native_kernels._cuda", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert cuda.status().startswith("not loadable: libstdc++")


def test_devices_are_named(emulation: object) -> None:
    assert cuda.status() == "ready: emulated (sm_75), emulated (sm_75); driver for CUDA 13.0"
    assert cuda.device_count() == 2


def test_a_kernel_asked_for_without_a_device_names_the_reason(
    without_module: Callable[[], None],
) -> None:
    without_module()
    with pytest.raises(cuda.UnavailableError, match="not built"):
        cuda.coordinate_median(object())


def test_importing_the_face_loads_no_module_and_no_cupy() -> None:
    program = (
        "import sys, native_kernels.cuda as cuda; "
        "assert 'native_kernels._cuda' not in sys.modules and 'cupy' not in sys.modules; "
        "print(cuda.status())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("ready", "no device", "not built"))


def test_the_built_module_needs_no_library_of_cuda() -> None:
    built = list(Path(native_kernels.__file__).parent.glob("_cuda.*.so"))
    if not built:
        pytest.skip(library.NOT_BUILT)
    # the runtime is inside; the driver is opened by name when it is first needed
    assert b"libcudart.so" not in built[0].read_bytes()


def test_the_built_module_says_itself_that_there_is_no_device() -> None:
    try:
        module = importlib.import_module("native_kernels._cuda")
    except ModuleNotFoundError:
        pytest.skip(library.NOT_BUILT)
    if cuda.status().startswith("ready"):
        pytest.skip("there is a device")
    with pytest.raises(cuda.KernelError, match=r"^cudaError\w+: .* \(.* at module.cpp:\d+\)$"):
        module.device_count()
