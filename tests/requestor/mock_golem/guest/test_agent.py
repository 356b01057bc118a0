"""The agent as a program: its protocol, and what its start costs."""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requestor.mock_golem.guest as guest_package

FOLDER = Path(guest_package.__file__).parents[1]
PROGRAM = (
    f"import sys; sys.path.append({os.fspath(FOLDER)!r}); "
    "from guest.agent import main; main(sys.argv[1:])"
)
CONFIG = {"is_init": False, "pace": 1.0, "memory_bytes": None, "output_limit_bytes": 1000}


def converse(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything an agent says; its stdin ends when its last command has ended."""
    agent = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM, json.dumps(CONFIG)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
    )
    assert agent.stdin is not None and agent.stdout is not None
    agent.stdin.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    agent.stdin.flush()
    replies: list[dict[str, Any]] = []
    while sum("exit" in reply or "failed" in reply for reply in replies) < len(requests):
        replies.append(json.loads(agent.stdout.readline()))
    agent.stdin.close()
    replies += [json.loads(line) for line in agent.stdout]
    assert agent.wait(60) == 0
    agent.stdout.close()
    return replies


def run(number: int, entry_point: str, *args: str) -> dict[str, Any]:
    return {
        "run": number,
        "entry_point": entry_point,
        "args": args,
        "cwd": "/",
        "environment": {"A": "1"},
        "stdout": {"stream": {}},
        "stderr": None,
    }


def test_commands_run_side_by_side() -> None:
    replies = converse(
        run(1, "/bin/sh", "-c", "echo $A; exit 3"), run(2, "/no/such"), run(3, "/bin/pwd")
    )
    assert "ready" in replies[0]
    by_run = {
        number: [
            {name: value for name, value in reply.items() if name != "run"}
            for reply in replies
            if reply.get("run") == number
        ]
        for number in (1, 2, 3)
    }
    assert by_run[1][1:] == [{"stdout": base64.b64encode(b"1\n").decode()}, {"exit": 3}]
    assert by_run[2] == [{"failed": [2, "No such file or directory"]}]
    assert by_run[3][1:] == [{"stdout": base64.b64encode(b"/\n").decode()}, {"exit": 0}]
    assert replies[-1]["end"] == "closed"
    assert replies[-1]["cpu_seconds"] >= 0


def test_it_starts_light() -> None:
    def cpu_seconds(start: Callable[[], Any]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def bare() -> None:
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True, env={})

    assert [*map(list, converse())][-1] == ["end", "cpu_seconds"]
    costs = [(cpu_seconds(bare), cpu_seconds(converse)) for _ in range(5)]
    python, agent = (min(column) for column in zip(*costs, strict=True))
    assert agent < 5 * python, "CPU seconds of a start; 2 times Python's where this was written"
