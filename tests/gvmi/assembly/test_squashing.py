"""Writing GVMI files: the settings behind the squashfs, and the same bytes for the same tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from gvmi.assembly.squashing import (
    COMPRESSIONS,
    Compression,
    Squeeze,
    container_settings,
    write_gvmi,
)
from gvmi.errors import ImageToolError
from requestor.mock_golem.images.gvmi_file import (
    READABLE_COMPRESSIONS,
    image_hash,
    read_gvmi,
)
from tests.gvmi.assembly.squashing_root import make_squashing_root

NAMES = [f"usr/lib/package{number}/module{number % 7}.py" for number in range(40)]


@pytest.fixture(scope="module")
def build_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for the build root."""
    return make_squashing_root(tmp_path_factory.mktemp("build root"))


def make_tree(root: Path, *, backwards: bool = False, umask: int = 0o022, seconds: int = 1) -> Path:
    """The same tree, made in one order or the other at some time."""
    before = os.umask(umask)
    try:
        for name in sorted(NAMES, reverse=backwards):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {name}\n" * 500)
            os.utime(path, (seconds, seconds))
        (root / "bin").symlink_to("usr/bin")
        os.link(root / NAMES[0], root / "usr/other-name")
    finally:
        os.umask(before)
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o755)
        os.utime(folder, (seconds, seconds))
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o644)
    return root


def test_the_settings_are_those_of_a_container_in_one_fixed_text() -> None:
    settings = container_settings({"derl.variant": "native", "a": "b"})
    environment = {
        "PATH": "/opt/derl/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": "/golem/work",
        "TMPDIR": "/golem/work",
        "XDG_CACHE_HOME": "/golem/work/.cache",
        "XDG_CONFIG_HOME": "/golem/work/.config",
        "MPLCONFIGDIR": "/golem/work/.cache/matplotlib",
        "NUMBA_CACHE_DIR": "/golem/work/.cache/numba",
        "TORCHINDUCTOR_CACHE_DIR": "/golem/work/.cache/torch",
        "CUPY_CACHE_DIR": "/golem/work/.cache/cupy",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
    }
    expected = (
        '{"Env":['
        + ",".join(f'"{name}={value}"' for name, value in sorted(environment.items()))
        + '],"Labels":{"a":"b","derl.variant":"native"}'
        + ',"Volumes":{"/golem/work":{}},"WorkingDir":"/golem/work"}'
    )
    assert settings.decode() == expected
    assert "ENTRYPOINT" not in expected.upper()


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path, build_root: Path) -> None:
    one = make_tree(tmp_path / "one")
    two = make_tree(tmp_path / "two trees", backwards=True, umask=0o077, seconds=1_800_000_000)
    how = Squeeze(labels={"derl.variant": "native"})
    before = os.umask(0o077)
    try:
        write_gvmi(one, tmp_path / "out" / "one.gvmi", build_root, how)
        os.umask(0o000)
        write_gvmi(two, tmp_path / "out" / "two.gvmi", build_root, how)
    finally:
        os.umask(before)
    images = [tmp_path / "out" / f"{name}.gvmi" for name in ("one", "two")]
    assert image_hash(images[0]) == image_hash(images[1])
    assert [oct(image.stat().st_mode & 0o777) for image in images] == ["0o644", "0o644"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.gvmi", "two.gvmi"]
    (two / NAMES[3]).write_text("other")
    write_gvmi(two, images[1], build_root, how)
    assert image_hash(images[0]) != image_hash(images[1])


def test_what_is_written_is_read_back(tmp_path: Path, build_root: Path) -> None:
    if shutil.which("unsquashfs") is None:
        pytest.skip("there is no unsquashfs: sudo apt install squashfs-tools")
    tree = make_tree(tmp_path / "tree")
    image = tmp_path / "image.gvmi"
    write_gvmi(tree, image, build_root, Squeeze(labels={"derl.variant": "native"}))
    found = read_gvmi(image)
    assert found.squashfs.modified_at == 1_767_225_600
    assert found.settings.volumes == ("/golem/work",)
    assert found.settings.working_dir == "/golem/work"
    assert found.settings.labels == {"derl.variant": "native"}
    settings = image.read_bytes()[:-8][found.squashfs.size_bytes :]
    assert json.loads(settings[settings.index(b"{") :])["WorkingDir"] == "/golem/work"
    command = ["unsquashfs", "-lln", "-d", "", str(image)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listing.splitlines() if line.startswith(("-", "d", "l"))]
    assert {line[1] for line in lines} == {"0/0"}
    assert {line[3] for line in lines} == {"2026-01-01"}
    command = ["unsquashfs", "-q", "-n", "-d", str(tmp_path / "back"), str(image)]
    subprocess.run(command, capture_output=True, check=True)
    for name in NAMES:
        assert (tmp_path / "back" / name).read_bytes() == (tree / name).read_bytes()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_can_be_read_by_the_runtime(
    tmp_path: Path, build_root: Path, compression: Compression
) -> None:
    image = tmp_path / "image.gvmi"
    write_gvmi(make_tree(tmp_path / "tree"), image, build_root, Squeeze(compression, 1 << 17))
    found = read_gvmi(image).squashfs
    assert (found.compression, found.block_bytes) == (compression, 1 << 17)


def test_the_compressions_on_offer_are_those_of_the_runtime() -> None:
    assert set(COMPRESSIONS) == set(get_args(Compression)) <= set(READABLE_COMPRESSIONS)


def test_an_image_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, build_root: Path
) -> None:
    image = tmp_path / "out" / "image.gvmi"
    image.parent.mkdir()
    image.write_text("before")
    (build_root / "usr/bin/mksquashfs").rename(build_root / "usr/bin/away")
    try:
        with pytest.raises(ImageToolError, match="mksquashfs failed in the build root"):
            write_gvmi(make_tree(tmp_path / "tree"), image, build_root, Squeeze())
    finally:
        (build_root / "usr/bin/away").rename(build_root / "usr/bin/mksquashfs")
    assert image.read_text() == "before"
    assert [path.name for path in image.parent.iterdir()] == ["image.gvmi"]
