"""Every input of the corpus is read, or refused with the documented error; so are all seeds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MAX_CORPUS_BYTES = 300_000
NOTHING_WHOLE = ("quote", "run-files")  # what they name is not there


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_crashes_nothing(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    draw = random.Random(name)
    drawn = [draw.randbytes(draw.randrange(target.max_bytes)) for _ in range(10)]
    for data in (b"", *target.seeds(), *inputs, *drawn):
        target.try_on(data, tmp_path)


def test_some_seed_is_read_by_each_target_that_has_any(tmp_path: Path) -> None:
    for name, target in TARGETS.items():
        if seeds := target.seeds():
            folder = tmp_path / name
            folder.mkdir()
            accepted = [target.try_on(seed, folder) for seed in seeds]
            assert any(accepted) or name in NOTHING_WHOLE, name


def test_the_corpus_is_small_and_belongs_to_targets() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < MAX_CORPUS_BYTES
