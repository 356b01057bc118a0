"""Transfers from and to web servers, which may be anything."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from requestor.mock_golem.exe_unit import web_files
from requestor.mock_golem.exe_unit.progress import NoProgress

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import Activity, MakeActivity

pytestmark = pytest.mark.asyncio
CONTENT = bytes(range(256)) * 4000
Served = tuple[str, dict[str, Any]]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Served]:
    """A web server's address, and what it has seen: `uploads`, `asked` and `hangs`."""
    seen: dict[str, Any] = {"uploads": {}, "asked": asyncio.Event(), "hangs": asyncio.Event()}

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=CONTENT)

    async def unsized(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(CONTENT)
        return response

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"only the beginning")
        assert request.transport is not None
        request.transport.close()
        return response

    async def hanging(request: web.Request) -> web.Response:
        seen["asked"].set()
        await seen["hangs"].wait()
        return web.Response()

    async def put(request: web.Request) -> web.Response:
        seen["uploads"][request.path] = await request.read()
        return web.Response(status=201)

    application = web.Application(client_max_size=1 << 24)
    routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        "/file": file,
        "/unsized": unsized,
        "/broken": broken,
        "/hanging": hanging,
    }
    application.add_routes([web.get(path, handler) for path, handler in routes.items()])
    application.add_routes([web.put("/taken/{name}", put)])
    runner = web.AppRunner(application, shutdown_timeout=0.02)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    seen["hangs"].set()
    await runner.cleanup()


@pytest_asyncio.fixture
async def activity(make_activity: MakeActivity) -> Activity:
    """A started activity."""
    ready: Activity = await (await make_activity()).ready()
    return ready


def transfer(source: str, target: str) -> dict[str, Any]:
    return {"transfer": {"from": source, "to": target}}


@pytest.mark.parametrize("path", ["/file", "/unsized"])
async def test_download(activity: Activity, server: Served, path: str) -> None:
    (result,) = await activity.execute(transfer(server[0] + path, "container:/golem/work/a/b"))
    assert result["result"] == "Ok", result
    target, file = activity.receive()
    await activity.execute(transfer("container:/golem/work/a/b", target))
    assert file.read_bytes() == CONTENT


async def test_upload(activity: Activity, server: Served) -> None:
    await activity.execute(transfer(activity.publish(CONTENT), "container:/golem/work/f"))
    (result,) = await activity.execute(
        transfer("container:/golem/work/f", f"{server[0]}/taken/result")
    )
    assert result["result"] == "Ok", result
    assert server[1]["uploads"] == {"/taken/result": CONTENT}


async def test_what_does_not_arrive_whole_does_not_arrive(
    activity: Activity, server: Served
) -> None:
    complaints = {"/broken": "HTTP error: ", "/none": "HTTP error: the server answers 404"}
    for path, complaint in complaints.items():
        (result,) = await activity.execute(transfer(server[0] + path, "container:/golem/work/f"))
        assert result["result"] == "Error"
        assert result["message"].startswith(f"Local service error: Transfer error: {complaint}")
    assert (await activity.shell("ls -A"))["stdout"] is None


async def test_addresses_of_no_sense(activity: Activity, server: Served) -> None:
    for source, target, complaint in (
        ("http://", "container:/golem/work/f", "HTTP error: "),
        ("http://127.0.0.1:1/f", "container:/golem/work/f", "HTTP error: Cannot connect"),
        (f"{server[0]}/file", "container:/etc/passwd", "IO error: path not found in container"),
        (f"{server[0]}/file", f"{server[0]}/taken/f", "neither address is in the container"),
        ("container:/etc/passwd", f"{server[0]}/taken/f", "IO error: path not found in container"),
    ):
        (result,) = await activity.execute(transfer(source, target))
        assert result["message"].startswith(
            f"Local service error: Transfer error: {complaint}"
        ), result
    assert server[1]["uploads"] == {}


async def test_a_file_that_is_too_big_is_given_up(
    activity: Activity, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_files, "MOST_BYTES", 1000)
    (result,) = await activity.execute(transfer(f"{server[0]}/file", "container:/golem/work/f"))
    assert "more than 1000 bytes" in result["message"]


async def test_a_server_that_hangs_does_not_hold_up_the_end(
    activity: Activity, server: Served
) -> None:
    activity.begin(transfer(f"{server[0]}/hanging", "container:/golem/work/f"))
    await server[1]["asked"].wait()
    await activity.unit.terminate()
    assert activity.unit.state == "Terminated"


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_file_is_not_closed_under_a_thread_that_is_at_it(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    begun, ended, may_go_on = asyncio.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    found: list[bool] = []

    def at_the_file(descriptor: int, *_: object) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        may_go_on.wait(30)
        found.append(_is_open(descriptor))
        loop.call_soon_threadsafe(ended.set)
        return b""

    monkeypatch.setattr(web_files, "_write", at_the_file)
    monkeypatch.setattr(os, "pread", at_the_file)

    async def transfer_file() -> None:
        with (tmp_path / "file").open("w+b") as file:
            if way == "download":
                await web_files.download(f"{server[0]}/file", file.fileno(), NoProgress())
            else:
                await web_files.upload(file.fileno(), f"{server[0]}/taken/f", NoProgress())

    moving = asyncio.create_task(transfer_file())
    await begun.wait()
    moving.cancel()
    await asyncio.sleep(0)
    if way == "upload":  # what sends is a task of its own
        await asyncio.wait({moving})
    may_go_on.set()
    await asyncio.wait({moving})
    await ended.wait()
    assert found == [True]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
