"""`derl-image build`: from locks and sources to a GVMI file, without Docker.

    locks --fetch--> packages --unpack--> root file system --mksquashfs--> squashfs + settings
    sources --compile in the build root--> wheel ----^

Nothing but the locks and the sources decides what comes out: the same SHA3-224 on every machine.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from gvmi.assembly.bill_of_materials import bill_of_materials
from gvmi.assembly.build_root import (
    Jailed,
    make_build_root,
    require_bubblewrap,
    run_in_root,
    run_jailed,
)
from gvmi.assembly.cuda_kernels import build_cuda_wheel, said_of_kernels
from gvmi.assembly.provider_wheel import REPOSITORY, ProviderWheel, build_provider_wheel, version
from gvmi.assembly.root_file_system import (
    SHARE,
    SITE_PACKAGES,
    Ingredients,
    make_root,
    strip_command,
)
from gvmi.assembly.squashing import Squeeze, write_gvmi
from gvmi.image_lock import LOCK_FILE, LockedImage, write_locked
from gvmi.packages.downloads import Progress, cache_folder, fetch_debian, fetch_wheels
from gvmi.packages.package_locks import (
    DebianPackage,
    PythonPackage,
    read_debian_lock,
    read_python_lock,
)
from gvmi.packages.ubuntu_packages import in_debians_form
from gvmi.variants import SPECS, Variant
from requestor.mock_golem.images.gvmi_file import image_hash

IMAGES_FOLDER = REPOSITORY / "build" / "images"
BILL_NAME = "bill-of-materials.cdx.json"
_RECIPE = (
    "assembly/bill_of_materials.py",
    "assembly/root_file_system.py",
    "assembly/squashing.py",
    "packages/debian_packages.py",
    "packages/wheels.py",
    "variants.py",
)


@dataclass(frozen=True)
class Contents:
    """All that goes into an image, fetched and built; `cuda` says which CUDA kernels, in words."""

    variant: Variant
    sources: str
    wheel: ProviderWheel
    debian: tuple[DebianPackage, ...]
    python: tuple[PythonPackage, ...]
    ingredients: Ingredients
    cuda: str = "no"

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels, in its settings."""
        spec = SPECS[self.variant]
        return {
            "derl.cuda": self.cuda,
            "derl.learner": spec.learner,
            "derl.sources": self.sources,
            "derl.variant": self.variant,
            "org.opencontainers.image.description": spec.summary,
            "org.opencontainers.image.licenses": "MIT AND others, see the bill of materials",
            "org.opencontainers.image.title": f"derl-{self.variant}",
            "org.opencontainers.image.version": version(),
        }


@dataclass(frozen=True)
class BuiltImage:
    """What `build` has made, and how long it took."""

    path: Path
    locked: LockedImage
    unpacked_bytes: int
    seconds: float


@dataclass(frozen=True)
class BuildOptions:
    """How to build; `fresh` uses nothing kept of our own, `locks` writes the image lock.

    `nvcc` says whether the variant for GPUs gets the CUDA kernels.
    """

    output: Path | None = None
    squeeze: Squeeze = field(default_factory=Squeeze)
    fresh: bool = False
    locks: bool = True
    nvcc: bool = True


def gather(
    variant: Variant, progress: Progress, *, fresh: bool = False, nvcc: bool = True
) -> Contents:
    """Fetch and compile all that an image is made of.

    Raises:
        ImageToolError: something cannot be had or does not compile.
    """
    lock = read_debian_lock()
    debian = lock.section("root")
    python = read_python_lock(variant)
    wheel = build_provider_wheel(progress, fresh=fresh)
    own, made_of, cuda = [wheel.path], wheel.sources, "no"
    if SPECS[variant].runtime == "vm-nvidia":
        debian += lock.section("root-cuda")
        own += [build_cuda_wheel(progress, fresh=fresh)] if nvcc else []
        cuda = said_of_kernels(built=nvcc)
        made_of += f" {cuda}"
    packages = [in_debians_form(one) for one in fetch_debian(debian, lock.date, progress)]
    wheels = fetch_wheels(python, progress)
    sources = _digest(variant, made_of, wheel.build_root, debian, python)
    ingredients = Ingredients(packages, (*wheels, *own))
    return Contents(variant, sources, wheel, debian, python, ingredients, cuda)


