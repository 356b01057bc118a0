"""No code for a high processor level runs on a lower one: what the build checks, and its check."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from native_kernels import _native

KERNELS = Path(__file__).parents[2] / "native_kernels"
CHECK = KERNELS / "cmake" / "level_safety.cmake"

SOUND = """
namespace derl::avx2 {
namespace { __attribute__((noinline)) float half(float x) { return x * 0.5f; } }
template <class T> __attribute__((noinline)) T twice(T x) { return x + x; }
float kernel(float x) { return twice(half(x)); }
}
"""
SHARED_INLINE = """
namespace derl { __attribute__((noinline)) inline float twice(float x) { return x + x; } }
namespace derl::avx2 { float kernel(float x) { return twice(x); } }
"""
STANDARD_TEMPLATE = """
#include <vector>
namespace derl::avx2 { void kernel(std::vector<float>& x) { x.push_back(1.0f); } }
"""
OTHER_LEVEL = "namespace derl::avx512 { float kernel(float x) { return x; } }"
INITIALISER = """
float read();
namespace derl::avx2 { static float state = read(); float kernel() { return state; } }
"""


def check(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    compiler, nm, cmake = (shutil.which(name) for name in ("c++", "nm", "cmake"))
    if not (compiler and nm and cmake):
        pytest.skip("needs c++, nm and cmake")
    code, built = folder / "kernel.cpp", folder / "kernel.o"
    code.write_text(source)
    subprocess.run(
        [compiler, "-std=c++20", "-O0", "-c", str(code), "-o", str(built)], check=True, timeout=60
    )
    options = [f"-DNM={nm}", "-DLEVEL=avx2", f"-DOBJECTS={built}"]
    return subprocess.run(
        [cmake, *options, "-P", str(CHECK)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_stays_in_the_namespace_of_its_level_passes(tmp_path: Path) -> None:
    ran = check(SOUND, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (SHARED_INLINE, "derl::twice(float)"),
        (STANDARD_TEMPLATE, "std::vector<float"),
        (OTHER_LEVEL, "derl::avx512::kernel"),
        (INITIALISER, "initialises something when it is loaded"),
    ],
    ids=["inline function", "standard template", "other level", "initialiser"],
)
def test_what_the_linker_could_share_ends_the_build(
    source: str, named: str, tmp_path: Path
) -> None:
    ran = check(source, tmp_path)
    assert ran.returncode != 0
    assert named in ran.stderr.replace("\n  ", " ")


# VEX and EVEX instructions start with v; these of x86-64-v2 do, too
NOT_VECTOR = re.compile(r"^(verr|verw|vm\w+)$")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")


def test_no_function_of_the_module_outside_its_level_has_avx_instructions() -> None:
    objdump = shutil.which("objdump")
    if objdump is None or _native.levels.of_this_machine() == "generic":
        pytest.skip("needs objdump and an x86-64 module")
    dump = subprocess.Popen(
        [objdump, "-dC", "--no-show-raw-insn", str(_native.__file__)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert dump.stdout is not None
    function, functions = "", 0
    wrong: set[str] = set()
    right: set[str] = set()
    for line in dump.stdout:
        if named := FUNCTION.match(line):
            function = named[1]
            functions += 1
            continue
        mnemonic = line.partition("\t")[2].partition(" ")[0].strip()
        if mnemonic.startswith("v") and not NOT_VECTOR.match(mnemonic):
            is_at_level = "derl::avx2::" in function or "derl::avx512::" in function
            (right if is_at_level else wrong).add(function)
    assert dump.wait() == 0
    if functions < 100:
        pytest.skip("the module has been stripped of its symbols; the build has checked its parts")
    assert right, "no AVX instructions found at all: this test reads nothing"
    assert not wrong


LIBRARY = re.compile(
    r"(?:std)?::(pow|exp|expm1|log|log1p|sin|cos|tan|tanh|asin|acos|atan|atan2|cbrt|hypot)f?\("
)
"""Rounded to the C library's taste, and glibc's differs between processors with and without FMA."""


def test_no_kernel_takes_its_numbers_from_the_c_library() -> None:
    uses = {
        str(path.relative_to(KERNELS))
        for folder in ("include", "src")
        for path in (KERNELS / folder).rglob("*.?pp")
        if "cuda" not in path.parts and LIBRARY.search(path.read_text())
    }
    # the exact mode of environments follows Gymnasium's NumPy and is no part of the promise
    assert uses
    assert not {name for name in uses if not name.startswith("include/derl/environments/")}
