"""The image for GPUs: made of what fits CUDA 12, and what it needs at run time stays in it."""

import re
from pathlib import Path

from gvmi.assembly.cuda_kernels import said_of_kernels
from gvmi.assembly.root_file_system import is_wanted, prune_wheels
from gvmi.packages.package_locks import read_debian_lock, read_python_lock
from gvmi.packages.purposes import DEBIAN_PURPOSES, NVIDIA_DRIVER


def test_everything_of_cuda_that_is_locked_is_cuda_12() -> None:
    versions = {one.name: one.version for one in read_python_lock("cuda")}
    libraries = [name for name in versions if name.startswith(("nvidia-", "cupy-"))]
    assert len(libraries) > 10
    assert [name for name in libraries if not name.endswith(("-cu12", "-cuda12x"))] == []
    assert versions["nvidia-cuda-runtime-cu12"].startswith("12.")
    assert versions["torch"] == "2.10.0"  # 2.11 is for CUDA 13


def test_the_variant_for_gpus_learns_with_the_same_libraries_as_the_other() -> None:
    there = {one.name: one.version for one in read_python_lock("cuda")}
    other = {one.name: one.version for one in read_python_lock("sb3") if one.name != "torch"}
    unlike = {name for name, version in other.items() if there.get(name) != version}
    assert unlike <= {"setuptools"}  # which only newer torch asks for


def test_the_driver_is_the_one_of_golems_runtime() -> None:
    rows = {one.name: one for one in read_debian_lock().section("root-cuda")}
    assert rows["libnvidia-compute-535"].version.startswith(f"{NVIDIA_DRIVER}-")
    assert rows["libnvidia-compute-535"] in DEBIAN_PURPOSES["root-cuda"].fixed


def test_the_label_names_cards_and_compiler_or_says_that_there_was_none() -> None:
    label = said_of_kernels(built=True)
    assert re.findall(r"sm_\d+", label) == ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"]
    assert "nvcc 12.4" in label and NVIDIA_DRIVER in label
    assert said_of_kernels(built=False).startswith("no kernels: built without nvcc")


def test_what_cupy_compiles_with_stays_and_what_serves_several_cards_goes(tmp_path: Path) -> None:
    kept = (
        "cupy/_core/include/cupy/carray.cuh",
        "nvidia/cuda_runtime/include/cuda_fp16.h",
        "nvidia/cusolver/lib/libcusolver.so.11",
        "torch/bin/torch_shm_manager",
        "torch/testing/_internal/logging_tensor.py",
    )
    dropped = (
        "nvidia/cudnn/include/cudnn.h",
        "nvidia/cusolver/lib/libcusolverMg.so.11",
        "nvidia/nvshmem/lib/libnvshmem_device.a",
        "torch/bin/models/one.ptl",
        "torch/bin/protoc",
        "torch/testing/_internal/py312_intrinsics.py",
    )
    for name in (*kept, *dropped):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    prune_wheels(tmp_path)
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in dropped if (tmp_path / name).exists()] == []


def test_of_the_driver_only_what_computes_stays() -> None:
    folder = "usr/lib/x86_64-linux-gnu"
    assert is_wanted(f"{folder}/libcuda.so.1")
    assert is_wanted(f"{folder}/libnvidia-ptxjitcompiler.so.1")
    assert not is_wanted(f"{folder}/libnvidia-opencl.so.1")
    assert not is_wanted("etc/OpenCL/vendors/nvidia.icd")
