"""Unpacking an image into a folder, where it cannot be mounted: bounded, and with few rights."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path

from requestor.mock_golem.images.gvmi_file import ImageError

MOST_FILES = 500_000
MOST_BYTES = 32 << 30
_KEPT_FREE_BYTES = 1 << 30
_LONGEST_LINE_BYTES = 1 << 16
_LINE = re.compile(rb"[-dlbcps][-rwxsStT]{9} \d+/\d+ +(\d+)[ ,]")
_RIGHTS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")
_DONE = (0, 2)  # 2: all but what takes rights that are not given, such as device nodes


async def unpack(image: Path, folder: Path) -> None:
    """Unpack a squashfs into a folder, unless that is there already: it is then the result.

    Raises:
        ImageError: it cannot be unpacked, or would take too much; nothing of it is left.
    """
    if folder.exists():
        return
    program = shutil.which("unsquashfs")
    if program is None:
        raise ImageError("there is no `unsquashfs` program on PATH")
    await _check_size(program, image, folder)
    draft = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}.part")
    draft.mkdir(parents=True, mode=0o700)
    try:
        command = [*_confined(draft), program, "-no-progress", "-no-xattrs", "-quiet"]
        command += ["-d", os.fspath(draft / "root"), os.fspath(image)]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
        try:
            _, said = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode not in _DONE:
            text = " ".join(said[-1000:].decode(errors="replace").split())
            raise ImageError(f"`unsquashfs` ended with code {process.returncode}: {text}")
        os.rename(draft / "root", folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


async def _check_size(program: str, image: Path, folder: Path) -> None:
    """Refuse what unpacks to more than there is room for."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = min(MOST_BYTES, shutil.disk_usage(folder.parent).free - _KEPT_FREE_BYTES)
    process = await asyncio.create_subprocess_exec(
        *_confined(),
        *(program, "-lln", os.fspath(image)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=_LONGEST_LINE_BYTES,
    )
    assert process.stdout is not None
    files = size_bytes = 0
    try:
        async for line in process.stdout:
            entry = _LINE.match(line)
            if entry is None:
                continue
            files += 1
            size_bytes += int(entry[1])
            if files > MOST_FILES or size_bytes > room:
                raise ImageError(f"unpacks to more than {MOST_FILES} files or {max(room, 0)} bytes")
        if await process.wait() != 0 or not files:
            raise ImageError("its squashfs cannot be listed")
    except ValueError as error:
        raise ImageError("its squashfs has a name that is too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _confined(folder: Path | None = None) -> list[str]:
    """Words that let a program write below one folder only, or nowhere."""
    program = shutil.which("bwrap")
    if program is None:
        raise ImageError("there is no `bwrap` program on PATH; apt install bubblewrap")
    words = [program, "--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    words += ["--cap-drop", "ALL"]
    if os.geteuid() == 0:
        words += [word for right in _RIGHTS for word in ("--cap-add", right)]
    else:
        words += ["--unshare-user", "--uid", "0", "--gid", "0"]
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    if folder is not None:
        words += ["--bind", os.fspath(folder), os.fspath(folder)]
    return [*words, "--"]
