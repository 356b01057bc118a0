"""Mounting images: the ways to do it, and what is said where none works."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from requestor.mock_golem.images import unpacking
from requestor.mock_golem.images.gvmi_file import ImageError
from requestor.mock_golem.images.library import ALL_WAYS, ImageLibrary
from requestor.mock_golem.images.mounts import MountedImage, Way
from tests.requestor.mock_golem import tiny_image
from tests.requestor.mock_golem.tiny_image import needs_images

pytestmark = [pytest.mark.asyncio, needs_images]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tiny_image.build(tmp_path / "tiny.gvmi")


def inside(mounted: MountedImage, *words: str) -> str:
    """What a program says that sees the mount."""
    done = subprocess.run([*mounted.starter, *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_an_image_is_mounted_for_those_who_are_started_into_it(
    tmp_path: Path, image: Path, way: Way
) -> None:
    library = ImageLibrary(tmp_path / "library", (way,))
    try:
        mounted = await library.mount(image)
    except ImageError as error:
        pytest.skip(str(error))
    assert mounted.way == way
    assert "worker:" in inside(mounted, "cat", os.fspath(mounted.folder / "etc" / "passwd"))
    assert (await library.mount(image)) is mounted
    if way != "folder":
        assert os.listdir(mounted.folder) == []  # here, nothing is to be seen of it
    await library.close()
    keeper = int(mounted.starter[1].partition("=")[2])
    assert not Path(f"/proc/{keeper}").exists()


async def test_a_keeper_that_was_killed_is_replaced(tmp_path: Path, image: Path) -> None:
    library = ImageLibrary(tmp_path / "library")
    first = await library.mount(image)
    os.kill(int(first.starter[1].partition("=")[2]), 9)
    while (second := await library.mount(image)) is first:
        await asyncio.sleep(0)
    assert "worker:" in inside(second, "cat", os.fspath(second.folder / "etc" / "passwd"))
    await library.close()


async def test_without_any_way_it_is_said_what_to_install(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nsenter = tmp_path / "bin" / "nsenter"
    nsenter.parent.mkdir()
    nsenter.write_text("")
    nsenter.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(nsenter.parent))
    library = ImageLibrary(tmp_path / "library", ("squashfuse", "folder"))
    with pytest.raises(ImageError, match="apt install squashfuse, or squashfs-tools"):
        await library.mount(image)
    nsenter.unlink()
    with pytest.raises(ImageError, match="apt install util-linux"):
        await library.mount(image)


@pytest.mark.parametrize(("name", "most"), [("MOST_FILES", 5), ("MOST_BYTES", 1000)])
async def test_what_unpacks_to_too_much_is_refused_before(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(unpacking, name, most)
    folder = tmp_path / "library" / "tiny.unpacked"
    with pytest.raises(ImageError, match="unpacks to more than"):
        await unpacking.unpack(image, folder)
    assert os.listdir(folder.parent) == []


async def test_a_bomb_of_zeros_is_seen_by_its_listing(tmp_path: Path) -> None:
    def furnish(root: Path) -> None:
        with (root / "bomb").open("wb") as file:
            file.truncate(257 << 20)

    image = tiny_image.build(tmp_path / "bomb.gvmi", furnish)
    assert image.stat().st_size < 20 << 20
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ImageError, match="unpacks to more"):
        patch.setattr(unpacking, "MOST_BYTES", 256 << 20)
        await unpacking.unpack(image, tmp_path / "out" / "bomb")


async def test_a_damaged_squashfs_leaves_nothing(tmp_path: Path, image: Path) -> None:
    damaged = bytearray(image.read_bytes())
    damaged[200:-400] = bytes(len(damaged) - 600)
    image.write_bytes(damaged)
    with pytest.raises(ImageError, match=r"cannot be listed|ended with code"):
        await unpacking.unpack(image, tmp_path / "out" / "damaged")
    assert os.listdir(tmp_path / "out") == []
    library = ImageLibrary(tmp_path / "library")
    with pytest.raises(ImageError, match="cannot be mounted"):
        await library.mount(image)
    await library.close()
