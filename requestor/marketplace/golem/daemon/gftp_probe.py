"""Is there a `gftp`, and does it answer? Files travel to providers through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal

ANSWER_SECONDS = 10.0
MAX_LINE_BYTES = 64 << 10


class GftpError(Exception):
    """There is no gftp, or it does not answer as it should; the message says which."""


async def gftp_version(timeout_seconds: float = ANSWER_SECONDS) -> str:
    """Start the `gftp` of PATH as yapapi does, ask for its version, and end it.

    Raises:
        GftpError: it is not there, or does not answer.
    """
    path = shutil.which("gftp")
    if path is None:
        raise GftpError("there is no `gftp` on PATH")
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
    except OSError as error:
        raise GftpError(f"{path} can't be started: {error.strerror or error}") from error
    try:
        return await asyncio.wait_for(_ask(process), timeout_seconds)
    except TimeoutError as error:
        raise GftpError(f"{path} does not answer within {timeout_seconds:g} s") from error
    except (OSError, ValueError, RecursionError) as error:
        raise GftpError(f"{path} does not answer as gftp does: {error}") from error
    finally:
        await _end(process)


async def _ask(process: asyncio.subprocess.Process) -> str:
    assert process.stdin is not None and process.stdout is not None
    request = {"jsonrpc": "2.0", "id": "1", "method": "version", "params": {}}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    with contextlib.suppress(ConnectionError):  # one that has ended may have said why
        await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise ValueError("it ends without a word")
    answer = json.loads(line)
    version = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(version, str) or not version.strip():
        raise ValueError("no version in its answer")
    return "".join(c for c in version if c.isprintable()).strip()[:60]


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
