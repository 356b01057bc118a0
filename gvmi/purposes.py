"""What packages are locked for: the root file system of each variant, and the tools that build it.

Plain data; `derl-image lock` turns it into the files of `gvmi/locks`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DebianPurpose:
    """Debian packages for one purpose; `closed` adds all that they depend on."""

    packages: tuple[str, ...]
    closed: bool = False


@dataclass(frozen=True)
class PythonPurpose:
    """Requirements for one purpose; `without` names what is never imported and left out."""

    packages: tuple[str, ...]
    without: tuple[str, ...] = ()


_NATIVE_PYTHON = (
    "numpy>=2.0,<3",
    "msgspec>=0.20,<1",
    "safetensors>=0.5,<1",
    "zstandard>=0.23,<0.26",
)

DEBIAN_PURPOSES: dict[str, DebianPurpose] = {
    # what Python and the wheels load, a shell, and the texts of licences; no package manager
    "root": DebianPurpose(
        (
            "base-files",
            "dash",
            "gcc-12-base",  # the licence of its libraries
            "libbz2-1.0",
            "libc6",
            "libcrypt1",
            "libexpat1",
            "libffi8",
            "libgcc-s1",
            "libgomp1",
            "liblzma5",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "libssl3",
            "libstdc++6",
            "libuuid1",
            "python3.11-minimal",
            "zlib1g",
        )
    ),
    # compiles the kernels and writes the squashfs, the same everywhere
    "build": DebianPurpose(
        (
            "cmake",
            "coreutils",  # cmake asks uname for the processor
            "dash",
            "g++-12",
            "libpython3.11-dev",
            "ninja-build",
            "python3.11",
            "squashfs-tools",
        ),
        closed=True,
    ),
    # `derl-image boot`: the kernel on which linux-image-cloud-amd64 depends today, and its first
    # programs
    "boot": DebianPurpose(("busybox-static", "linux-image-6.1.0-56-cloud-amd64")),
}

PYTHON_PURPOSES: dict[str, PythonPurpose] = {
    "native": PythonPurpose(_NATIVE_PYTHON),
    "sb3": PythonPurpose(
        (
            *_NATIVE_PYTHON,
            "torch==2.13.0",
            "stable-baselines3>=2.9.2,<2.10",
            "gymnasium>=1.4,<2",
            "Box2D==2.3.10",
        )
    ),
    "build": PythonPurpose(("scikit-build-core>=1.0,<2", "pybind11>=3.0,<4")),
}
