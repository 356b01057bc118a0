"""Unmodified yapapi works against the daemon: tasks, services in a network, failures, streams."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from yapapi import Golem, Task, WorkContext
from yapapi.config import ApiConfig
from yapapi.payload.package import Package
from yapapi.props.builder import DemandBuilder
from yapapi.rest.activity import CommandExecutionError
from yapapi.services import Service

pytestmark = pytest.mark.asyncio
FLEET = """
runtime: {isolation: process}
providers:
  - {name: willow, price: {start_glm: 0.001, cpu_hour_glm: 0.1, hour_glm: 0.02}}
  - {name: alder, price: {start_glm: 0.001, cpu_hour_glm: 0.2, hour_glm: 0.02}}
"""


class Image(Package):
    """An image that no registry need know."""

    def __init__(self) -> None:
        """Do nothing; that of `Package` has no types."""

    async def resolve_url(self) -> str:
        return "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi"

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        demand.ensure("(golem.runtime.name=vm)")
        demand.ensure("(golem.inf.mem.gib>=0.5)")
        demand.properties["golem.srv.comp.task_package"] = await self.resolve_url()
        demand.properties["golem.srv.comp.vm.package_format"] = "gvmkit-squash"


Engine = Callable[..., Any]


@pytest.fixture
def engine(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Start a daemon and a yapapi engine on it."""

    @asynccontextmanager
    async def open_engine(
        fleet: str = FLEET, wire_log: Path | None = None, **options: Any
    ) -> AsyncIterator[tuple[Any, Golem]]:
        requestor = await serve(fleet, wire_log=wire_log)
        address = requestor.address
        monkeypatch.setenv("PATH", f"{address.gftp_directory}{os.pathsep}{os.environ['PATH']}")
        async with Golem(
            budget=Decimal(1),
            payment_driver="erc20",
            payment_network="hoodi",
            subnet_tag="public",
            api_config=ApiConfig(app_key=address.app_key, api_url=address.url),
            **options,
        ) as golem:
            yield requestor, golem

    return open_engine


async def check_books(requestor: Any) -> None:
    """Everything is ended, released and paid to the last digit."""
    agreements = await requestor.ok("GET", "/market-api/v1/agreements")
    assert agreements
    approved = await requestor.ok("GET", "/market-api/v1/agreements", state="Approved")
    assert approved == []
    assert await requestor.ok("GET", "/payment-api/v1/allocations") == []
    assert await requestor.ok("GET", "/market-api/v1/demands") == []
    books = requestor.daemon.books
    (allocation,) = books.allocations.values()
    invoices = await requestor.ok("GET", "/payment-api/v1/invoices")
    assert {one["status"] for one in invoices} <= {"ACCEPTED", "SETTLED"}
    assert allocation.spent_amount == sum(Decimal(one["amount"]) for one in invoices)
    assert all(one.ended_at is not None for one in books.activities.values())


async def test_tasks_with_files(engine: Engine, tmp_path: Path) -> None:
    blob = os.urandom(200_000)
    (tmp_path / "blob").write_bytes(blob)
    log = tmp_path / "wire.jsonl"

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            target = tmp_path / f"back-{task.data}"
            script = context.new_script(timeout=timedelta(seconds=60))
            script.upload_json({"n": task.data}, "/golem/work/in.json")
            script.upload_file(str(tmp_path / "blob"), "/golem/work/deep/blob")
            run = script.run("/bin/sh", "-c", "cat in.json; cp deep/blob back")
            script.download_file("/golem/work/back", str(target))
            yield script
            task.accept_result(((await run).stdout, target.read_bytes()))

    results = {}
    async with engine(wire_log=log) as (requestor, golem):
        tasks: list[Task[int, Any]] = [Task(data=number) for number in range(3)]
        async for task in golem.execute_tasks(
            worker, tasks, payload=Image(), max_workers=2, timeout=timedelta(minutes=15)
        ):
            results[task.data] = task.result
    assert {number: json.loads(text) for number, (text, _) in results.items()} == {
        number: {"n": number} for number in range(3)
    }
    assert all(back == blob for _, back in results.values())
    await check_books(requestor)
    calls = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    made = [(one["method"], one["path"].split("/")[-1]) for one in calls]
    first = [("GET", "me"), ("POST", "allocations"), ("GET", "demandDecorations")]
    assert made[:2] == first[:2] and first[2] in made
    bad = [one for one in calls if (one["status"] or 0) >= 400]
    assert all(one["path"].endswith("/events") and one["status"] == 404 for one in bad), bad


async def test_two_services_in_a_network(engine: Engine) -> None:
    replies: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

    class Echo(Service):
        @staticmethod
        async def get_payload() -> Any:
            return Image()

        async def run(self) -> AsyncGenerator[Any, Any]:
            assert self._ctx is not None
            for word in ("one", "two"):
                script = self._ctx.new_script(timeout=timedelta(seconds=60))
                result = script.run("/bin/sh", "-c", f"echo {word} >> log; cat log")
                yield script
                replies.put_nowait((self.provider_name, (await result).stdout))
            await asyncio.Event().wait()

    async with engine() as (requestor, golem):
        network = await golem.create_network("192.168.7.0/24")
        async with network:
            cluster = await golem.run_service(
                Echo, num_instances=2, network=network, expiration=None
            )
            async with asyncio.timeout(90):
                got = [await replies.get() for _ in range(4)]
            nodes = await requestor.ok("GET", f"/net-api/v1/net/{network.network_id}/nodes")
            cluster.stop()
        assert len(nodes) == 3  # the requestor and both providers
    assert sorted(got) == [
        ("alder", "one\n"),
        ("alder", "one\ntwo\n"),
        ("willow", "one\n"),
        ("willow", "one\ntwo\n"),
    ]
    await check_books(requestor)


async def test_a_failing_command(engine: Engine) -> None:
    errors: list[CommandExecutionError] = []

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            script = context.new_script(timeout=timedelta(seconds=60))
            script.run("/bin/sh", "-c", "echo oops >&2; exit 3")
            try:
                yield script
            except CommandExecutionError as error:
                errors.append(error)
                task.reject_result(retry=False)

    async with engine() as (requestor, golem):
        async for _ in golem.execute_tasks(
            worker, [Task(data=0)], payload=Image(), max_workers=1, timeout=timedelta(minutes=15)
        ):
            raise AssertionError("a rejected task has no result")
    (error,) = errors
    assert error.message == "ExeScript command exited with code 3"
    assert error.stderr == "oops\n"
    await check_books(requestor)


async def test_streamed_output_and_a_provider_that_rejects(engine: Engine) -> None:
    fleet = FLEET.replace("name: willow,", "name: willow, faults: [{kind: reject_agreement}],")
    lines: list[str] = []

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            script = context.new_script(timeout=timedelta(seconds=60))
            script.run("/bin/sh", "-c", "echo first; sleep 0.2; echo second")
            yield script
            task.accept_result(context.provider_name)

    def consume(event: Any) -> None:
        if type(event).__name__ == "CommandStdOut" and event.output:
            lines.append(event.output)

    providers = []
    async with engine(fleet, stream_output=True) as (requestor, golem):
        golem.add_event_consumer(consume, ["CommandStdOut"])
        async for task in golem.execute_tasks(
            worker, [Task(data=0)], payload=Image(), max_workers=1, timeout=timedelta(minutes=15)
        ):
            providers.append(task.result)
    assert providers == ["alder"]
    assert "".join(lines).endswith("first\nsecond\n")
    await check_books(requestor)
