"""Uploads: chunks of an image that come in any order, until the image is whole.

`.registry/descriptors/<sha256>.bin` says what is awaited, `.registry/uploads/<sha256>/` holds the
chunks that have come. Both outlive the registry, so that a push that was broken off goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from requestor.mock_golem.images.descriptor import (
    MAX_DESCRIPTOR_BYTES,
    Descriptor,
    DescriptorError,
    parse_descriptor,
)
from requestor.mock_golem.images.gvmi_file import ImageError
from requestor.mock_golem.images.store import ImageStore, NotStored, write_whole

MAX_UNFINISHED = 16
MAX_DESCRIPTORS = 1000
_ID = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


class UploadRefused(Exception):
    """Something that was sent is not taken; `status` is the HTTP status of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ChunkClaim:
    """What a client says of a chunk that it sends."""

    number: int
    sha256: str
    position: int
    length: int


class Uploads:
    """The unfinished images of a store."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._descriptors = store.records / "descriptors"
        self._parts = store.records / "uploads"

    def begin(self, raw: bytes) -> Descriptor:
        """Take a descriptor; chunks may follow.

        Raises:
            UploadRefused: it is none, or too much is unfinished already.
        """
        try:
            descriptor = parse_descriptor(raw)
        except DescriptorError as error:
            raise UploadRefused(str(error)) from error
        with self._store.exclusively():
            for folder in (self._descriptors, self._parts):
                folder.mkdir(exist_ok=True)
            known = self._descriptors / f"{descriptor.sha256}.bin"
            if not known.exists() and sum(1 for _ in self._descriptors.iterdir()) > MAX_DESCRIPTORS:
                raise UploadRefused(f"too many images were pushed; empty {self._descriptors}", 507)
            if not self.is_whole(descriptor):
                self._make_room(descriptor)
            write_whole(known, raw)
        return descriptor

    def find(self, sha256: str) -> Descriptor | None:
        """Return the descriptor with a hash, if it is known."""
        if _ID.fullmatch(sha256) is None:
            return None
        try:
            with (self._descriptors / f"{sha256}.bin").open("rb") as file:
                descriptor = parse_descriptor(file.read(MAX_DESCRIPTOR_BYTES + 1))
        except (OSError, DescriptorError):
            return None
        return descriptor if descriptor.sha256 == sha256 else None

    def is_whole(self, descriptor: Descriptor) -> bool:
        """Tell whether the store has the image itself."""
        try:
            return self._store.find(descriptor.sha3).size_bytes == descriptor.size_bytes
        except NotStored:
            return False

    def present(self, descriptor: Descriptor) -> list[bool]:
        """Tell for each chunk whether it has come."""
        folder = self._parts / descriptor.sha256
        return [
            _size(folder / f"{number:04}.chunk") == descriptor.length(number)
            for number in range(len(descriptor.chunks))
        ]

    async def receive(
        self, descriptor: Descriptor, claim: ChunkClaim, blocks: AsyncIterator[bytes]
    ) -> None:
        """Take a chunk, if it is what the descriptor says.

        Raises:
            UploadRefused: it is not.
        """
        _check(descriptor, claim)
        folder = self._parts / descriptor.sha256
        try:
            handle, name = tempfile.mkstemp(dir=folder, prefix=f"{claim.number:04}.")
        except FileNotFoundError as error:
            raise UploadRefused("the upload has ended; push the descriptor again", 409) from error
        part, digest, done = Path(name), hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as file:
                async for block in blocks:
                    done += len(block)
                    if done > claim.length:
                        raise UploadRefused(
                            f"chunk {claim.number} has more bytes than the {claim.length} it claims"
                        )
                    digest.update(block)
                    file.write(block)
            if done != claim.length or digest.digest() != descriptor.chunks[claim.number]:
                raise UploadRefused(
                    f"chunk {claim.number} does not arrive as the descriptor says: {done} bytes "
                    f"with SHA-256 {digest.hexdigest()}"
                )
            with contextlib.suppress(FileNotFoundError):  # another one finished the upload
                os.replace(part, folder / f"{claim.number:04}.chunk")
        finally:
            part.unlink(missing_ok=True)

    def finish(self, descriptor: Descriptor) -> bool:
        """Make the image of its chunks if all have come; tell whether the store has it now.

        Raises:
            UploadRefused: the whole is not the image that the descriptor promised; its chunks are
                thrown away.
        """
        with self._store.exclusively():
            if self.is_whole(descriptor):
                return True
            if not all(self.present(descriptor)):
                return False
            folder = self._parts / descriptor.sha256
            whole = folder / "image.part"
            try:
                sha3 = self._join(descriptor, whole)
                if sha3 != descriptor.sha3:
                    raise UploadRefused(
                        f"the file has the SHA3-224 {sha3}, its descriptor says {descriptor.sha3}",
                        422,
                    )
                self._store.adopt(whole, sha3)
            except (UploadRefused, ImageError) as error:
                (self._descriptors / f"{descriptor.sha256}.bin").unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, UploadRefused):
                    raise
                reason = str(error).removeprefix(f"{whole}: ")
                raise UploadRefused(f"not an image: {reason}", 422) from error
            shutil.rmtree(folder, ignore_errors=True)
            return True

    def _make_room(self, descriptor: Descriptor) -> None:
        folder = self._parts / descriptor.sha256
        if not folder.exists() and self._unfinished() >= MAX_UNFINISHED:
            raise UploadRefused(
                f"{MAX_UNFINISHED} uploads are unfinished; finish one, or remove it from "
                f"{self._parts}",
                429,
            )
        folder.mkdir(exist_ok=True)

    def _unfinished(self) -> int:
        """Count the uploads, and remove those whose image has come another way."""
        count = 0
        for folder in self._parts.iterdir():
            descriptor = self.find(folder.name)
            if descriptor is None or self.is_whole(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                count += 1
        return count

    def _join(self, descriptor: Descriptor, whole: Path) -> str:
        digest = hashlib.sha3_224()
        folder = self._parts / descriptor.sha256
        with whole.open("wb") as target:
            for number in range(len(descriptor.chunks)):
                with (folder / f"{number:04}.chunk").open("rb") as chunk:
                    while block := chunk.read(_BLOCK_BYTES):
                        digest.update(block)
                        target.write(block)
            target.flush()
            os.fsync(target.fileno())
        return digest.hexdigest()


def _check(descriptor: Descriptor, claim: ChunkClaim) -> None:
    number = claim.number
    if not 0 <= number < len(descriptor.chunks):
        raise UploadRefused(f"there is no chunk {number}; there are {len(descriptor.chunks)}")
    expected = ChunkClaim(
        number,
        descriptor.chunks[number].hex(),
        number * descriptor.chunk_bytes,
        descriptor.length(number),
    )
    if claim != expected:
        raise UploadRefused(
            f"chunk {number} is said to be {claim.length} bytes at {claim.position} with SHA-256 "
            f"{claim.sha256[:64]}; in the descriptor it is {expected.length} bytes at "
            f"{expected.position} with {expected.sha256}"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
