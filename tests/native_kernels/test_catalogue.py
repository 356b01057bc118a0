"""CATALOGUE.md says what catalogue.py and the code say."""

import re
from pathlib import Path

import native_kernels
from native_kernels import cuda
from native_kernels.catalogue import ELSEWHERE, KERNELS

PAGE = (Path(native_kernels.__file__).parent / "CATALOGUE.md").read_text(encoding="utf-8")
TESTS = Path(__file__).parent


def rows_below(title: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading, its head left out."""
    lines = PAGE.split(f"## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table[2:]
    ]


def test_kernels_and_tolerances_are_those_of_the_table() -> None:
    found = [(name, tolerance) for name, _, _, tolerance, _ in rows_below("Defined in NumPy")]
    assert found == [(f"`{kernel.name}`", kernel.tolerance) for kernel in KERNELS]


def test_the_page_knows_what_a_cuda_device_computes() -> None:
    for name, *_, on_a_device in rows_below("Defined in NumPy"):
        assert on_a_device == ("yes" if hasattr(cuda, name.strip("`")) else "no"), name


def test_what_is_held_elsewhere_is_that_of_the_table() -> None:
    found = [
        (name, tolerance, tests)
        for name, _, _, tolerance, tests in rows_below("Held against others")
    ]
    assert found == [
        (f"`{row.name}`", row.tolerance, ", ".join(f"`{test}`" for test in row.tests))
        for row in ELSEWHERE
    ]


def test_the_tests_named_are_there() -> None:
    for row in ELSEWHERE:
        for test in row.tests:
            assert (TESTS / test).is_file(), test


def test_every_kernel_has_a_speed() -> None:
    measured = {name.strip("`") for name, *_ in rows_below("Speed")}
    assert measured == {kernel.name for kernel in KERNELS}
