"""Cleaning the cache: what can be made again goes, and never under a build."""

from pathlib import Path

import pytest

from gvmi.errors import MachineUnfit
from gvmi.packages.cache_cleaning import cache_in_use, clean_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "derl"
    for name in ("build-roots/a", "wheels/b", "roots/c", "tmpx1", "downloads", "kernels", "mine"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_bytes(bytes(10))
    return cache


def test_what_can_be_made_again_goes(cache: Path) -> None:
    assert clean_cache(downloads=False) == 40
    assert sorted(path.name for path in cache.iterdir()) == [
        *("downloads", "in-use", "kernels", "mine")
    ]
    assert clean_cache(downloads=True) == 20
    assert sorted(path.name for path in cache.iterdir()) == ["in-use", "mine"]


def test_not_while_an_image_is_built(cache: Path) -> None:
    with cache_in_use(), cache_in_use():
        with pytest.raises(MachineUnfit, match="being built"):
            clean_cache(downloads=True)
        assert (cache / "wheels/b/file").exists()
    assert clean_cache(downloads=False) == 40
