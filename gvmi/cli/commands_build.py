"""`derl-image build`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import rich_click as click

from gvmi.assembly.building import BuildOptions, BuiltImage
from gvmi.assembly.building import build as build_image
from gvmi.assembly.docker_engine import DEFAULT_BASE
from gvmi.assembly.docker_way import build_with_docker
from gvmi.assembly.squashing import COMPRESSIONS, Compression, Squeeze, usual_compression
from gvmi.image_lock import LockedImage, read_lock
from gvmi.packages.cache_cleaning import cache_in_use
from gvmi.variants import SPECS, VARIANTS, Variant

_VARIANT_LINES = "\n\n".join(f"`{name}`: {SPECS[name].summary}." for name in VARIANTS)


@click.command(
    epilog="Examples: `derl-image build native`; `derl-image build sb3 --output my.gvmi`."
)
@click.argument("variant", type=click.Choice(VARIANTS))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: build/images/derl-VARIANT.gvmi; its bill of materials goes beside it.",
)
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    help="Default: lzo, for `cuda` gzip. What Golem's runtime can read; gvmi/README.md has the "
    "sizes and start times of each.",
)
@click.option(
    "--with",
    "way",
    type=click.Choice(["auto", "bubblewrap", "docker"]),
    default="auto",
    show_default=True,
    help="How the root file system comes to be; auto is bubblewrap, which both ways need.",
)
@click.option(
    "--docker-base",
    metavar="IMAGE",
    default=DEFAULT_BASE,
    show_default=True,
    help="What unpacks the packages, with Docker; any Debian. Nothing of it is in the image.",
)
@click.option("--fresh", is_flag=True, help="Compile the kernels anew, even if they are kept.")
@click.option("--without-nvcc", is_flag=True, help="`cuda`: leave the CUDA kernels out.")
@click.option("--no-lock", is_flag=True, help="Leave gvmi/image.lock.yaml as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def build(
    variant: Variant,
    output: Path | None,
    compression: Compression | None,
    way: Literal["auto", "bubblewrap", "docker"],
    docker_base: str,
    fresh: bool,
    without_nvcc: bool,
    no_lock: bool,
    as_json: bool,
) -> None:
    """Build the image of a VARIANT, the same bytes on every machine.

    Needs bubblewrap and, the first time, a network. The packages, the compiler among them, are
    those that gvmi/packages/locks names, each held to its SHA-256.
    """
    options = BuildOptions(
        output=output,
        squeeze=Squeeze(compression or usual_compression(variant)),
        fresh=fresh,
        locks=not no_lock,
        nvcc=not without_nvcc,
    )
    started = time.monotonic()

    def progress(what: str) -> None:
        click.echo(f"{time.monotonic() - started:6.1f} s  {what}", err=True)

    if way == "auto":
        way = "bubblewrap"
    before = read_lock().get(variant)
    with cache_in_use():
        if way == "docker":
            built = build_with_docker(variant, options, progress, docker_base)
        else:
            built = build_image(variant, options, progress)
    is_usual = options.squeeze == Squeeze(usual_compression(variant))
    repeats = is_repeated(built.locked, before) if is_usual else None
    _show(built, repeats, as_json=as_json)


def is_repeated(built: LockedImage, before: LockedImage | None) -> bool | None:
    """Say whether an image is the one that was locked; None if that was of other sources."""
    if before is None or before.sources != built.sources:
        return None
    return before.sha3 == built.sha3


def _show(image: BuiltImage, repeats: bool | None, *, as_json: bool) -> None:
    """Tell what was built; `repeats` says whether the same sources gave the locked bytes again."""
    if as_json:
        facts = {"path": str(image.path), "seconds": round(image.seconds, 1), "repeats": repeats}
        facts |= {"unpacked_bytes": image.unpacked_bytes, **asdict(image.locked)}
        click.echo(json.dumps(facts))
        return
    size = image.locked.size_bytes / 1e6
    click.echo(f"{image.path}")
    click.echo(f"  {size:.1f} MB, {image.unpacked_bytes / 1e6:.0f} MB unpacked")
    click.echo(f"  SHA3-224 {image.locked.sha3}")
    click.echo(f"  built in {image.seconds:.0f} s from {image.locked.commit}")
    if repeats is not None:
        click.echo(
            "  the same bytes as the image that was locked"
            if repeats
            else "  NOT the bytes that were locked of the same sources: this should not happen"
        )
    click.echo(f"next: derl-image verify {image.path}")
