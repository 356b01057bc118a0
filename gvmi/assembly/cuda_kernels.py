"""The wheel of the CUDA kernels, compiled by a locked nvcc.

nvcc is Debian's, headers and static runtime come from NVIDIA's wheels; a tenth of what Debian's own
development package weighs. All of it is CUDA 12: code of CUDA 13 needs a newer driver than Golem's
runtime for GPUs has.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from gvmi.assembly.build_root import Jailed, make_build_root, run_jailed
from gvmi.assembly.provider_wheel import (
    REPOSITORY,
    keep_wheel,
    source_files,
    sources_digest,
    version,
)
from gvmi.packages.debian_packages import unpack
from gvmi.packages.downloads import Progress, cache_folder, fetch_debian, fetch_wheels
from gvmi.packages.package_locks import read_debian_lock, read_python_lock
from gvmi.packages.purposes import NVIDIA_DRIVER
from gvmi.variants import SOURCE_DATE_EPOCH

DEBIAN_PURPOSE = HEADERS_PURPOSE = "build-cuda"
RUNTIME_PURPOSE = "build-cudart"
ARCHITECTURES = (75, 80, 86, 89, 90)
"""Compute capabilities that kernels are compiled for: Turing to Hopper, the last that the driver
knows."""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_MODULE = "_cuda.cpython-311-x86_64-linux-gnu.so"
_BUILD = f"""\
set -e
cmake -G Ninja -S /src/native_kernels -B /src/build -DCMAKE_BUILD_TYPE=Release -DDERL_CUDA=ON \
  -DDERL_CUDA_ARCHITECTURES="{";".join(map(str, ARCHITECTURES))}" \
  -DPython_EXECUTABLE=/usr/bin/python3.11 \
  -Dpybind11_DIR=/usr/lib/python3/dist-packages/pybind11/share/cmake/pybind11
ninja -C /src/build _cuda
strip -o /out/{_MODULE} /src/build/src/cuda/{_MODULE}
"""


def said_of_kernels(*, built: bool) -> str:
    """Return what the label of a `cuda` image says: which cards, compiler and driver."""
    if not built:
        return f"no kernels: built without nvcc; driver {NVIDIA_DRIVER}"
    nvcc = read_debian_lock().section(DEBIAN_PURPOSE)[0].version.partition("~")[0]
    runtime = read_python_lock(RUNTIME_PURPOSE)[0].version
    cards = " ".join(f"sm_{one}" for one in ARCHITECTURES)
    return f"{cards}; nvcc {nvcc}, runtime {runtime}, driver {NVIDIA_DRIVER}"


def build_cuda_wheel(progress: Progress, *, fresh: bool = False) -> Path:
    """Return the wheel of the CUDA kernels, compiled unless it is kept; `fresh` compiles anew.

    Raises:
        ImageToolError: nvcc is not to be had, or they do not compile.
    """
    root = make_cuda_root(progress)
    kept = cache_folder() / "wheels" / f"{sources_digest()[:16]}-{root.name}"
    if fresh or not kept.exists():
        progress("compiling the kernels for CUDA (about three CPU-minutes)")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            module = _compile(root, Path(scratch))
            (Path(scratch) / "kept").mkdir()
            _write_wheel(module, Path(scratch) / "kept")
            keep_wheel(Path(scratch) / "kept", kept)
    return next(kept.glob("*.whl"))


def make_cuda_root(progress: Progress) -> Path:
    """Return the build root with nvcc in it, made of the plain one if it is not kept yet."""
    plain = make_build_root(progress)
    lock = read_debian_lock()
    packages = lock.section(DEBIAN_PURPOSE)
    headers, runtime = read_python_lock(HEADERS_PURPOSE), read_python_lock(RUNTIME_PURPOSE)
    key = hashlib.sha256(Path(__file__).read_bytes())
    wheels = (*headers, *runtime)
    for sha256 in [*(one.sha256 for one in packages), *(one.sha256 for one in wheels)]:
        key.update(bytes.fromhex(sha256))
    folder = plain.parent / f"{plain.name}-cuda-{key.hexdigest()[:16]}"
    if folder.exists():
        return folder
    files = fetch_debian(packages, lock.date, progress)
    header_files, runtime_files = fetch_wheels(headers, progress), fetch_wheels(runtime, progress)
    progress("unpacking nvcc")
    with tempfile.TemporaryDirectory(dir=plain.parent) as scratch:
        draft = Path(scratch) / "root"
        shutil.copytree(plain, draft, symlinks=True, copy_function=os.link)
        unpack(files, draft)
        for wheel in header_files:
            _take(wheel, "include/", draft / "usr/include")
        for wheel in runtime_files:
            _take(wheel, "lib/libcudart_static.a", draft / _LIBRARIES)
        # nvcc links it always, and no other version than its own. Kernels that start kernels would
        # need it, of which there are none here.
        (draft / _LIBRARIES / "libcudadevrt.a").write_bytes(b"!<arch>\n")
        try:
            os.rename(draft, folder)
        except OSError:
            if not folder.exists():  # if it does, another build was quicker
                raise
    return folder


def _take(wheel: Path, wanted: str, target: Path) -> None:
    """Copy a folder, or one file, of NVIDIA's part of a wheel: `nvidia/<library>/<wanted>`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            found = re.fullmatch(rf"nvidia/\w+/{re.escape(wanted)}(.*)", name)
            if found is None or name.endswith(("/", ".py")) or ".." in name:
                continue
            path = target / (found[1] or os.path.basename(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be a link to the plain root's
            path.write_bytes(archive.read(name))


def _compile(root: Path, scratch: Path) -> Path:
    source, out = scratch / "src", scratch / "out"
    out.mkdir()
    for path in source_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, source / path)
    environment = {
        "CC": "gcc-12",
        "CXX": "g++-12",
        "CXXFLAGS": "-frandom-seed=derl",
        "CUDAFLAGS": "-Xcompiler=-frandom-seed=derl",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
    }
    folders = {"/src": source, "/out": out}
    writable = frozenset(folders)
    run_jailed(root, Jailed(["/usr/bin/dash", "-c", _BUILD], folders, writable, environment))
    return out / _MODULE


def _write_wheel(module: Path, folder: Path) -> None:
    name = f"derl_provider_cuda-{version()}"
    metadata = (
        f"Metadata-Version: 2.4\nName: derl-provider-cuda\nVersion: {version()}\n"
        "Summary: DeRL's CUDA kernels\nLicense-Expression: MIT AND LicenseRef-NVIDIA-CUDA-Toolkit\n"
    )
    tag = "cp311-cp311-linux_x86_64"
    tags = f"Wheel-Version: 1.0\nGenerator: derl\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files = {
        f"native_kernels/{module.name}": module.read_bytes(),
        f"{name}.dist-info/METADATA": metadata.encode(),
        f"{name}.dist-info/WHEEL": tags.encode(),
    }
    record = f"{name}.dist-info/RECORD"
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in files.items()]
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
