"""Images that are mounted, each once, for all activities that run in them.

A mount belongs to a process of its own, its keeper, and to the keeper's mount namespace: nobody
else sees it, and when the keeper ends, or whoever started it, nothing is left of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from requestor.mock_golem.images.gvmi_file import GvmiFile, ImageError
from requestor.mock_golem.images.unpacking import unpack

Way = Literal["kernel", "squashfuse", "folder"]
_READY_SECONDS = 30.0
_PROGRAM_FOLDER = Path(__file__).resolve().parents[1]
_KEEPER = (
    f"import sys; sys.path.append({os.fspath(_PROGRAM_FOLDER)!r}); "
    "from guest.keeper import main; main(sys.argv[1:])"
)


@dataclass(frozen=True)
class MountedImage:
    """An image whose files lie in `folder`, for programs that are started by `starter`."""

    file: GvmiFile
    folder: Path
    starter: tuple[str, ...]
    in_user_namespace: bool
    way: Way


class _Keeper:
    """One keeper and what it keeps."""

    def __init__(self, process: asyncio.subprocess.Process, mounted: MountedImage) -> None:
        self.process = process
        self.mounted = mounted

    async def end(self) -> None:
        """Let it go, and wait."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class ImageMounts:
    """Mounts images below a folder, by the first of `ways` that works here; see `close`.

    `kernel` needs root; `squashfuse` a program of that name and the right to open /dev/fuse;
    `folder` unpacks the image once, and takes its size on disk.
    """

    def __init__(
        self, folder: Path, ways: tuple[Way, ...] = ("kernel", "squashfuse", "folder")
    ) -> None:
        self._folder = folder
        self._ways = ways
        self._keepers: dict[Path, _Keeper] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    async def mount(self, file: GvmiFile) -> MountedImage:
        """Return the image mounted, at once if it is already.

        Raises:
            ImageError: it cannot be mounted here; the text says why, and what to install.
        """
        path = file.path.resolve()
        async with self._locks.setdefault(path, asyncio.Lock()):
            keeper = self._keepers.get(path)
            if keeper is not None and keeper.process.returncode is None:
                return keeper.mounted
            keeper = self._keepers[path] = await self._keeper(file, path)
            return keeper.mounted

    async def close(self) -> None:
        """Unmount everything. No activity may run in an image any more."""
        keepers, self._keepers = list(self._keepers.values()), {}
        await asyncio.gather(*(keeper.end() for keeper in keepers))

    async def _keeper(self, file: GvmiFile, path: Path) -> _Keeper:
        nsenter = shutil.which("nsenter")
        if nsenter is None:
            raise ImageError("there is no `nsenter` program on PATH; apt install util-linux")
        problems = []
        for way in self._ways:
            try:
                return await self._try(way, file, path, nsenter)
            except (ImageError, OSError) as error:
                problems.append(f"{way}: {error}")
        raise ImageError(
            f"{path}: cannot be mounted ({'; '.join(problems)}); "
            "apt install squashfuse, or squashfs-tools"
        )

    async def _try(self, way: Way, file: GvmiFile, path: Path, nsenter: str) -> _Keeper:
        config: dict[str, Any] = {"way": way, "image": os.fspath(path)}
        folder = self._folder / f"{_name(path)}.mounted"
        if way == "kernel":
            if os.geteuid() != 0:
                raise ImageError("needs root")
            config["used_bytes"] = file.squashfs.size_bytes
        elif way == "squashfuse":
            program = shutil.which("squashfuse_ll") or shutil.which("squashfuse")
            if program is None:
                raise ImageError("there is no `squashfuse` program on PATH")
            config["program"] = program
        else:
            folder = self._folder / f"{_name(path)}.unpacked"
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)  # an image's set-id programs are not for others here
            await unpack(path, folder)
        folder.mkdir(parents=True, exist_ok=True)
        process = await _start({**config, "folder": os.fspath(folder.resolve())})
        in_user_namespace = os.geteuid() != 0
        starter = [nsenter, f"--target={process.pid}", "--mount"]
        if in_user_namespace:
            starter += ["--user", "--preserve-credentials"]
        return _Keeper(
            process,
            MountedImage(file, folder.resolve(), (*starter, "--"), in_user_namespace, way),
        )


def _name(path: Path) -> str:
    """Return a name that is another one when the file is another one."""
    status = path.stat()
    text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


async def _start(config: dict[str, Any]) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _KEEPER, json.dumps(config)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_READY_SECONDS):
            line = await process.stdout.readline()
    except BaseException as error:
        await _kill(process)
        if isinstance(error, TimeoutError):
            raise ImageError(f"not mounted within {_READY_SECONDS:g} s") from None
        raise
    answer = json.loads(line or b"{}")
    if "ready" not in answer:
        await _kill(process)
        raise ImageError(answer.get("failed", "the keeper of the mount ended"))
    return process


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
