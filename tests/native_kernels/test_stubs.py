"""The .pyi of the built module says what the module has."""

import subprocess
import sys
from pathlib import Path

from native_kernels import _native


def test_the_stub_fits_the_built_module(tmp_path: Path) -> None:
    # another copy of the module under a name of its own would not be checked against the .pyi
    assert _native.__name__ == "native_kernels._native"
    check = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "native_kernels._native"],
        cwd=Path(__file__).parents[2],
        env={"MYPY_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
