"""Unmodified yapapi on both daemons: the scenarios of its usual life, and of its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from yapapi import Golem, Task, WorkContext
from yapapi.rest.activity import BatchError
from yapapi.services import Service

if TYPE_CHECKING:
    from tests.contract.conftest import PlayScenario, Stage

pytestmark = pytest.mark.asyncio
JOB = timedelta(minutes=15)
SCRIPT = timedelta(seconds=60)


def shell(context: WorkContext, text: str) -> tuple[Any, Any]:
    """Return a script of one shell command, and the command's outcome to come."""
    script = context.new_script(timeout=SCRIPT)
    return script, script.run("/bin/sh", "-c", text)


async def run_tasks(
    stage: Stage, golem: Golem, worker: Any, tasks: list[Any], *providers: str
) -> list[Any]:
    """Have tasks done on these providers; return their results in order of the tasks."""
    found: dict[Any, Any] = {}
    async for task in golem.execute_tasks(
        worker,
        [Task(data=one) for one in tasks],
        payload=stage.image(*providers),
        max_workers=len(providers),
        timeout=JOB,
    ):
        found[task.data] = task.result
    return [found[one] for one in tasks]


async def echo(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Say what the tasks are."""
    async for task in tasks:
        script, said = shell(context, f"sleep 0.5; echo {task.data}")
        yield script
        task.accept_result((await said).stdout)


async def test_a_normal_job(play: PlayScenario, tmp_path: Path) -> None:
    blob = bytes(range(256)) * 1000
    (tmp_path / "blob").write_bytes(blob)

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            target = tmp_path / f"back-{task.data}"
            script = context.new_script(timeout=SCRIPT)
            script.upload_json({"n": task.data}, "/golem/work/in.json")
            script.upload_file(str(tmp_path / "blob"), "/golem/work/deep/blob")
            said = script.run("/bin/sh", "-c", "cat in.json; sleep 1; cp deep/blob back")
            script.download_file("/golem/work/back", str(target))
            yield script
            task.accept_result(((await said).stdout, target.read_bytes() == blob))

    async with play("normal_job") as stage:
        async with stage.engine() as golem:
            results = await run_tasks(stage, golem, worker, [1, 2, 3, 4], "willow", "maple")
        assert results == [(f'{{"n": {number}}}', True) for number in (1, 2, 3, 4)]
        await stage.nothing_open()


async def test_services_kept_over_rounds(play: PlayScenario) -> None:
    rounds: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    go_on = [asyncio.Event() for _ in range(3)]

    async with play("services_kept_over_rounds") as stage:

        class Rounds(Service):
            @staticmethod
            async def get_payload() -> Any:
                return stage.image("willow", "maple")

            async def run(self) -> AsyncGenerator[Any, Any]:
                assert self._ctx is not None
                for number, event in enumerate(go_on):
                    await event.wait()
                    script, said = shell(self._ctx, f"echo {number} >> log; cat log")
                    yield script
                    rounds.put_nowait((number, (await said).stdout))
                await asyncio.Event().wait()

        async with stage.engine() as golem:
            cluster = await golem.run_service(Rounds, num_instances=2, expiration=None)
            for number, event in enumerate(go_on):
                event.set()
                both = [await asyncio.wait_for(rounds.get(), 60) for _ in range(2)]
                assert both == [(number, "".join(f"{n}\n" for n in range(number + 1)))] * 2
            cluster.stop()  # type: ignore[no-untyped-call]
        await stage.nothing_open()


async def test_a_failing_command(play: PlayScenario) -> None:
    """The task goes back in the queue; its next attempt, under a new agreement, is accepted."""
    errors: list[Any] = []

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            code = 0 if errors else 7
            script, said = shell(context, f"echo out; echo err >&2; exit {code}")
            try:
                yield script
                task.accept_result((await said).stdout)
            except BatchError as error:
                errors.append(error)
                raise

    async with play("failing_command") as stage:
        async with stage.engine() as golem:
            assert await run_tasks(stage, golem, worker, [1], "willow") == ["out\n"]
        assert errors[0].message == "ExeScript command exited with code 7"
        assert errors[0].stderr == "err\n"
        await stage.nothing_open()


async def test_a_provider_killed_in_mid_command(play: PlayScenario) -> None:
    async with play("provider_killed") as stage:
        golem = stage.engine()
        await golem.start()
        try:
            assert await run_tasks(stage, golem, echo, ["a"], "hemlock", "maple") == ["a\n"]
        finally:
            await golem.stop(wait_for_payments=False)


async def test_an_agreement_rejected(play: PlayScenario) -> None:
    """The same Draft is countered again, and the provider's new Draft is taken."""
    async with play("agreement_rejected") as stage:
        async with stage.engine() as golem:
            assert await run_tasks(stage, golem, echo, ["a"], "rowan") == ["a\n"]
        await stage.nothing_open()


async def test_an_agreement_ended_by_its_provider(play: PlayScenario) -> None:
    """yapapi notices by its activity; the task is done under a new agreement."""
    attempts: list[str] = []

    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            script, said = shell(context, "echo done" if attempts else "sleep 30")
            attempts.append(str(context.provider_name))
            yield script
            task.accept_result((await said).stdout)

    async with play("agreement_ended_by_provider") as stage:
        async with stage.engine() as golem:
            assert await run_tasks(stage, golem, worker, ["a"], "hazel") == ["done\n"]
        await stage.nothing_open()


async def test_debit_notes(play: PlayScenario) -> None:
    async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for task in tasks:
            script, said = shell(context, "sleep 3; echo done")
            yield script
            task.accept_result((await said).stdout)

    async with play("debit_notes") as stage:
        async with stage.engine() as golem:
            assert await run_tasks(stage, golem, worker, ["a"], "poplar") == ["done\n"]
        await stage.nothing_open()
        await stage.until_said("POST", "/accept", times=3)  # two notes or more, and the invoice


async def test_a_demand_that_is_gone(play: PlayScenario) -> None:
    """Daemons forget demands after an hour, or when they restart; yapapi subscribes anew."""
    async with play("demand_gone") as stage:

        async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for task in tasks:
                script, said = shell(context, f"echo {task.data}")
                yield script
                task.accept_result((await said).stdout)
                if task.data == "a":
                    (demand,) = await stage.ok("GET", "/market-api/v1/demands")
                    path = f"/market-api/v1/demands/{demand['demandId']}"
                    await stage.ok("DELETE", path)
                    await stage.until_said("POST", "/market-api/v1/demands", times=2)

        async with stage.engine() as golem:
            assert await run_tasks(stage, golem, worker, ["a", "b"], "willow") == ["a\n", "b\n"]
        await stage.nothing_open()


async def test_a_network(play: PlayScenario) -> None:
    addresses: asyncio.Queue[str] = asyncio.Queue()

    async with play("network") as stage:

        class Node(Service):
            @staticmethod
            async def get_payload() -> Any:
                return stage.image("willow", "maple")

            async def run(self) -> AsyncGenerator[Any, Any]:
                assert self._ctx is not None
                assert self.network_node is not None
                script, said = shell(self._ctx, "echo up")
                yield script
                assert (await said).stdout == "up\n"
                addresses.put_nowait(self.network_node.ip)
                await asyncio.Event().wait()

        async with stage.engine() as golem:
            network = await golem.create_network("192.168.7.0/24")
            async with network:
                cluster = await golem.run_service(Node, num_instances=2, network=network)
                both = {await asyncio.wait_for(addresses.get(), 60) for _ in range(2)}
                cluster.stop()  # type: ignore[no-untyped-call]
        assert both == {"192.168.7.2", "192.168.7.3"}
        await stage.nothing_open()


async def test_two_requestors_at_once(play: PlayScenario) -> None:
    """Two programs on one key, each with its own demand, agreement and allocation.

    Both hear of each other's invoices, in no fixed order, so that nothing is compared here.
    """

    async def job(stage: Stage, provider: str) -> list[Any]:
        async with stage.engine() as golem:
            return await run_tasks(stage, golem, echo, [provider], provider)

    async with play(None) as stage:
        both = await asyncio.gather(job(stage, "willow"), job(stage, "maple"))
        assert list(both) == [["willow\n"], ["maple\n"]]
        await stage.nothing_open()
