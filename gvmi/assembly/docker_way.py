"""`derl-image build VARIANT --with docker`: `docker build`, then gvmkit-build from PyPI.

    locks --fetch--> packages, wheels --docker build (provider_image/Dockerfile)--> Docker image
    Docker image --gvmkit-build, with mksquashfs from the locked packages--> GVMI file

The root is laid out by the same code as without Docker, and compressed by the same mksquashfs with
the same options. Of the settings, which are Docker's, those stay that a runtime heeds: the others
name a container that is no more. So both ways give the same file, bit for bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gvmi.assembly.build_root import require_bubblewrap
from gvmi.assembly.building import (
    BILL_NAME,
    IMAGES_FOLDER,
    BuildOptions,
    BuiltImage,
    Contents,
    describe,
    gather,
    record,
)
from gvmi.assembly.container_recipe import MODULES
from gvmi.assembly.docker_engine import (
    DEFAULT_BASE,
    ImageBuild,
    build_image,
    image_bytes,
    provide_base,
    remove_containers,
    require_engine,
)
from gvmi.assembly.provider_wheel import REPOSITORY
from gvmi.assembly.root_file_system import FILES, SHARE, SITE_PACKAGES
from gvmi.assembly.squashing import Squeeze, mksquashfs_options, settings_json
from gvmi.errors import ImageToolError
from gvmi.gvmkit_program import find_gvmkit_build
from gvmi.packages.downloads import Progress, cache_folder, fetch_debian
from gvmi.packages.package_locks import read_debian_lock
from gvmi.variants import PREFIX, Variant
from requestor.mock_golem.images.gvmi_file import ContainerSettings, read_gvmi, trailer

DOCKERFILE = REPOSITORY / "provider_image" / "Dockerfile"
TOOLS = (
    "binutils",
    "binutils-x86-64-linux-gnu",
    "libbinutils",
    "liblz4-1",
    "liblzma5",
    "liblzo2-2",
    "libzstd1",
    "squashfs-tools",
    "zlib1g",
)
"""Packages of the section `build` that hold mksquashfs and strip, and what both load."""
DOCKERS_OWN = (".dockerenv", "dev/console", "dev/pts", "dev/shm", "etc/mtab")
"""What an engine puts into every container, and an image does not hold."""
DOCKERS_BLANKS = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
_LAST_LINES = 30


def build_with_docker(
    variant: Variant, options: BuildOptions, progress: Progress, base: str = DEFAULT_BASE
) -> BuiltImage:
    """Build an image by way of a Docker engine and return what came of it.

    Raises:
        ImageToolError: it cannot be built; nothing of an earlier image is lost.
    """
    started = time.monotonic()
    require_bubblewrap()  # the kernels' wheel is compiled in it
    program = os.fspath(find_gvmkit_build())
    require_engine()
    contents = gather(variant, progress, fresh=options.fresh, nvcc=options.nvcc)
    base = provide_base(base, progress)
    target = options.output or IMAGES_FOLDER / f"derl-{variant}.gvmi"
    target.parent.mkdir(parents=True, exist_ok=True)
    cache_folder().mkdir(parents=True, exist_ok=True)
    key = contents.sources[:16]
    image, tools = f"derl-{variant}:{key}", f"derl-squashfs:{key}"
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        context = Path(scratch)
        write_context(contents, options.squeeze, context, progress)
        progress("docker build: the tools")
        build_image(ImageBuild(context, "squashfs", tools, base))
        progress("docker build: the image")
        build_image(ImageBuild(context, "image", image, base, contents.labels))
        bill = target.with_name(target.name.removesuffix(".gvmi") + ".cdx.json")
        shutil.copyfile(context / "description" / SHARE[1:] / BILL_NAME, bill)
    progress("gvmkit-build")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft = Path(scratch) / "image.gvmi"
        try:
            _run_gvmkit_build(program, image, tools, draft)
        finally:
            remove_containers(image)
            remove_containers(tools)
        forget_the_container(draft)
        os.replace(draft, target)
    locked = record(contents, target, locks=options.locks)
    return BuiltImage(target, locked, image_bytes(image), time.monotonic() - started)



def write_context(contents: Contents, how: Squeeze, context: Path, progress: Progress) -> None:
    """Write what `docker build` gets: the Dockerfile and the files that it copies."""
    lock = read_debian_lock()
    tools = [one for one in lock.section("build") if one.name in TOOLS]
    for folder, files in (
        ("packages", contents.ingredients.packages),
        ("tools", fetch_debian(tools, lock.date, progress)),
    ):
        (context / folder).mkdir()
        for number, file in enumerate(files):
            _put(file, context / folder / f"{folder}-{number:03}.deb")
    for number, wheel in enumerate(contents.ingredients.wheels):
        (context / "wheels" / f"{number:03}").mkdir(parents=True)
        _put(wheel, context / "wheels" / f"{number:03}" / wheel.name)
    shutil.copyfile(DOCKERFILE, context / "Dockerfile")
    _write_recipe(how, context / "recipe")
    _write_description(contents, context / "description")


def mksquashfs_script(how: Squeeze) -> str:
    """Return what gvmkit-build runs as mksquashfs: the real one, with options that leave no choice.

    gvmkit-build says which folder and which file; its own options say less than ours. What the
    engine has blanked for the container's network is as the image has it again.
    """
    options = [*mksquashfs_options(how), "-e", *DOCKERS_OWN]
    files = {name: FILES[name] for name in DOCKERS_BLANKS}
    return f"""#!/usr/bin/python3.11
