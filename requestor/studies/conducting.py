"""Does the cells of a study that are not done yet, and keeps each as a line of JSON."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from requestor.attacks.catalogue import ATTACKS
from requestor.evaluation.local_workshop import LocalWorkshop
from requestor.studies.cells import Cell, CellResult, Crowd, run_cell
from requestor.training_run.settings import RunSettings


class Line(msgspec.Struct, frozen=True):
    """A cell that is done, under the settings of this digest."""

    setting: str
    result: CellResult


@dataclass(frozen=True)
class Prepared:
    """A cell with the settings of its run, and their digest."""

    cell: Cell
    settings: RunSettings
    setting: str


def setting_digest(resolved_config: str) -> str:
    """Return what stands for a config: the first 16 digits of its SHA-256."""
    return hashlib.sha256(resolved_config.encode()).hexdigest()[:16]


def read_lines(path: Path) -> Iterator[Line]:
    """Read what is there; a line that was cut off by a crash ends it."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield msgspec.json.decode(line, type=Line)
        except msgspec.MsgspecError:
            return


@dataclass(frozen=True)
class Conductor:
    """Does cells, `at_once` at a time; `folder` is scratch, results go to the file `record`."""

    record: Path
    folder: Path
    liars: int
    at_once: int = 1

    async def conduct(
        self, prepared: Sequence[Prepared], tell: Callable[[CellResult], None]
    ) -> list[CellResult]:
        """Return the results of all cells; what the record has is not done again."""
        done = {(line.setting, line.result.cell): line.result for line in read_lines(self.record)}
        waiting = [one for one in prepared if (one.setting, one.cell) not in done]
        if waiting:
            queue = iter(waiting)
            learner = waiting[0].settings.learner
            async with LocalWorkshop(self.folder / "shop", learner, self.at_once) as shop:

                async def serve(number: int) -> None:
                    for one in queue:
                        result = await self._one(one, shop, number)
                        done[one.setting, one.cell] = result
                        with self.record.open("ab") as file:
                            file.write(msgspec.json.encode(Line(one.setting, result)) + b"\n")
                        tell(result)

                async with asyncio.TaskGroup() as group:
                    for number in range(self.at_once):
                        group.create_task(serve(number))
        return [done[one.setting, one.cell] for one in prepared]

    async def _one(self, one: Prepared, shop: LocalWorkshop, number: int) -> CellResult:
        people = Crowd(one.settings.terms.providers, self.liars, ATTACKS.get(one.cell.attack))
        return await run_cell(one.cell, one.settings, people, shop, self.folder / f"run-{number}")
