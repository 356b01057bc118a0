"""A yapapi job whose only task takes a minute: it is killed before that. Arguments: a provider."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from yapapi import Golem, Task, WorkContext
from yapapi.payload.package import Package
from yapapi.props.builder import DemandBuilder


class Image(Package):
    """An image that no registry need know, on one provider."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    async def resolve_url(self) -> str:
        """Return where it is said to be."""
        return "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi"

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Demand the provider."""
        demand.ensure("(golem.runtime.name=vm)")
        demand.ensure(f"(golem.node.id.name={self._provider})")
        demand.properties["golem.srv.comp.task_package"] = await self.resolve_url()
        demand.properties["golem.srv.comp.vm.package_format"] = "gvmkit-squash"


async def worker(context: WorkContext, tasks: AsyncIterator[Any]) -> AsyncGenerator[Any, Any]:
    """Sleep for a minute."""
    async for task in tasks:
        script = context.new_script(timeout=timedelta(seconds=90))
        script.run("/bin/sh", "-c", "sleep 60")
        yield script
        task.accept_result(None)


async def main() -> None:
    """Run the job; the daemon and the key are in the environment."""
    async with Golem(budget=Decimal(1), payment_network="hoodi", subnet_tag="public") as golem:
        jobs = golem.execute_tasks(
            worker,
            [Task(data=None)],
            payload=Image(sys.argv[1]),
            timeout=timedelta(minutes=15),
        )
        async for _ in jobs:
            pass


asyncio.run(main())