import os, sys
folder, target = sys.argv[1:3]
for name, text in {files!r}.items():
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o644)
os.execv("/usr/bin/mksquashfs", ["mksquashfs", folder, target, *{options!r}])
"""


def forget_the_container(image: Path) -> None:
    """Write the settings of an image anew: those that a runtime heeds, in their order."""
    found = read_gvmi(image)
    with image.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        size = int(file.read(8))
        file.truncate(found.size_bytes - size - 12)
        file.seek(0, os.SEEK_END)
        file.write(trailer(_heeded(found.settings)))
        file.flush()
        os.fsync(file.fileno())
    image.chmod(0o644)


def _heeded(settings: ContainerSettings) -> bytes:
    return settings_json(
        settings.environment, settings.labels, settings.volumes, settings.working_dir
    )


def _write_recipe(how: Squeeze, recipe: Path) -> None:
    for name in MODULES:
        module = recipe / "gvmi" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(__file__).parents[1] / f"{name}.py", module)
    installer = find_spec("installer")
    assert installer is not None and installer.origin is not None
    shutil.copytree(
        Path(installer.origin).parent,
        recipe / "installer",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    script = recipe / "mksquashfs"
    script.write_text(mksquashfs_script(how))
    script.chmod(0o755)


def _write_description(contents: Contents, root: Path) -> None:
    """Describe the image from the wheels' own descriptions, before anything is installed."""
    packages = root / SITE_PACKAGES[1:]
    packages.mkdir(parents=True)
    for wheel in contents.ingredients.wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.split("/")[0].endswith(".dist-info"):
                    archive.extract(name, packages)
    describe(contents, root)
    shutil.rmtree(root / PREFIX[1:] / "lib")


def _put(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _run_gvmkit_build(program: str, image: str, tools: str, target: Path) -> None:
    command: Sequence[str] = [program, image, "--output", str(target), "--hide-progress"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "SQUASHFS_IMAGE_NAME": tools},
        cwd=target.parent,  # it would heed a .env file
        check=False,
    )
    if done.returncode or not target.exists() or not target.stat().st_size:
        said = done.stdout.strip().splitlines()[-_LAST_LINES:]
        raise ImageToolError("\n".join(["gvmkit-build failed:", *said]))
