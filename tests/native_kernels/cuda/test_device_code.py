"""What nvcc makes of the kernels: IEEE operations alone, fused where that is written only.

Needs nvcc, no GPU. Approximate division, flushing of small numbers or contraction would give a
device bits of its own.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import native_kernels

SOURCES = Path(native_kernels.__file__).parent / "src" / "cuda"
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
OPTIONS = ["-std=c++20", "-O3", "-fmad=false", "-arch=compute_75", "-ptx"]
# their formulas have no fused operation
UNFUSED = ("advantages", "aggregation", "codecs")


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc was not found")
@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.cu")), ids=lambda path: path.stem)
def test_device_code_rounds_as_ieee_754_says(source: Path, tmp_path: Path) -> None:
    include = [f"-I{SOURCES.parent}", f"-I{SOURCES.parents[1] / 'include'}"]
    command = [str(NVCC), *OPTIONS, *include, str(source), "-o", str(tmp_path / "device.ptx")]
    subprocess.run(command, check=True, capture_output=True)
    text = (tmp_path / "device.ptx").read_text()
    assert ".entry" in text
    assert re.findall(r"\S+\.(?:approx|ftz|full)\S*", text) == []
    assert set(re.findall(r"\b(?:div|sqrt|fma|mad|add|mul)\.(\w+)\.f(?:32|64)", text)) <= {"rn"}
    if source.stem in UNFUSED:
        assert re.findall(r"\b(?:fma|mad)\.\S*f(?:32|64)", text) == []
