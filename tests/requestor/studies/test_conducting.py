"""A study of one small cell, done once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from requestor.cli.assembly import run_settings
from requestor.config import parse_config
from requestor.studies.cells import Cell, CellResult
from requestor.studies.conducting import Conductor, Prepared, read_lines

CONFIG = """
env: {id: CartPole-v1, n_envs: 2}
algo: {name: ppo, n_steps: 16, batch_size: 32, n_epochs: 1}
federation: {rounds: 2, clients: 5, local_steps: 32, speculate: false}
golem: {providers: 5}
evaluation: {episodes: 2, final_episodes: 2, gate: {rule: none}}
trust: {audits: {first: 0, least: 0}}
"""


def test_a_cell_is_done_once_and_kept(tmp_path: Path) -> None:
    one = Prepared(Cell("default", "sign_flip", 0), run_settings(parse_config(CONFIG), "s"), "a")
    record = tmp_path / "cells.jsonl"
    told: list[CellResult] = []

    def conduct() -> list[CellResult]:
        conductor = Conductor(record, tmp_path / "scratch", liars=1)
        return asyncio.run(conductor.conduct([one], told.append))

    (first,) = conduct()
    assert first.outcome == "completed", first
    assert len(first.returns) == 3  # untrained, and after each round
    assert first.rounds is None  # there is no target
    assert conduct() == [first]
    assert told == [first]
    with record.open("a") as file:
        file.write('{"setting": "cut o')
    assert [line.result for line in read_lines(record)] == [first]
