"""The wheel of what providers run: its sources' digest, and what is kept of builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gvmi.assembly import provider_wheel
from gvmi.assembly.build_root import Jailed
from gvmi.assembly.provider_wheel import build_provider_wheel, source_files, sources_digest
from gvmi.errors import ImageToolError, MachineUnfit

SOURCES = {
    "LICENSE": "MIT",
    "pyproject.toml": "[project]\nname = 'derl'\nversion = '1.2.3'\n",
    "native_kernels/CMakeLists.txt": "project(kernels)",
    "native_kernels/src/sum.cpp": "int sum;",
    "native_kernels/__init__.py": "",
    "provider_image/__init__.py": "",
    "provider_image/wire/__init__.py": "x = 1\n",
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository, and a cache of its own."""
    folder = tmp_path / "a clone"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(provider_wheel, "REPOSITORY", folder)
    monkeypatch.setattr(
        provider_wheel, "make_build_root", lambda *more, **options: tmp_path / "root-1"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


class Compiler:
    """What stands in for the compiler: a wheel that says how many were built before."""

    def __init__(self) -> None:
        self.sources: list[dict[str, str]] = []
        self.before: Callable[[], None] = lambda: None

    def __call__(self, root: Path, jailed: Jailed) -> None:
        self.before()
        source = jailed.folders["/src"]
        self.sources.append(
            {
                str(path.relative_to(source)): path.read_text()
                for path in source.rglob("*")
                if path.is_file()
            }
        )
        wheel = jailed.folders["/out"] / "derl_provider-1.2.3-py3-none-any.whl"
        wheel.write_text(f"wheel {len(self.sources)}")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """No compiler."""
    made = Compiler()
    monkeypatch.setattr(provider_wheel, "run_jailed", made)
    return made


def build(fresh: bool = False, progress: Callable[[str], None] = lambda what: None) -> str:
    return build_provider_wheel(progress, fresh=fresh).path.read_text()


def left(repository: Path) -> list[str]:
    return sorted(path.name for path in (repository.parent / "cache/derl/wheels").iterdir())


def test_the_sources_are_what_is_compiled_and_nothing_that_lies_about(repository: Path) -> None:
    before = sources_digest()
    for name in ("provider_image/__pycache__/x.py", "native_kernels/_kernels.so", "notes.md"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("lies about")
    (repository / "requestor").mkdir()
    assert sources_digest() == before
    assert [str(path) for path in source_files()] == [
        "LICENSE",
        "native_kernels/CMakeLists.txt",
        "native_kernels/__init__.py",
        "native_kernels/src/sum.cpp",
        "provider_image/__init__.py",
        "provider_image/wire/__init__.py",
    ]


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_counts(repository: Path, name: str) -> None:
    before = sources_digest()
    text = (repository / name).read_text()
    (repository / name).write_text(text.replace("1.2.3", "1.2.4") + "\n")
    if name == "pyproject.toml":
        assert "1.2.4" in (repository / name).read_text()
    assert sources_digest() != before


def test_a_wheel_is_compiled_once_for_the_same_sources(
    repository: Path, compiler: Compiler
) -> None:
    assert (build(), build()) == ("wheel 1", "wheel 1")
    assert compiler.sources[0]["native_kernels/src/sum.cpp"] == "int sum;"
    assert 'version = "1.2.3"' in compiler.sources[0]["pyproject.toml"]
    (repository / "native_kernels/src/sum.cpp").write_text("long sum;")
    assert build() == "wheel 2"
    assert build(fresh=True) == "wheel 3"
    assert build() == "wheel 3"
    assert len(left(repository)) == 2


def test_a_failed_build_keeps_the_wheel_before(repository: Path, compiler: Compiler) -> None:
    build()

    def fail() -> None:
        raise ImageToolError("it does not compile")

    compiler.before = fail
    with pytest.raises(ImageToolError, match="does not compile"):
        build(fresh=True)
    assert build() == "wheel 1"
    assert len(left(repository)) == 1


def test_a_build_whose_sources_change_under_it_is_refused(
    repository: Path, compiler: Compiler
) -> None:
    def edit(what: str) -> None:
        (repository / "native_kernels/src/sum.cpp").write_text("long sum;")

    with pytest.raises(ImageToolError, match="sources have changed") as error:
        build(progress=edit)
    assert error.value.fix == "build again"
    assert (compiler.sources, left(repository)) == ([], [])


def test_two_builds_at_once_both_come_to_an_end(repository: Path, compiler: Compiler) -> None:
    def another() -> None:
        compiler.before = lambda: None
        assert build() == "wheel 1"

    compiler.before = another
    assert build() == "wheel 2"
    assert len(left(repository)) == 1


def test_without_the_kernels_sources_the_way_to_them_is_told(repository: Path) -> None:
    (repository / "native_kernels/CMakeLists.txt").unlink()
    with pytest.raises(MachineUnfit, match="holds no sources") as error:
        sources_digest()
    assert "clone" in (error.value.fix or "")
