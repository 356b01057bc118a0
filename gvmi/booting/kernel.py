"""What is taken from Debian's packages for a boot: a kernel, some of its modules, busybox."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gvmi.errors import NotToBeHad
from gvmi.packages.debian_packages import unpack
from gvmi.packages.downloads import Progress, cache_folder, fetch_debian
from gvmi.packages.package_locks import read_debian_lock

PURPOSE = "boot"
BUSYBOX_PACKAGE = "busybox-static"
NEEDED_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "squashfs", "overlay")

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
# where the needed modules and what they need lie; the rest of a package is ten times as much
_UNPACKED = re.compile(
    r"bin/busybox|boot/vmlinuz-.*|lib/modules/[^/]+/modules\.builtin"
    r"|lib/modules/[^/]+/kernel/(fs/(squashfs|overlayfs)|drivers/(virtio|block|char)|lib|crypto)/.*"
)
_FIX = "take a package such as Debian's linux-image-…-cloud-amd64, not one that only depends on it"


@dataclass(frozen=True)
class Kernel:
    """A kernel's file, the modules to load in the order in which that can be done, busybox."""

    release: str
    program: Path
    modules: Mapping[str, Path]
    busybox: Path


def provide_kernel(progress: Progress, package: Path | None = None) -> Kernel:
    """Return the locked kernel, or that of a `package` given instead; fetch what is not kept.

    Raises:
        NotToBeHad: a locked package is nowhere to be had, or the one given is no kernel's.
        BadImage: what was given is no Debian package.
    """
    lock = read_debian_lock()
    wanted = lock.section(PURPOSE)
    if package is not None:
        wanted = tuple(one for one in wanted if one.name == BUSYBOX_PACKAGE)
    files = fetch_debian(wanted, lock.date, progress)
    if package is not None:
        files.append(package)
    return read_kernel(_unpacked(files))


def read_kernel(root: Path, needed: Iterable[str] = NEEDED_MODULES) -> Kernel:
    """Find kernel, modules with all that they need, and busybox among unpacked packages.

    Debian's packages bring no table of what modules need; the modules themselves say it.

    Raises:
        NotToBeHad: one of them is missing.
    """
    program = next((root / "boot").glob("vmlinuz-*"), None)
    busybox = root / "usr/bin/busybox"
    if program is None:
        raise NotToBeHad("the package holds no boot/vmlinuz-*", fix=_FIX)
    if not busybox.exists():
        raise NotToBeHad("the package holds no bin/busybox", fix="take Debian's busybox-static")
    release = program.name.removeprefix("vmlinuz-")
    folder = root / "usr/lib/modules" / release
    modules = {module_name(path.name): path for path in sorted(folder.rglob("*.ko"))}
    listed = folder / "modules.builtin"
    builtin = map(module_name, listed.read_text().split() if listed.exists() else ())
    order = load_order(
        needed, {name: needs(modules[name].read_bytes()) for name in modules}, builtin
    )
    return Kernel(release, program, {name: modules[name] for name in order}, busybox)


def module_name(path: str) -> str:
    """Return a module's name, which has underscores where its file may have hyphens."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def needs(module: bytes) -> tuple[str, ...]:
    """Return the names of the modules that one (an ELF file) says it needs."""
    found = _DEPENDS.search(module)
    names = found[1].decode().split(",") if found else []
    return tuple(module_name(name) for name in names if name)


def load_order(
    wanted: Iterable[str], needs_of: Mapping[str, Iterable[str]], builtin: Iterable[str] = ()
) -> list[str]:
    """Return the wanted modules and all that they need, each after what it needs.

    Raises:
        NotToBeHad: a module is neither there nor built into the kernel.
    """
    met = set(builtin)
    order: list[str] = []
    # a name is taken twice: first what it needs is put on top of it, then its own turn comes
    stack = [(name, False) for name in reversed(tuple(wanted))]
    while stack:
        name, its_turn = stack.pop()
        if its_turn:
            order.append(name)
        elif name not in met:
            if name not in needs_of:
                raise NotToBeHad(f"the kernel's package lacks the module {name}", fix=_FIX)
            met.add(name)
            stack.append((name, True))
            stack.extend((need, False) for need in needs_of[name])
    return order


def _unpacked(packages: Sequence[Path]) -> Path:
    """Return the folder where what we use of these packages lies, unpacked if it is not yet."""
    key = hashlib.sha256()
    for package in packages:
        with package.open("rb") as file:
            key.update(hashlib.file_digest(file, "sha256").digest())
    folder = cache_folder() / "kernels" / key.hexdigest()[:16]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        unpack(packages, draft, lambda path: _UNPACKED.fullmatch(path) is not None)
        os.rename(draft, folder)
    except OSError:
        shutil.rmtree(draft)
        if not folder.exists():  # else another boot was quicker
            raise
    except BaseException:
        shutil.rmtree(draft)
        raise
    return folder
