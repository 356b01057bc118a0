"""Sample images, descriptors made by hand, and a client of a registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[4]


def gvmi(content_bytes: int = 5000, seed: int = 0, compression: int = 3) -> bytes:
    """An image whose layout is sound: superblock, noise, settings."""
    noise = hashlib.shake_128(bytes([seed])).digest(content_bytes)
    size = 96 + content_bytes
    superblock = struct.pack(
        "<4sIIIIHHHHHHQQQQQQQQ",
        *(b"hsqs", 1, 0, 131072, 0, compression, 17, 0, 1, 4, 0, 0, size, 0, 0, 0, 0, 0, 0),
    )
    settings = json.dumps({"Env": ["A=b"], "WorkingDir": "/golem/work"}).encode()
    crc = struct.pack("<I", zlib.crc32(settings))
    return superblock + noise + crc + settings + f"{len(settings):08}".encode()


def sha3(content: bytes) -> str:
    """The name of an image."""
    return hashlib.sha3_224(content).hexdigest()


def descriptor(content: bytes, chunk_bytes: int = 1000) -> bytes:
    """What a client says of a file."""
    head = struct.pack(">QQQ", 0x333333334, len(content), chunk_bytes)
    return head + hashlib.sha3_224(content).digest() + b"".join(digests(content, chunk_bytes))


def digests(content: bytes, chunk_bytes: int) -> list[bytes]:
    """The SHA-256 of each chunk."""
    return [
        hashlib.sha256(content[at : at + chunk_bytes]).digest()
        for at in range(0, len(content), chunk_bytes)
    ]


class Client:
    """Sends to a registry what `gvmkit-build` sends, or something else."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Ask for something."""
        async with self._session.get(self.url + path, headers=headers) as response:
            return response.status, await response.read()

    async def post(self, path: str, form: Mapping[str, str | bytes]) -> tuple[int, str]:
        """Send a form; bytes go as a file."""
        data = aiohttp.FormData(default_to_multipart=True)
        for name, value in form.items():
            if isinstance(value, bytes):
                data.add_field(name, value, filename="descriptor.txt")
            else:
                data.add_field(name, value)
        async with self._session.post(self.url + path, data=data) as response:
            return response.status, await response.text()

    async def status(self, raw: bytes) -> Any:
        """Ask how far an upload is."""
        status, answer = await self.get(f"/v1/image/descr/{hashlib.sha256(raw).hexdigest()}")
        assert status == 200
        return json.loads(answer)

    async def begin(self, raw: bytes) -> tuple[int, str]:
        """Push a descriptor."""
        return await self.post("/v1/image/push/descr", {"file": raw})

    async def chunk(
        self,
        content: bytes,
        number: int,
        changes: Mapping[str, str | bytes] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, str]:
        """Push one chunk of a file in chunks of 1000; `changes` go over what is right."""
        raw = raw or descriptor(content)
        position = number * 1000
        piece = content[position : position + 1000]
        form: dict[str, str | bytes] = {
            "descr-sha256": hashlib.sha256(raw).hexdigest(),
            "chunk-no": str(number),
            "chunk-sha256": hashlib.sha256(piece).hexdigest(),
            "chunk-pos": str(position),
            "chunk-len": str(len(piece)),
            "file": piece,
        }
        form |= changes or {}
        return await self.post("/v1/image/push/chunk", form)

    async def attach(self, raw: bytes, tag: str, user: str = "me", **more: str) -> tuple[int, str]:
        """Name an image `user/derl:tag`."""
        form: dict[str, str | bytes] = {
            "tag": tag,
            "username": user,
            "repository": "derl",
            "login": "me",
            "token": "s3cret",
        }
        return await self.post(
            f"/v1/image/descr/attach/{hashlib.sha256(raw).hexdigest()}", form | more
        )

    async def info(self, **question: str) -> tuple[int, Any]:
        """Ask what providers get."""
        query = "&".join(f"{name}={value}" for name, value in question.items())
        status, answer = await self.get(f"/v1/image/info?{query}&count=true")
        return status, json.loads(answer) if status == 200 else answer.decode()


@contextlib.contextmanager
def registry_process(store: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Run `mock-golem registry`; yield its URL."""
    command = [sys.executable, "-m", "requestor.mock_golem", "registry", "--store", str(store)]
    process = subprocess.Popen(
        [*command, "--json", "--stop-on-stdin-eof", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(20) == 0
