"""`mock-golem registry`: the image registry alone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

import rich_click as click

from requestor.mock_golem.cli_serving import fail, log_to_stderr, serving_error, watch_stdin
from requestor.mock_golem.images.registry import RegistryApi
from requestor.mock_golem.images.registry_push import PushApi
from requestor.mock_golem.images.registry_server import RegistryServer
from requestor.mock_golem.images.store import ImageStore, StoreError

_log = logging.getLogger(__name__)


@click.command("registry")
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder of images: serves its .gvmi files, takes in pushed ones. Made if missing.",
)
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: a free one.")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="USER=VARIABLE",
    help="Lets in this user only, with the token in an environment variable. Default: everybody.",
)
@click.option("--stop-on-stdin-eof", is_flag=True, help="Stop when standard input is closed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line when ready, nothing else.")
def registry_command(
    *, store: Path, port: int, accounts: tuple[str, ...], stop_on_stdin_eof: bool, as_json: bool
) -> None:
    """Run an image registry until SIGTERM, SIGINT (Ctrl-C) or the end of standard input.

    It speaks the HTTP of Golem's own: push to it with `REGISTRY_URL=… derl-image push` (or
    `gvmkit-build`), use it with `golem.registry_url` (or `vm.repo(repository_url=…)`).
    """
    log_to_stderr()
    known = _accounts(accounts)
    try:
        store.mkdir(parents=True, exist_ok=True)
        images = ImageStore(store)
        server = RegistryServer(RegistryApi(store=images, push=PushApi(images, known)), port)
        asyncio.run(_serve(server, images, stop_on_stdin_eof, as_json))
    except StoreError as error:
        fail(str(error))
    except OSError as error:
        fail(serving_error(error, port))


def _accounts(given: tuple[str, ...]) -> dict[str, str] | None:
    found = {}
    for text in given:
        user, _, variable = text.partition("=")
        token = os.environ.get(variable, "")
        if not user or not token:
            fail(f"--account {user}={variable}: that variable is empty; export the token in it")
        found[user] = token
    return found or None


async def _serve(
    server: RegistryServer, store: ImageStore, stop_on_stdin_eof: bool, as_json: bool
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if stop_on_stdin_eof:
        watch_stdin(loop, stopped)
    images = await asyncio.to_thread(store.images)
    for name, why in store.refused().items():
        _log.warning("%s is not served: %s", name, why)
    store.tags()
    url = await server.start()
    try:
        if as_json:
            click.echo(json.dumps({"url": url, "pid": os.getpid(), "images": len(images)}))
        else:
            count = f"{len(images)} image{'s' if len(images) != 1 else ''}"
            click.echo(
                f"# mock-golem serves {count} of {store.folder}; Ctrl-C stops it\n"
                f"export REGISTRY_URL={url}"
            )
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await server.stop()