def build(variant: Variant, options: BuildOptions, progress: Progress) -> BuiltImage:
    """Build an image without Docker and return what came of it.

    Raises:
        ImageToolError: it cannot be built; nothing of an earlier image is lost.
    """
    started = time.monotonic()
    require_bubblewrap()
    target = options.output or IMAGES_FOLDER / f"derl-{variant}.gvmi"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target.parent))
    build_root = make_build_root(progress)
    contents = gather(variant, progress, fresh=options.fresh, nvcc=options.nvcc)
    scratch_parent = cache_folder() / "roots"
    scratch_parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_parent) as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        progress("laying out the root file system and compiling its modules")
        make_root(contents.ingredients, root, run_in_root)
        if command := strip_command(root):
            strip = Jailed(command, {"/image": root}, writable=frozenset({"/image"}))
            run_jailed(build_root, strip)
        bill = describe(contents, root)
        unpacked = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file())
        progress(f"compressing {unpacked / 2**20:.0f} MiB with {options.squeeze.compression}")
        write_gvmi(root, target, build_root, replace(options.squeeze, labels=contents.labels))
        shutil.copyfile(bill, target.with_name(target.name.removesuffix(".gvmi") + ".cdx.json"))
    locked = record(contents, target, locks=options.locks)
    return BuiltImage(target, locked, unpacked, time.monotonic() - started)


def describe(contents: Contents, root: Path) -> Path:
    """Write into an image's share folder what it is and what it holds; returns the bill's path."""
    share = root / SHARE[1:]
    share.mkdir(parents=True, exist_ok=True)
    facts = {name.removeprefix("derl."): text for name, text in contents.labels.items()}
    (share / "image.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    packages = root / "var/lib/dpkg"  # what scanners of images look for
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "status").write_text("\n".join(map(_dpkg_entry, contents.debian)))
    bill = share / BILL_NAME
    site_packages = root / SITE_PACKAGES[1:]
    text = bill_of_materials(
        contents.variant, contents.sources, contents.debian, contents.python, site_packages
    )
    bill.write_text(text + "\n")
    for path in (*share.iterdir(), packages / "status"):  # whatever the umask
        path.chmod(0o644)
    for folder in (share, packages, packages.parent):
        folder.chmod(0o755)
    return bill


def _dpkg_entry(package: DebianPackage) -> str:
    return (
        f"Package: {package.name}\nStatus: install ok installed\nArchitecture: amd64\n"
        f"Version: {package.version}\n"
    )


def record(contents: Contents, image: Path, *, locks: bool) -> LockedImage:
    """Return the row of an image, and put it into the image lock if `locks`."""
    row = LockedImage(
        variant=contents.variant,
        sha3=image_hash(image),
        size_bytes=image.stat().st_size,
        sources=contents.sources,
        commit=_commit(),
    )
    if locks:
        write_locked(row)
    return row


def _digest(
    variant: Variant,
    wheel_sources: str,
    build_root: str,
    debian: tuple[DebianPackage, ...],
    python: tuple[PythonPackage, ...],
) -> str:
    digest = hashlib.sha256(f"{variant}\n{wheel_sources}\n{build_root}\n".encode())
    rows = [*((one.name, one.version, one.sha256) for one in debian)]
    rows += ((one.name, one.version, one.sha256) for one in python)
    for row in rows:
        digest.update(f"{' '.join(row)}\n".encode())
    for name in _RECIPE:
        digest.update((Path(__file__).parents[1] / name).read_bytes())
    return digest.hexdigest()


def _commit() -> str:
    """Return the source's commit, with a plus sign where files have changed since.

    The image lock, which every build writes, is no source.
    """
    if not (REPOSITORY / ".git").exists():
        return "unknown"
    excluded = f":!{LOCK_FILE.relative_to(REPOSITORY)}"
    try:
        commit = _git("rev-parse", "--short=12", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", ".", excluded)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
