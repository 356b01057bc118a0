"""The wheel of what providers run: `provider_image` and `native_kernels`.

It is compiled in the build root, once for given sources and locks, kept, and installed by both ways
of making an image.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gvmi.assembly.build_root import Jailed, make_build_root, run_jailed
from gvmi.errors import ImageToolError, MachineUnfit
from gvmi.packages.downloads import Progress, cache_folder
from gvmi.variants import SOURCE_DATE_EPOCH

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("native_kernels", "provider_image")
SOURCE_KINDS = frozenset(
    {".py", ".pyi", ".typed", ".md", ".hpp", ".cpp", ".cu", ".cuh", ".cmake", ".txt"}
)
_PROJECT = """\
[build-system]
requires = ["scikit-build-core>=1.0,<2", "pybind11>=3.0,<4"]
build-backend = "scikit_build_core.build"

[project]
name = "derl-provider"
version = "{version}"
description = "What DeRL runs on rented machines"
requires-python = ">=3.11"
license = "MIT"
license-files = ["LICENSE"]
dependencies = ["numpy>=2.0,<3", "msgspec>=0.20,<1", "safetensors>=0.5,<1", "zstandard>=0.23,<0.26"]

[project.scripts]
derl-worker = "provider_image.worker_cli:main"

[tool.scikit-build]
cmake.source-dir = "native_kernels"
cmake.build-type = "Release"
install.strip = true
wheel.packages = ["provider_image", "native_kernels"]
wheel.exclude = ["**/CMakeLists.txt", "native_kernels/src", "native_kernels/include", "**/*.cmake"]
"""
_BUILD = "from scikit_build_core.build import build_wheel; build_wheel('/out')"
_ENVIRONMENT = {
    "CC": "gcc-12",
    "CXX": "g++-12",
    "CXXFLAGS": "-frandom-seed=derl",
    "DERL_CUDA": "OFF",
    "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
    "SKBUILD_BUILD_DIR": "/src/build",
}


@dataclass(frozen=True)
class ProviderWheel:
    """The built wheel; `sources` and `build_root` say what it was compiled from, and with."""

    path: Path
    sources: str
    build_root: str


def source_files() -> Iterator[Path]:
    """Yield the files, relative to the repository, that the wheel is made of, in order.

    Raises:
        MachineUnfit: this is an installed DeRL without its sources.
    """
    if not (REPOSITORY / "native_kernels" / "CMakeLists.txt").exists():
        raise MachineUnfit(
            f"{REPOSITORY} holds no sources of the kernels",
            fix="build images in a clone of DeRL's repository (./scripts/setup there first)",
        )
    yield Path("LICENSE")
    for package in PACKAGES:
        for folder, folders, names in os.walk(REPOSITORY / package):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                if os.path.splitext(name)[1] in SOURCE_KINDS:
                    yield (Path(folder) / name).relative_to(REPOSITORY)


def version() -> str:
    """Return DeRL's version, as its project file says."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def project_file() -> str:
    """Return the project file that the wheel is built by."""
    return _PROJECT.format(version=version())


def sources_digest(folder: Path | None = None) -> str:
    """Return the SHA-256 of the wheel's sources and of how they are compiled, 64 hex digits."""
    digest = hashlib.sha256(f"{project_file()}\n{_BUILD}\n{sorted(_ENVIRONMENT.items())}".encode())
    for path in source_files():
        content = ((folder or REPOSITORY) / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def build_provider_wheel(progress: Progress, *, fresh: bool = False) -> ProviderWheel:
    """Return the wheel of the present sources, compiled unless it is kept; `fresh` compiles anew.

    Raises:
        ImageToolError: it does not compile.
    """
    root = make_build_root(progress)
    sources = sources_digest()
    kept = cache_folder() / "wheels" / f"{sources[:16]}-{root.name}"
    if fresh or not kept.exists():
        progress("compiling the kernels for every processor level (about four CPU-minutes)")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            _compile(root, Path(scratch), sources)
            keep_wheel(Path(scratch) / "out", kept)
    wheels = list(kept.glob("*.whl"))
    if len(wheels) != 1:
        raise ImageToolError(f"{kept} holds {len(wheels)} wheels", fix=f"rm -r {kept}")
    return ProviderWheel(wheels[0], sources, root.name)


def keep_wheel(built: Path, kept: Path) -> None:
    """Put a built wheel's folder in its place, instead of one that is there."""
    before = built.with_name("before")
    while True:
        with suppress(FileNotFoundError):
            os.rename(kept, before)
        try:
            os.rename(built, kept)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(before, ignore_errors=True)  # another build was quicker
        else:
            return


def _compile(root: Path, scratch: Path, sources: str) -> None:
    source, out = scratch / "src", scratch / "out"
    out.mkdir()
    source.mkdir()
    (source / "pyproject.toml").write_text(project_file(), encoding="utf-8")
    for path in source_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, source / path)
    if sources_digest(source) != sources:
        raise ImageToolError("the sources have changed since the build began", fix="build again")
    jailed = Jailed(
        ["/usr/bin/python3.11", "-c", f"import os; os.chdir('/src'); {_BUILD}"],
        folders={"/src": source, "/out": out},
        writable=frozenset({"/src", "/out"}),
        environment={
            **_ENVIRONMENT,
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        },
    )
    run_jailed(root, jailed)
