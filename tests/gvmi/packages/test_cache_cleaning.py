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
    assert clean_cache(cache.parent / "images", downloads=False) == 40
    assert sorted(path.name for path in cache.iterdir()) == [
        *("downloads", "in-use", "kernels", "mine")
    ]
    assert clean_cache(cache.parent / "images", downloads=True) == 20
    assert sorted(path.name for path in cache.iterdir()) == ["in-use", "mine"]


def test_drafts_of_killed_builds_go_and_images_stay(cache: Path) -> None:
    images = cache.parent / "images"
    (images / "tmpabc").mkdir(parents=True)
    (images / "tmpabc/squashfs").write_bytes(bytes(7))
    (images / "derl-native.gvmi").write_bytes(bytes(5))
    assert clean_cache(images, downloads=False) == 47
    assert [path.name for path in images.iterdir()] == ["derl-native.gvmi"]


def test_not_while_an_image_is_built(cache: Path) -> None:
    with cache_in_use(), cache_in_use():
        with pytest.raises(MachineUnfit, match="being built"):
            clean_cache(cache.parent / "images", downloads=True)
        assert (cache / "wheels/b/file").exists()
    assert clean_cache(cache.parent / "images", downloads=False) == 40
