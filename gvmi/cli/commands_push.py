"""`derl-image push`."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from gvmi.gvmkit_program import find_gvmkit_build
from gvmi.image_lock import LOCK_FILE
from gvmi.registry.gvmkit_build import Listener
from gvmi.registry.registry_account import GOLEM_REGISTRY, credentials, target

if TYPE_CHECKING:
    from gvmi.registry.pushing import PushedImage

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    epilog="Example: `derl-image push build/images/derl-native.gvmi me/derl:native`, with "
    "REGISTRY_USER and REGISTRY_TOKEN in the environment."
)
@click.argument("file", type=_FILE)
@click.argument("tag", required=False, metavar="[USER/REPO:TAG]")
@click.option(
    "--registry",
    "registry_url",
    envvar="REGISTRY_URL",
    default=GOLEM_REGISTRY,
    show_default=True,
    help="Where to push to; REGISTRY_URL says it, too.",
)
@click.option("--nologin", is_flag=True, help="Push without an account: by hash alone, for a time.")
@click.option("--lock-file", type=_FILE, default=LOCK_FILE, help="Default: gvmi/image.lock.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def push(
    file: Path,
    tag: str | None,
    registry_url: str,
    nologin: bool,
    lock_file: Path,
    as_json: bool,
) -> None:
    """Push an image to Golem's registry, from where providers fetch it.

    What the registry has already is not sent again: after an interruption, run the same command.
    Credentials come from REGISTRY_USER and REGISTRY_TOKEN in the environment, from nowhere else.
    """
    from gvmi.registry.pushing import look_at, note_tag
    from gvmi.registry.pushing import push as push_image

    if nologin == (tag is not None):
        raise click.UsageError("give either USER/REPO:TAG, or --nologin for a push without a tag")
    where = target(registry_url, tag)
    account = None if nologin else credentials(os.environ, Path())
    find_gvmkit_build()
    image = look_at(file, lock_file)
    if image.locked is None:
        click.echo(
            f"warning: {file} ({image.sha3[:12]}…) is not the image of any variant in "
            f"{lock_file.name}: `golem.image: lock:…` does not mean it",
            err=True,
        )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        pushed = push_image(image, where, account, _listener())
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on and sends only what is missing", err=True)
        sys.exit(130)
    is_noted = note_tag(pushed, lock_file)
    if as_json:
        click.echo(json.dumps(_facts(pushed)))
    else:
        _show(pushed, lock_file if is_noted else None)


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def _listener() -> Listener:
    """Lines and progress go to standard error; on a terminal progress has one line for itself."""
    is_terminal = sys.stderr.isatty()

    def line(text: str) -> None:
        click.echo(("\r\x1b[K" if is_terminal else "") + f"  {text}", err=True)

    def chunks(done: int, count: int) -> None:
        text = f"  {done} of {count} chunks are there"
        click.echo(f"\r\x1b[K{text}" if is_terminal else text, nl=not is_terminal, err=True)

    return Listener(line, chunks)


def _facts(pushed: PushedImage) -> dict[str, str | int | float | None]:
    image = pushed.image
    return {
        "sha3": image.sha3,
        "size_bytes": image.size_bytes,
        "tag": pushed.target.tag,
        "registry_url": pushed.target.registry_url,
        "variant": None if image.locked is None else image.locked.variant,
        "seconds": round(pushed.seconds, 1),
    }


def _show(pushed: PushedImage, noted_in: Path | None) -> None:
    image, where = pushed.image, pushed.target
    click.echo(f"pushed {image.path}: {image.size_bytes / 1e6:.1f} MB in {pushed.seconds:.0f} s")
    resolves = where.tag or "the hash"
    click.echo(f"  {where.registry_url} says: {resolves} is {image.sha3}, as it should be")
    if noted_in is not None:
        click.echo(f"  the tag is written into {noted_in}")
    click.echo("a config then says one of:")
    if image.locked is not None:
        click.echo(f"  golem.image: lock:{image.locked.variant}")
    click.echo(f"  golem.image: {image.sha3}")
    if where.tag is not None:
        click.echo(f"  golem.image: {where.tag}    (whatever the tag stands for on the day)")
    if where.registry_url != GOLEM_REGISTRY:
        click.echo(f"with golem.registry_url: {where.registry_url}")
    click.echo("check it: derl-request doctor CONFIG")
