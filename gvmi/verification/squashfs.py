"""Look into a squashfs without unpacking it: `unsquashfs` as a child on a short lead.

The file may be a stranger's. The child gets little memory, processor time and output, and what it
prints is read strictly: a line that is not as it should be refuses the file.
"""

from __future__ import annotations

import os
import re
import resource
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

from gvmi.errors import BadImage, MachineUnfit

MAX_ENTRIES = 200_000
MAX_LISTING_BYTES = 64 << 20
MAX_MEMORY_BYTES = 2 << 30
MAX_SECONDS = 60

_LINE = re.compile(
    r"(?P<kind>[-dlbcps])(?P<mode>[-r][-w][-xsS][-r][-w][-xsS][-r][-w][-xtT]) "
    r"(?P<user>\d{1,10})/(?P<group>\d{1,10}) +"
    r"(?:(?P<size>\d{1,20})|\d+, *\d+) "
    r"(?P<time>\d{4,12}-\d\d-\d\d \d\d:\d\d) (?P<rest>.*)",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class Entry:
    """One name in the image. `path` is absolute; `kind` and `mode` are spelled as by `ls -l`."""

    path: str
    kind: str
    mode: str
    user: int
    group: int
    size_bytes: int
    modified: str  # YYYY-MM-DD HH:MM, UTC
    target: str = ""  # of a link

    @property
    def is_file(self) -> bool:
        """Tell whether it is a regular file."""
        return self.kind == "-"

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a folder."""
        return self.kind == "d"


def list_squashfs(image: Path) -> list[Entry]:
    """Return every name in an image, the root first.

    Raises:
        BadImage: it cannot be listed, or the listing is not to be trusted.
        MachineUnfit: there is no `unsquashfs`.
    """
    # nobody can guess it, so that no name in the image can look like a line of its own
    prefix = secrets.token_hex(16)
    with _output(image, ["-UTC", "-d", prefix, "-lln", os.fspath(image)]) as stream:
        found = list(_entries(stream, prefix, image))
    if not found or found[0].path != "/":
        raise BadImage(f"{image}: the squashfs has no root folder")
    return found


def read_member(image: Path, path: str, most_bytes: int) -> bytes:
    """Return the bytes of one file in an image; `path` is absolute.

    Raises:
        BadImage: it is not there, is longer than `most_bytes`, or cannot be read.
    """
    with _output(image, ["-no-wild", "-cat", os.fspath(image), path.lstrip("/")]) as stream:
        content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise BadImage(f"{image}: {path!r} in it has more than {most_bytes} bytes")
    return content


def parse_line(line: str, prefix: str) -> Entry | None:
    """Read one line of the listing; None if it is not as `unsquashfs` writes it."""
    match = _LINE.fullmatch(line)
    if match is None or not match["rest"].startswith(prefix):
        return None
    path, target = match["rest"].removeprefix(prefix), ""
    if path and not path.startswith("/"):
        return None
    if match["kind"] == "l":
        path, arrow, target = path.partition(" -> ")
        if not arrow or not target or " -> " in target:
            return None  # where the name ends is not to be told
    if (match["size"] is None) != (match["kind"] in "bc"):
        return None
    parts = path.split("/")[1:]
    if path and any(part in ("", ".", "..") for part in parts):
        return None
    return Entry(
        path=path or "/",
        kind=match["kind"],
        mode=match["mode"],
        user=int(match["user"]),
        group=int(match["group"]),
        size_bytes=int(match["size"] or 0),
        modified=match["time"],
        target=target,
    )


def _entries(stream: IO[bytes], prefix: str, image: Path) -> Iterator[Entry]:
    taken = 0
    seen: set[str] = set()
    while raw := stream.readline(1 << 16):
        taken += len(raw)
        if taken > MAX_LISTING_BYTES or len(seen) >= MAX_ENTRIES:
            raise BadImage(
                f"{image}: the squashfs holds more than {MAX_ENTRIES} names or "
                f"{MAX_LISTING_BYTES} bytes of them"
            )
        line = raw.decode("utf-8", "surrogateescape")
        entry = parse_line(line.removesuffix("\n"), prefix) if line.endswith("\n") else None
        if entry is None:
            shown = line.strip().replace(prefix, "")[-160:]
            raise BadImage(
                f"{image}: the listing of the squashfs has a strange line, as by a name with a "
                f"line break or an arrow in it: {shown!r}"
            )
        if entry.path in seen:
            raise BadImage(f"{image}: the squashfs has {entry.path!r} twice")
        seen.add(entry.path)
        yield entry


@contextmanager
def _output(image: Path, arguments: Sequence[str]) -> Iterator[IO[bytes]]:
    """Run `unsquashfs`; its output can be read in the block, and its end is checked after it."""
    program = shutil.which("unsquashfs")
    if program is None:
        raise MachineUnfit(
            "there is no `unsquashfs`, which looks into images",
            fix="apt install squashfs-tools",
        )
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*_short_lead(), program, "-p", "1", "-da", "32", "-fr", "32", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={"LC_ALL": "C", "PATH": os.defpath},
            start_new_session=True,
        )
        assert process.stdout is not None
        out_of_time = False

        def end() -> None:
            nonlocal out_of_time
            out_of_time = True
            process.kill()

        timer = Timer(MAX_SECONDS, end)
        timer.start()
        try:
            with process.stdout:
                yield process.stdout
                rest = process.stdout.read(1)
            code = process.wait() if not rest else None
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if out_of_time:
            raise BadImage(f"{image}: unsquashfs did not come to an end in {MAX_SECONDS} s")
        if code != 0:
            errors.seek(0)
            said = " ".join(errors.read(1000).decode(errors="replace").split())
            shown = "".join(letter if letter.isprintable() else "?" for letter in said)
            raise BadImage(f"{image}: the squashfs cannot be read: {shown or f'exit code {code}'}")


def _short_lead() -> list[str]:
    """Return the words that put limits on the program named after them."""
    program = shutil.which("prlimit")
    if program is None:
        raise MachineUnfit("there is no `prlimit`", fix="apt install util-linux")
    limits = []
    for name, what, most in (
        ("as", resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        ("cpu", resource.RLIMIT_CPU, MAX_SECONDS),
        ("fsize", resource.RLIMIT_FSIZE, 1 << 20),
        ("core", resource.RLIMIT_CORE, 0),
        ("nofile", resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        limits.append(f"--{name}={limit}:{limit}")
    return [program, *limits, "--"]
