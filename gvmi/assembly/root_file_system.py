"""The root file system of an image, as a folder: Debian's packages, wheels, and what joins them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gvmi.packages.debian_packages import unpack
from gvmi.packages.wheels import install_wheel
from gvmi.variants import ENVIRONMENT, PREFIX, PYTHON, SOURCE_DATE_EPOCH, WORK_VOLUME

SITE_PACKAGES = f"{PREFIX}/lib/{PYTHON}/site-packages"
STANDARD_LIBRARY = f"/usr/lib/{PYTHON}"
SHARE = f"{PREFIX}/share"

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hostname": "golem\n",
    "etc/hosts": "127.0.0.1 localhost golem\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": "",
    f"{PREFIX[1:]}/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n",
}
_FOLDERS = ("dev", "proc", "sys", "tmp", "run", "root", "var/tmp", WORK_VOLUME[1:], SHARE[1:])
_LINKS = {
    "usr/bin/python3": PYTHON,
    f"{PREFIX[1:]}/bin/{PYTHON}": f"../../../usr/bin/{PYTHON}",
    f"{PREFIX[1:]}/bin/python3": PYTHON,
    f"{PREFIX[1:]}/bin/python": PYTHON,
}
# of Debian's packages: what needs a desktop, a package manager or a reader
_UNWANTED = (
    "etc/skel/",
    "etc/OpenCL/",
    "etc/profile",
    "etc/update-motd.d/",
    "usr/lib/x86_64-linux-gnu/gconv/",
    "usr/lib/x86_64-linux-gnu/libcudadebugger.so",
    "usr/lib/x86_64-linux-gnu/libnvidia-opencl.so",
    "usr/lib/python3.11/ctypes/macholib/",
    "usr/lib/python3.11/idlelib/",
    "usr/lib/python3.11/lib2to3/",
    "usr/lib/python3.11/pydoc_data/",
    "usr/lib/python3.11/test/",
    "usr/lib/python3.11/tkinter/",
    "usr/lib/python3.11/turtle",
    "usr/lib/python3.11/unittest/test/",
    "usr/share/applications/",
    "usr/share/bug/",
    "usr/share/debianutils/",
    "usr/share/dict/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
    "usr/share/pixmaps/",
    "usr/share/python3",
    "var/cache/",
    "var/lib/",
    "var/log/",
)
# of wheels: what compiles against them, and their own tests
_UNWANTED_IN_WHEELS = (
    "numpy/f2py/",
    "numpy/_core/include/",
    "numpy/_core/lib/",
    "zstandard/_cffi.cpython-311-x86_64-linux-gnu.so",  # needs cffi, which is not there
    "Box2D/examples/",
    "torch/include/",
    "torch/share/",
    "torch/test/",
    "torch/testing/_internal/py312_intrinsics.py",  # no Python 3.11
)
_NEEDED_OF_TORCHS_PROGRAMS = "torch_shm_manager"  # torch is not imported without it
_UNSTRIPPED = ("zstandard/backend_c*.so",)
# of CUDA's libraries: for several cards at once or for profilers, second copies, other interfaces;
# none is needed by another library, all are opened by name if at all
_UNWANTED_CUDA_FILES = (
    "cublas/lib/libnvblas.so.12",
    "cuda_cupti/lib/libcheckpoint.so",
    "cuda_cupti/lib/libnvperf_host.so",
    "cuda_cupti/lib/libnvperf_target.so",
    "cuda_cupti/lib/libpcsamplingutil.so",
    "cuda_nvrtc/lib/libnvrtc-builtins.alt.so.12.8",
    "cuda_nvrtc/lib/libnvrtc.alt.so.12",
    "cufft/lib/libcufftw.so.11",
    "cufile/lib/libcufile_rdma.so.1",
    "cusolver/lib/libcusolverMg.so.11",
    "nvshmem/lib/libnvshmem_device.bc",
)
# cupy compiles with these when it runs
_KEPT_HEADERS = ("cupy/_core/include", "nvidia/cuda_runtime/include")
_KINDS_UNWANTED_IN_WHEELS = (".a", ".h", ".hpp", ".cuh", ".pyi", ".pxd", ".pyx", ".lib")


RunInRoot = Callable[[Path, Sequence[str], Mapping[str, str]], None]
"""Runs a command, with the variables given, that has a folder as its whole world."""


@dataclass(frozen=True)
class Ingredients:
    """What a root file system is made of: files of Debian packages and of wheels, in order."""

    packages: Sequence[Path]
    wheels: Sequence[Path]


def make_root(ingredients: Ingredients, root: Path, run: RunInRoot) -> None:
    """Make the root file system in an empty folder; it lacks the share folder's files.

    Raises:
        ImageToolError: a package is broken, or a module does not compile.
    """
    unpack(ingredients.packages, root, is_wanted)
    shared = root / SITE_PACKAGES[1:] / "nvidia/__init__.py"
    for wheel in ingredients.wheels:
        shared.unlink(missing_ok=True)  # empty, and in most of NVIDIA's wheels
        install_wheel(wheel, root, SITE_PACKAGES, f"{PREFIX}/bin/python3")
    if shared.parent.is_dir():
        shared.touch()
    prune_wheels(root / SITE_PACKAGES[1:])
    make_links_relative(root)
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)  # a package's link would be followed
        (root / name).write_text(text, encoding="utf-8")
    for name, target in _LINKS.items():
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)
    byte_compile(root, run)
    set_modes(root)
    check_imports(root, run)


def is_wanted(path: str) -> bool:
    """Say whether a file of a Debian package belongs into an image."""
    if path.startswith("usr/share/doc/"):
        # one folder stands for all packages of a source: theirs are links to it
        return path.endswith("/copyright") or path.count("/") == 3
    return not path.startswith(_UNWANTED)


def prune_wheels(packages: Path) -> None:
    """Delete from site-packages what nothing needs when it runs."""
    for name in _UNWANTED_IN_WHEELS:
        if name.endswith("/"):
            shutil.rmtree(packages / name, ignore_errors=True)
        else:
            (packages / name).unlink(missing_ok=True)
    for path in (packages / "torch/bin").glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _NEEDED_OF_TORCHS_PROGRAMS:
            path.unlink()
    for name in _UNWANTED_CUDA_FILES:
        (packages / "nvidia" / name).unlink(missing_ok=True)
    for folder, folders, names in os.walk(packages):
        if os.path.relpath(folder, packages) in _KEPT_HEADERS:
            folders.clear()
            continue
        for name in [name for name in folders if name == "tests"]:
            shutil.rmtree(Path(folder) / name)
            folders.remove(name)
        for name in names:
            if name.endswith(_KINDS_UNWANTED_IN_WHEELS):
                os.unlink(os.path.join(folder, name))


def strip_command(root: Path) -> list[str]:
    """Return the command that takes out what only debuggers read, with `root` at /image.

    Only wheels that come with it are meant: libraries that a wheel's maker has moved (`*.libs`) do
    not bear it. Where there are none, nothing is returned.
    """
    packages = root / SITE_PACKAGES[1:]
    modules = [path for name in _UNSTRIPPED for path in sorted(packages.glob(name))]
    places = [f"/image/{path.relative_to(root)}" for path in modules]
    return ["/usr/bin/strip", "--strip-unneeded", *places] if places else []


def make_links_relative(root: Path) -> None:
    """Turn links that are absolute, or climb above the root, into relative ones below it.

    Outside of a VM they would lead to the host.
    """
    for path in _entries(root):
        if not path.is_symlink():
            continue
        target, folder = os.readlink(path), f"/{path.parent.relative_to(root)}"
        is_below = not os.path.normpath(f".{folder}/{target}").startswith("..")
        if target.startswith("/") or not is_below:
            inside = os.path.normpath("/" + os.path.join(folder, target).lstrip("/"))
            path.unlink()
            path.symlink_to(os.path.relpath(inside, folder))


def byte_compile(root: Path, run: RunInRoot) -> None:
    """Compile all modules by the image's own Python, so that nothing is compiled at its start.

    The files hold the hash of their source, unchecked: they are the same at every build, and no
    source is looked at when they are loaded.
    """
    folders = [place for place in (STANDARD_LIBRARY, SITE_PACKAGES) if (root / place[1:]).is_dir()]
    command = [f"/usr/bin/{PYTHON}", "-I", "-m", "compileall", "-q", "-f"]
    command += ["--invalidation-mode", "unchecked-hash", *folders]
    environment = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
    run(root, command, environment)


def check_imports(root: Path, run: RunInRoot) -> None:
    """Have the image's Python import what a worker does first; raises `ImageToolError`."""
    program = "import native_kernels, provider_image.round_runner, provider_image.wire"
    if (root / SITE_PACKAGES[1:] / "stable_baselines3").is_dir():
        program += "; from provider_image.learners import load_learner"
        program += "; load_learner('ppo', 'sb3').packages()"
    environment = {**ENVIRONMENT, "HOME": "/tmp", "TMPDIR": "/tmp"}
    run(root, [f"{PREFIX}/bin/python3", "-c", program], environment)


def set_modes(root: Path) -> None:
    """Give every entry the same mode on every machine, whatever its umask."""
    for path in _entries(root):
        if path.is_symlink():
            continue
        is_executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if is_executable else 0o644)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    root.chmod(0o755)


def _entries(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            yield Path(folder) / name
