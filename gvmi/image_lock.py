"""`gvmi/image.lock.yaml`: which image of each variant is the one to use.

Configs refer to it (`golem.image: lock:native`), `verify` compares with it, `build` and `push`
write it.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from gvmi.errors import BadImage
from gvmi.variants import VARIANTS, Variant

LOCK_FILE = Path(__file__).parent / "image.lock.yaml"
_HEADER = "# Written by `derl-image`; configs refer to it as `golem.image: lock:<variant>`.\n"
_HASH = re.compile(r"[0-9a-f]{56}")
_MAX_BYTES = 64 << 10


@dataclass(frozen=True)
class LockedImage:
    """One built image. `sha3` is its SHA3-224; `sources` the digest of what it was built from."""

    variant: Variant
    sha3: str
    size_bytes: int
    sources: str
    commit: str
    tag: str | None = None


def read_lock(path: Path = LOCK_FILE) -> dict[Variant, LockedImage]:
    """Return what is locked; nothing where there is no such file.

    Raises:
        BadImage: the file is not a lock.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        found: Any = yaml.safe_load(raw[: _MAX_BYTES + 1]) if len(raw) <= _MAX_BYTES else None
    except (yaml.YAMLError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _no_lock(path, "it is no mapping of variants")
    return {name: _locked(name, row, path) for name, row in found.items()}


def locked_image(variant: str, path: Path = LOCK_FILE) -> LockedImage:
    """Return the locked image of a variant.

    Raises:
        BadImage: there is none.
    """
    for name, row in read_lock(path).items():
        if name == variant:
            return row
    raise BadImage(
        f"no image {variant!r} is locked in {path.name}",
        fix=f"build it: derl-image build {variant}"
        if variant in VARIANTS
        else f"variants are {', '.join(VARIANTS)}",
    )


def write_locked(image: LockedImage, path: Path = LOCK_FILE) -> None:
    """Put an image into the lock, whole or not at all; a tag is kept while the hash is the same.

    Two at once wait for each other.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _write(image, path)
    finally:
        os.close(folder)


def _write(image: LockedImage, path: Path) -> None:
    images = read_lock(path)
    before = images.get(image.variant)
    if image.tag is None and before is not None and before.sha3 == image.sha3:
        image = replace(image, tag=before.tag)
    images[image.variant] = image
    rows = {name: _row(images[name]) for name in VARIANTS if name in images}
    text = _HEADER + yaml.safe_dump(rows, sort_keys=False)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".image.lock.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _row(image: LockedImage) -> dict[str, Any]:
    row = asdict(image)
    del row["variant"]
    return row


def _locked(name: Any, row: Any, path: Path) -> LockedImage:
    known = {field.name for field in fields(LockedImage)} - {"variant"}
    if name not in VARIANTS or not isinstance(row, dict) or not set(row) <= known:
        raise _no_lock(path, f"{str(name)[:40]!r} is no variant with {', '.join(sorted(known))}")
    sha3, size, tag = row.get("sha3"), row.get("size_bytes"), row.get("tag")
    texts = [row.get("sources"), row.get("commit"), *([] if tag is None else [tag])]
    if (
        not isinstance(sha3, str)
        or not _HASH.fullmatch(sha3)
        or type(size) is not int
        or size <= 0
        or not all(isinstance(text, str) for text in texts)
    ):
        raise _no_lock(path, f"the row {name!r} is not whole")
    return LockedImage(variant=name, **row)


def _no_lock(path: Path, why: str) -> BadImage:
    return BadImage(f"{path}: not an image lock: {why}", fix="take it from git again")
