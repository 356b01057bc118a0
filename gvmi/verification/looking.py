"""Everything that can be told of an image without running anything of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gvmi.errors import BadImage
from gvmi.image_lock import LockedImage, read_lock
from gvmi.variants import PREFIX, VARIANTS, Variant
from gvmi.verification import content, materials
from gvmi.verification.deviations import Deviation, shown
from gvmi.verification.report import ImageFacts
from gvmi.verification.secret_names import PRIVATE_KEY, may_hold_key
from gvmi.verification.sizes import largest
from gvmi.verification.squashfs import Entry, list_squashfs, read_member
from gvmi.verification.tree import LeadsOut, Tree
from requestor.mock_golem.images.gvmi_file import GvmiFile, ImageError, image_hash, read_gvmi

MAX_DESCRIPTION_BYTES = 64 << 10
MAX_KEY_FILE_BYTES = 1 << 20
MAX_KEY_FILES = 200
_PYC_HEADER_BYTES = 16


@dataclass
class Looked:
    """What was seen; `skipped` names checks that could not be made, with the reason."""

    facts: ImageFacts
    variant: Variant | None
    deviations: list[Deviation]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def look_into(
    path: Path, lock: Path, variant: Variant | None, progress: Callable[[int], None]
) -> Looked:
    """Look at the layout, the hash and the content of an image.

    `variant` is what the image shall be; None leaves it to its label. `progress` is told the bytes
    hashed so far.

    Raises:
        BadImage: it is no image, or its squashfs cannot be listed safely.
        MachineUnfit: this machine has no `unsquashfs`.
    """
    try:
        image = read_gvmi(path)
        sha3 = image_hash(path, progress)
    except ImageError as error:
        raise BadImage(
            str(error), fix="build it: derl-image build, or download it again"
        ) from error
    tree = Tree(list_squashfs(path))
    looked = _first_impression(image, sha3, tree, variant)
    looked.deviations += content.dangers(tree, image)
    looked.deviations += _locked(image, sha3, lock, looked)
    looked.deviations += content.wants(tree, image)
    looked.deviations += _read_inside(path, tree, looked)
    if {deviation.check for deviation in looked.deviations} & {"names", "devices", "links"}:
        looked.notes.append("an image with such names is not to be unpacked as root")
    return looked


def _first_impression(image: GvmiFile, sha3: str, tree: Tree, variant: Variant | None) -> Looked:
    labels = image.settings.labels
    said = labels.get("derl.variant")
    known = next((name for name in VARIANTS if name == said), None)
    deviations = []
    if said is None:
        deviations.append(Deviation("settings", "there is no label derl.variant"))
    elif known is None:
        text = f"the label derl.variant is {said!r}; variants are {', '.join(VARIANTS)}"
        deviations.append(Deviation("settings", text))
    elif variant not in (None, known):
        text = f"the label derl.variant is {said!r}; {variant!r} was asked for"
        deviations.append(Deviation("settings", text))
    facts = ImageFacts(
        path=str(image.path),
        sha3=sha3,
        size_bytes=image.size_bytes,
        variant=said,
        sources=labels.get("derl.sources"),
        cuda=labels.get("derl.cuda"),
        compression=image.squashfs.compression,
        block_bytes=image.squashfs.block_bytes,
        names=len(tree),
        unpacked_bytes=content.total_bytes(tree),
        packages=len(materials.python_packages(tree)),
        largest=tuple(largest(tree)),
        labels=dict(labels),
    )
    return Looked(facts, variant or known, deviations)


def _locked(image: GvmiFile, sha3: str, lock: Path, looked: Looked) -> Iterator[Deviation]:
    rows = read_lock(lock)
    row = None if looked.variant is None else rows.get(looked.variant)
    if row is None:
        what = looked.variant or "this variant"
        looked.skipped["lock"] = f"no image {what} is locked in {lock.name}"
        return
    yield from lock_differences(row, sha3, image.size_bytes)


def lock_differences(row: LockedImage, sha3: str, size_bytes: int) -> Iterator[Deviation]:
    """Tell where an image is not the locked one; each text names both."""
    if sha3 != row.sha3:
        text = f"the hash is {sha3}; locked for {row.variant} is {row.sha3}"
        yield Deviation("lock", text)
    if size_bytes != row.size_bytes:
        text = f"the size is {size_bytes} bytes; locked for {row.variant} are {row.size_bytes}"
        yield Deviation("lock", text)


def _read_inside(path: Path, tree: Tree, looked: Looked) -> Iterator[Deviation]:
    """Read single files: keys, the image's description, byte code, the bill of materials."""
    suspects = [entry for entry in tree if may_hold_key(entry)]
    for entry in suspects[:MAX_KEY_FILES]:
        if entry.size_bytes <= MAX_KEY_FILE_BYTES and PRIVATE_KEY.search(
            read_member(path, entry.path, MAX_KEY_FILE_BYTES)
        ):
            yield Deviation("secrets", f"{shown(entry.path)} holds a private key")
    if len(suspects) > MAX_KEY_FILES:
        looked.notes.append(f"of {len(suspects)} key files only {MAX_KEY_FILES} were looked into")
    yield from _described(path, tree, looked)
    yield from _stale_byte_code(path, tree)
    yield from _bill(path, tree, looked)


