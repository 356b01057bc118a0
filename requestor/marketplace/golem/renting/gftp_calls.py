"""Calls to yapapi's `gftp` that survive the cancellation of whoever made them.

yapapi writes a question to the program and reads a line for the answer. If it is cancelled between
the two, as an instance is whose agreement yapapi ends over its head, the answer stays in the pipe:
from then on every question gets the answer to the one before, and no file travels any more.
"""

from __future__ import annotations

import asyncio
from typing import Any

from yapapi import Golem


def finish_gftp_calls(golem: Golem) -> None:
    """Let every call of a started engine to `gftp` run to its end, whoever still waits for it."""
    engine: Any = golem._engine
    process: Any = engine._storage_manager._process
    send = process.send_message

    async def send_message(message: Any) -> Any:
        return await asyncio.shield(asyncio.ensure_future(send(message)))

    vars(process)["send_message"] = send_message  # set as usual, it would become a callback
