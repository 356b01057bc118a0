"""Build native_kernels._cuda from its own sources over the emulated runtime and grid."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from filelock import FileLock

HERE = Path(__file__).parent
KERNELS = Path(__file__).parents[4] / "native_kernels"
OPTIONS = ["-std=c++20", "-g0", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
DEFINITIONS = ["-DDERL_SCRATCH_BYTES=65536"]


def compiler() -> str | None:
    """Return the C++ compiler to use, None if there is none."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def sources() -> list[Path]:
    found = sorted([*KERNELS.glob("src/cuda/*.cu"), *KERNELS.glob("src/cuda/*.cpp")])
    return [*found, KERNELS / "src/cpu/any/network_layout.cpp"]


def built(folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """Return the built module in ``folder``, made if the sources or the compiler changed."""
    command = compiler()
    assert command is not None
    digest = hashlib.sha256(repr((command, OPTIONS, DEFINITIONS, extra)).encode())
    digest.update(sysconfig.get_config_var("EXT_SUFFIX").encode())
    headers = [
        *KERNELS.glob("include/**/*.hpp"),
        *KERNELS.glob("src/cpu/*.hpp"),
        *KERNELS.glob("src/cuda/*.[ch]*"),
        *HERE.glob("*.h*"),
    ]
    for path in (*sources(), *sorted(headers)):
        digest.update(path.read_bytes())
    name = digest.hexdigest()[:16]
    module = folder / f"{name}.so"
    with FileLock(folder / "lock"):
        if not module.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            _build(command, folder / name, module, extra)
    return module


def _build(command: str, objects: Path, module: Path, extra: tuple[str, ...]) -> None:
    """Compile all bindings at once, because reading pybind11 takes longest, and all kernels."""
    import pybind11

    objects.mkdir(exist_ok=True)
    paths = [HERE, KERNELS / "include", KERNELS / "src", pybind11.get_include()]
    include = [f"-I{path}" for path in (*paths, sysconfig.get_path("include"))]

    def compile_all(suffix: str, optimisation: str) -> str:
        unit = objects / f"all{suffix}.cc"
        unit.write_text(
            "".join(f'#include "{path}"\n' for path in sources() if path.suffix == suffix)
        )
        result = f"{unit}.o"
        arguments = [*command.split(), *OPTIONS, *DEFINITIONS, optimisation, *extra, *include]
        _run([*arguments, "-c", str(unit), "-o", result])
        return result

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(compile_all, (".cpp", ".cu"), ("-O0", "-O1")))
    unfinished = module.with_suffix(".unfinished")
    _run([*command.split(), *extra, "-shared", "-pthread", *parts, "-o", str(unfinished)])
    unfinished.rename(module)
    shutil.rmtree(objects)


def _run(arguments: list[str]) -> None:
    # a sanitizer's library is for Python, not for the compiler
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def loaded(path: Path) -> ModuleType:
    """Import the module from its file; pybind11 builds one module for each full name."""
    spec = importlib.util.spec_from_file_location("emulated._cuda", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
