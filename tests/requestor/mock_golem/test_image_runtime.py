"""Fleets whose activities run in images: from the demand to the command, over real HTTP."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from yapapi import Golem, Task, WorkContext
from yapapi.config import ApiConfig
from yapapi.payload.package import Package
from yapapi.props.builder import DemandBuilder
from yapapi.script import Script

from requestor.mock_golem.exe_unit import IsolationError, bubblewrap_problem
from requestor.mock_golem.images.gvmi_file import image_hash
from tests.requestor.mock_golem import tiny_image
from tests.requestor.mock_golem.conftest import shell
from tests.requestor.mock_golem.tiny_image import needs_images

pytestmark = [pytest.mark.asyncio, needs_images]
FLEET = """
runtime: {kind: image}
providers:
  - {name: willow}
  - {name: alder}
"""
BEGIN: list[dict[str, Any]] = [{"deploy": {}}, {"start": {}}]


@dataclass
class Served:
    """Image files under web addresses; `downloads` are those that were asked for."""

    folder: Path
    server: TestServer
    downloads: list[str]

    def package(self, path: Path, expected: Path | None = None) -> str:
        """Return a demand's words for a file, with the hash of another if told so."""
        address = self.server.make_url(f"/{path.name}")
        return f"hash:sha3:{image_hash(expected or path)}:{address}"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    folder, downloads = tmp_path / "served", list[str]()
    folder.mkdir()

    async def answer(request: web.Request) -> web.StreamResponse:
        downloads.append(request.match_info["name"])
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application()
    app.router.add_get("/{name}", answer)
    server = TestServer(app)
    await server.start_server()
    yield Served(folder, server, downloads)
    await server.close()


@pytest.fixture
def image(served: Served) -> Path:
    return tiny_image.build(served.folder / "tiny.gvmi")


async def begin(requestor: Any, package: str) -> tuple[str, list[dict[str, Any]]]:
    """Deploy and start an activity of an image; return it and the results."""
    properties = {"golem.srv.comp.task_package": package}
    activity = await requestor.activity(await requestor.agreement(properties=properties))
    return activity, await requestor.execute(activity, BEGIN)


async def test_a_command_runs_in_the_image(serve: Any, served: Served, image: Path) -> None:
    requestor = await serve(FLEET)
    activity, (deployed, started) = await begin(requestor, served.package(image))
    assert (deployed["result"], started["result"]) == ("Ok", "Ok"), (deployed, started)
    volumes = [one["path"] for one in json.loads(deployed["stdout"])["vols"]]
    assert volumes == ["/golem/other", "/golem/work"]
    (result,) = await requestor.execute(activity, [shell("echo $PATH $OF_THE_IMAGE; ls /")])
    assert result["stdout"].startswith("/bin yes\nbin\n"), result


async def test_an_image_is_downloaded_once_for_all_providers(
    serve: Any, served: Served, image: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    requestor = await serve(FLEET, state_directory=state)
    for _ in range(2):
        _, results = await begin(requestor, served.package(image))
        assert [one["result"] for one in results] == ["Ok", "Ok"], results
    assert served.downloads == ["tiny.gvmi"]
    assert (state / "images" / f"{image_hash(image)}.gvmi").read_bytes() == image.read_bytes()
    await requestor.daemon.stop()
    assert list((state / "activities").iterdir()) == []
    assert os.fspath(state) not in Path("/proc/self/mountinfo").read_text()


async def test_one_changed_byte_is_refused_by_name(serve: Any, served: Served, image: Path) -> None:
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    changed = served.folder / "changed.gvmi"
    changed.write_bytes(content)
    requestor = await serve(FLEET)
    _, (deployed,) = await begin(requestor, served.package(changed, expected=image))
    assert deployed["result"] == "Error"
    assert deployed["message"] == (
        "Local service error: Transfer error: "
        f"Invalid digest: {image_hash(changed)}, expected {image_hash(image)}"
    )


async def test_a_file_that_is_no_image_is_refused_by_name(serve: Any, served: Served) -> None:
    file = served.folder / "no.gvmi"
    file.write_bytes(b"hsqs" + bytes(1000))
    requestor = await serve(FLEET)
    _, (deployed,) = await begin(requestor, served.package(file))
    assert "no GVMI trailer at its end" in deployed["message"]


async def test_an_image_larger_than_the_provider_s_storage(
    serve: Any, served: Served, image: Path
) -> None:
    requestor = await serve("runtime: {kind: image}\nproviders: [{name: a, storage_gib: 0.0001}]")
    _, (deployed,) = await begin(requestor, served.package(image))
    assert "more than the provider's 107374 bytes of storage" in deployed["message"]


async def test_a_demand_without_image(serve: Any) -> None:
    requestor = await serve(FLEET)
    agreement = await requestor.agreement()
    status, answer = await requestor.call("POST", "/activity-api/v1/activity", agreement)
    assert status == 500 and "the demand names no image" in answer["message"]


async def test_without_bubblewrap_the_daemon_does_not_start(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bubblewrap_problem.cache_clear()
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(IsolationError, match="apt install bubblewrap"):
        await serve(FLEET)
    monkeypatch.undo()
    bubblewrap_problem.cache_clear()


async def test_yapapi_s_tasks_run_in_the_image(
    serve: Any, served: Served, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tiny(Package):
        def __init__(self) -> None:
            """Do nothing; that of `Package` has no types."""

        async def resolve_url(self) -> str:
            return served.package(image)

        async def decorate_demand(self, demand: DemandBuilder) -> None:
            demand.ensure("(golem.runtime.name=vm)")
            demand.properties["golem.srv.comp.task_package"] = await self.resolve_url()
            demand.properties["golem.srv.comp.vm.package_format"] = "gvmkit-squash"

    async def worker(
        context: WorkContext, tasks: AsyncIterator[Task[int, Any]]
    ) -> AsyncGenerator[Script, Any]:
        async for task in tasks:
            target = tmp_path / f"back-{task.data}"
            script = context.new_script(timeout=timedelta(seconds=60))
            script.upload_json({"n": task.data}, "/golem/work/in.json")
            run = script.run("/bin/sh", "-c", "cat in.json > out; ls /; echo $OF_THE_IMAGE")
            script.download_file("/golem/work/out", str(target))
            yield script
            task.accept_result(((await run).stdout, json.loads(target.read_text())))

    requestor = await serve(FLEET)
    address = requestor.address
    monkeypatch.setenv("PATH", f"{address.gftp_directory}{os.pathsep}{os.environ['PATH']}")
    results: dict[int, Any] = {}
    async with Golem(
        budget=Decimal(1),
        payment_driver="erc20",
        payment_network="hoodi",
        subnet_tag="public",
        api_config=ApiConfig(app_key=address.app_key, api_url=address.url),
    ) as golem:
        tasks: list[Task[int, Any]] = [Task(data=number) for number in range(3)]
        async for task in golem.execute_tasks(
            worker, tasks, payload=Tiny(), max_workers=2, timeout=timedelta(minutes=15)
        ):
            results[task.data] = task.result
    assert {number: back for number, (_, back) in results.items()} == {
        number: {"n": number} for number in range(3)
    }
    for said, _ in results.values():
        *top, mark = said.split()
        assert mark == "yes" and "home" not in top and "opt" in top
    assert served.downloads == ["tiny.gvmi"]
