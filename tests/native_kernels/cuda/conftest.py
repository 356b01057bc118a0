"""The devices that the tests of native_kernels.cuda run on: an emulated one, and a real one.

The emulated module is the same sources built as plain C++ (``emulation/``), so that the kernels'
own text, the launchers, the bindings and the Python above them run where there is no GPU.
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from native_kernels import cuda


def _build_script() -> ModuleType:
    path = Path(__file__).parent / "emulation" / "build.py"
    spec = importlib.util.spec_from_file_location("emulation_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test to need the emulated module builds it, which takes long on a busy machine."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def emulated_module(pytestconfig: pytest.Config) -> ModuleType:
    build = _build_script()
    if build.compiler() is None:
        pytest.skip("no C++ compiler to build the emulated kernels with")
    assert pytestconfig.cache is not None
    options = tuple(os.environ.get("DERL_EMULATION_OPTIONS", "").split())
    module = build.loaded(build.built(pytestconfig.cache.mkdir("emulated-cuda"), options))
    assert isinstance(module, ModuleType)
    return module


class Emulation:
    """The emulated runtime, as tests look into it."""

    def __init__(self, module: ModuleType) -> None:
        assert module.__file__ is not None
        self.module = module
        self._library = ctypes.CDLL(module.__file__)
        self._library.derl_emulated_log.restype = ctypes.c_char_p

    def log(self) -> list[str]:
        """What was started, in order, since the last time."""
        lines: list[str] = self._library.derl_emulated_log().decode().splitlines()
        self._library.derl_emulated_clear()
        return lines

    def refuse_allocations(self, count: int) -> None:
        self._library.derl_emulated_refuse(count)

    def blocks(self) -> int:
        """How many blocks of device memory are in use."""
        return int(self._library.derl_emulated_blocks())


@pytest.fixture
def emulation(emulated_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulation]:
    """A machine with two emulated devices."""
    monkeypatch.setitem(sys.modules, "native_kernels._cuda", emulated_module)
    emulation = Emulation(emulated_module)
    emulation.log()
    yield emulation
    emulation.refuse_allocations(0)


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Run the test on the emulated device and, where there is one, on a real one."""
    name: str = request.param
    if name == "emulated":
        request.getfixturevalue("emulation")
    elif not cuda.status().startswith("ready"):
        pytest.skip(cuda.status())
    return name


@pytest.fixture
def without_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A machine where nvcc was missing at installation, once called."""

    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "native_kernels._cuda":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def hide() -> None:
        monkeypatch.delitem(sys.modules, "native_kernels._cuda", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])

    return hide