def _content(path: Path, tree: Tree, member: str, most_bytes: int) -> bytes | None:
    try:
        found = tree.find(member)
    except LeadsOut:
        return None
    if found is None or not found.is_file:
        return None
    return read_member(path, found.path, most_bytes)


def _described(path: Path, tree: Tree, looked: Looked) -> Iterator[Deviation]:
    raw = _content(path, tree, f"{PREFIX}/share/image.json", MAX_DESCRIPTION_BYTES)
    if raw is None:
        return  # told as missing already
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        yield Deviation("settings", f"{PREFIX}/share/image.json is no JSON object")
        return
    for name in ("variant", "sources"):
        inside, label = found.get(name), looked.facts.labels.get(f"derl.{name}")
        if inside != label:
            text = f"{name} is {str(inside)[:80]!r} in image.json, {label!r} in the label"
            yield Deviation("settings", text)


def _stale_byte_code(path: Path, tree: Tree) -> Iterator[Deviation]:
    """Byte code that Python would not take: a sample, one module per place of modules."""
    for source in _sample(tree):
        compiled = tree.at(_compiled(source.path))
        if compiled is None:
            continue
        header = read_member(path, compiled.path, 8 << 20)[:_PYC_HEADER_BYTES]
        flags = int.from_bytes(header[4:8], "little")
        size = int.from_bytes(header[12:16], "little")
        if len(header) < _PYC_HEADER_BYTES or (flags == 0 and size != source.size_bytes):
            text = f"{shown(compiled.path)} is not of {shown(source.path)}, and would not be taken"
            yield Deviation("compiled", text)


def _sample(tree: Tree) -> Iterator[Entry]:
    names = ("/usr/lib/python3.11/os.py", *_OURS)
    yield from (entry for name in names if (entry := tree.at(name)) is not None)


_SITE = f"{PREFIX}/lib/python3.11/site-packages"
_OURS = (f"{_SITE}/provider_image/worker_server.py", f"{_SITE}/numpy/__init__.py")


def _compiled(source: str) -> str:
    folder, _, name = source.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc"


def _bill(path: Path, tree: Tree, looked: Looked) -> Iterator[Deviation]:
    member = f"{PREFIX}/share/bill-of-materials.cdx.json"
    raw = _content(path, tree, member, materials.MAX_BILL_BYTES)
    if raw is None:
        looked.skipped["bill"] = "there is no bill of materials in the image"
        return
    try:
        bill = materials.billed(raw)
    except materials.UnreadableBill as error:
        yield Deviation("bill", f"{member}: {error}")
        return
    yield from materials.differences(bill["pypi"], materials.python_packages(tree), "Python's")
    status = _content(path, tree, materials.DPKG_STATUS, materials.MAX_STATUS_BYTES)
    if status is not None:
        installed = materials.debian_packages(status)
        yield from materials.differences(bill["deb"], installed, "Debian's package")
        return
    looked.notes.append(
        "the image has no dpkg status; Debian's packages were compared by their names alone, as in "
        f"{materials.DEBIAN_DOCUMENTS}"
    )
    documented = materials.documented_packages(tree)
    bare = sorted(shown(name) for name in bill["deb"].keys() - documented)
    if bare:
        looked.notes.append(f"no copyright file is in the image of {', '.join(bare)}")
    for name in sorted(documented - bill["deb"].keys()):
        text = f"Debian's package {shown(name)} is in the image and not in its bill"
        yield Deviation("bill", text)
