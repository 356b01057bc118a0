"""Small images, made on the spot: a good one, and what a hostile hand makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gvmi.variants import ENVIRONMENT
from requestor.mock_golem.images.gvmi_file import trailer

NEEDED_PROGRAMS = ("mksquashfs", "unsquashfs", "prlimit")
SITE = "opt/derl/lib/python3.11/site-packages"
SOURCES = "5e" * 32
SETTINGS: dict[str, Any] = {
    "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
    "WorkingDir": "/golem/work",
    "Volumes": {"/golem/work": {}},
    "Labels": {"derl.variant": "native", "derl.sources": SOURCES, "derl.cuda": "no"},
}
MakeImage = Callable[..., Path]


def bill(*purls: str) -> str:
    """A bill of materials that lists these packages."""
    components = [{"type": "library", "name": "x", "purl": purl} for purl in purls]
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components})


GOOD_BILL = bill(
    "pkg:pypi/tiny-pack@1.2", "pkg:deb/debian/dash@0.5.12-2?arch=amd64&distro=debian-12"
)
PYC = bytes.fromhex("a70d0d0a 01000000 0000000000000000") + b"code"  # checked by nothing
FILES: dict[str, str | bytes] = {
    "usr/bin/dash": "#!ELF",
    "usr/bin/python3.11": "ELF",
    "usr/lib/python3.11/os.py": "",
    "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": PYC,
    f"{SITE}/tiny_pack/__init__.py": "x = 1\n",
    f"{SITE}/tiny_pack/__pycache__/__init__.cpython-311.pyc": PYC,
    f"{SITE}/Tiny.Pack-1.2.dist-info/METADATA": "Name: tiny.pack\n",
    "opt/derl/bin/derl-worker": "#!/opt/derl/bin/python3\n",
    "opt/derl/share/image.json": json.dumps({"variant": "native", "sources": SOURCES}),
    "opt/derl/share/bill-of-materials.cdx.json": GOOD_BILL,
    "var/lib/dpkg/status": "Package: dash\nStatus: install ok installed\nVersion: 0.5.12-2\n",
}
LINKS = {
    "bin": "usr/bin",
    "usr/bin/sh": "dash",
    "opt/derl/bin/python3": "../../../usr/bin/python3.11",
}


def make_root(root: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write the good tree with changes; None leaves a file out."""
    for name, content in (FILES | dict(files)).items():
        if content is None:
            continue
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if "/bin/" in name else 0o644)
    for name, target in LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    (root / "golem/work").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Makes an image file of the good tree with changes.

    `pseudo` are definitions as `mksquashfs -p` takes them, `change` is called with the tree,
    `settings` replaces entries of the trailer's settings.
    """
    missing = [name for name in NEEDED_PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not here (apt install squashfs-tools)")

    def make(
        files: Mapping[str, str | bytes | None] | None = None,
        pseudo: Sequence[str] = (),
        change: Callable[[Path], None] = lambda root: None,
        settings: Mapping[str, Any] | None = None,
    ) -> Path:
        root, squashfs, image = (tmp_path / name for name in ("root", "squashfs", "image.gvmi"))
        shutil.rmtree(root, ignore_errors=True)
        make_root(root, files or {})
        change(root)
        command = ["mksquashfs", str(root), str(squashfs), "-comp", "gzip", "-noappend"]
        for definition in pseudo:
            command += ["-p", definition]
        subprocess.run(
            [*command, "-all-root", "-quiet", "-no-progress", "-processors", "1"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        told = json.dumps(SETTINGS | dict(settings or {})).encode()
        image.write_bytes(squashfs.read_bytes() + trailer(told))
        return image

    return make
