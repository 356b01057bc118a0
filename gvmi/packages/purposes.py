"""What packages are locked for: the root file system of each variant, and the tools that build it.

Plain data; `derl-image lock` turns it into the files of `gvmi/packages/locks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gvmi.packages.package_locks import DebianPackage

BOOKWORM = (
    "debian bookworm main",
    "debian bookworm-updates main",
    "debian-security bookworm-security main",
)


@dataclass(frozen=True)
class DebianPurpose:
    """Debian packages for one purpose; `closed` adds all that they depend on.

    `sources` are archive, suite and section of where they are looked for; `fixed` are packages of
    one version that is to be had although no index lists it any more.
    """

    packages: tuple[str, ...]
    closed: bool = False
    sources: tuple[str, ...] = BOOKWORM
    fixed: tuple[DebianPackage, ...] = ()


@dataclass(frozen=True)
class PythonPurpose:
    """Requirements for one purpose; `without` names what is never imported and left out."""

    packages: tuple[str, ...]
    without: tuple[str, ...] = ()


# What Golem's runtime for GPUs expects of an image: the driver's libraries, of exactly the version
# that its own base image (golem_nvidia_base) has: libcuda works with no other kernel module.
NVIDIA_DRIVER = "535.183.01"

_NATIVE_PYTHON = (
    "numpy>=2.0,<3",
    "msgspec>=0.20,<1",
    "safetensors>=0.5,<1",
    "zstandard>=0.23,<0.26",
)
_SB3_PYTHON = ("stable-baselines3>=2.9.2,<2.10", "gymnasium>=1.4,<2", "Box2D==2.3.10")

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
    # of CUDA 12, as this driver knows it: nvcc, which NVIDIA's wheels lack. From Debian 13, but its
    # programs need nothing newer than Debian 12's libraries.
    "build-cuda": DebianPurpose(("nvidia-cuda-toolkit",), sources=("debian trixie non-free",)),
    "root-cuda": DebianPurpose(
        ("nvidia-modprobe",),  # makes /dev/nvidia*
        sources=("debian bookworm contrib",),
        fixed=(
            DebianPackage(
                name="libnvidia-compute-535",
                version=f"{NVIDIA_DRIVER}-0ubuntu0.22.04.1",
                path="ubuntu/pool/restricted/n/nvidia-graphics-drivers-535/"
                f"libnvidia-compute-535_{NVIDIA_DRIVER}-0ubuntu0.22.04.1_amd64.deb",
                size_bytes=40_668_528,
                sha256="4174e285e4b906d768819facdbd31fdc9b22dbd00c36aebece3e0e67af5da3af",
            ),
        ),
    ),
    # `derl-image boot`: the kernel on which linux-image-cloud-amd64 depends today, and its first
    # programs
    "boot": DebianPurpose(("busybox-static", "linux-image-6.1.0-56-cloud-amd64")),
}

PYTHON_PURPOSES: dict[str, PythonPurpose] = {
    "native": PythonPurpose(_NATIVE_PYTHON),
    "sb3": PythonPurpose((*_NATIVE_PYTHON, *_SB3_PYTHON, "torch==2.13.0")),
    # The newest torch on the index for CUDA 12. Its cubins are compressed in a way that drivers
    # before CUDA 12.4's can read. Nothing here uses torch.compile, which triton and cuda-bindings
    # are for.
    "cuda": PythonPurpose(
        (*_NATIVE_PYTHON, *_SB3_PYTHON, "torch==2.10.0", "cupy-cuda12x>=14.2,<15"),
        without=("cuda-bindings", "triton"),
    ),
    "build": PythonPurpose(("scikit-build-core>=1.0,<2", "pybind11>=3.0,<4")),
    # headers for Debian's nvcc, of its version
    "build-cuda": PythonPurpose(
        ("nvidia-cuda-nvcc-cu12==12.4.131", "nvidia-cuda-runtime-cu12==12.4.127")
    ),
    # the one wheel of CUDA 12's runtime that has it as a static library
    "build-cudart": PythonPurpose(("nvidia-cuda-runtime-cu12==12.9.79",)),
}
