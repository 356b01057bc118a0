"""A machine of its own for one check: a network namespace with the names that examples look up.

Everything here runs inside `unshare --net --mount`: nothing leaves the machine, the real hosts
file stays as it is, and the ports 443 and 8000 of 127.0.0.1 are free.
"""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from aiohttp import web

from requestor.mock_golem.images.description import Image
from requestor.mock_golem.images.registry import RegistryApi

NAMES = ("registry.golem.network", "girepo.dev.golem.network", "huggingface.co")
_INSIDE = "SDK_EXAMPLES_INSIDE"
_MODEL_BYTES, _MODEL_BLOCKS, _MODEL_SECONDS = 8 << 20, 32, 2.0


def is_entered() -> bool:
    """Whether this program runs in namespaces of its own."""
    return _INSIDE in os.environ


def enter() -> NoReturn:
    """Run this program again, in namespaces of its own.

    Raises `FileNotFoundError` where there is no `unshare` (package util-linux).
    """
    os.environ[_INSIDE] = "1"
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    os.execvp("unshare", ["unshare", *as_root, "--net", "--mount", sys.executable, *sys.argv])


def furnish(folder: Path) -> None:
    """Raise the loopback device, and lay own files over `/etc/hosts` and `/etc/resolv.conf`."""
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
    resolver.write_text("# no name server\n")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for own, real in ((hosts, "/etc/hosts"), (resolver, "/etc/resolv.conf")):
        subprocess.run(["mount", "--bind", str(own), os.path.realpath(real)], check=True)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a throw-away certificate for all names; returns it (its own authority) and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{name}" for name in NAMES)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=sdk-examples", "-addext"),
            *(f"subjectAltName={names}", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def serve_names(images: tuple[Image, ...], certificate: Path, key: Path) -> web.AppRunner:
    """Answer as the registries (HTTPS on 443, HTTP on 8000) and as the host of a model file."""
    application = web.Application()
    application.add_routes(RegistryApi(images).routes())
    application.router.add_get("/{owner}/{model}/resolve/main/model.safetensors", _model)
    runner = web.AppRunner(application)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", 443, ssl_context=context).start()
    await web.TCPSite(runner, "127.0.0.1", 8000).start()
    return runner


async def _model(request: web.Request) -> web.StreamResponse:
    """8 MiB in a bit over two seconds, so that there is progress to be told."""
    response = web.StreamResponse(headers={"Content-Length": str(_MODEL_BYTES)})
    await response.prepare(request)
    for _ in range(_MODEL_BLOCKS):
        await response.write(os.urandom(_MODEL_BYTES // _MODEL_BLOCKS))
        await asyncio.sleep(_MODEL_SECONDS / _MODEL_BLOCKS)
    return response
