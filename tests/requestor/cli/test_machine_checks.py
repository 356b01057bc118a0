"""Disk, open files, a jail: what is too little, with the command that mends it."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from requestor.cli.machine_checks import machine_checks
from requestor.marketplace.diagnosis import Finding, State, examine_all

GIB = 1 << 30


def findings(
    runs: Path, *, free: int = 5 * GIB, files: int = 1024, providers: int = 4
) -> dict[str, Finding]:
    checks = machine_checks(runs, providers, lambda folder: free, lambda: files)
    return {one.name: one for one in asyncio.run(examine_all(checks))}


@pytest.mark.parametrize(
    ("free", "state"),
    [
        (5 * GIB, State.OK),
        (GIB, State.OK),
        (GIB - 1, State.WARNING),
        (100 << 20, State.WARNING),
        ((100 << 20) - 1, State.FAILED),
    ],
)
def test_room(tmp_path: Path, free: int, state: State) -> None:
    disk = findings(tmp_path / "runs", free=free)["disk"]
    assert disk.state is state
    assert disk.facts["free_bytes"] == free
    assert (disk.fix is None) == (state is State.OK)


@pytest.mark.parametrize(
    ("files", "providers", "state"),
    [
        (156, 4, State.OK),
        (155, 4, State.FAILED),
        (1024, 221, State.OK),
        (1024, 222, State.FAILED),
        (resource.RLIM_INFINITY, 1000, State.OK),
    ],
)
def test_open_files(tmp_path: Path, files: int, providers: int, state: State) -> None:
    """140 at rest and 4 for each provider."""
    found = findings(tmp_path, files=files, providers=providers)["open files"]
    assert found.state is state
    if state is State.FAILED:
        assert "`ulimit -n 4096`" in str(found.fix)


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    """The folder need not be there yet: its nearest parent is on the same disk."""
    checks = machine_checks(tmp_path / "a" / "b", 1)
    disk, files, _ = asyncio.run(examine_all(checks))
    assert disk.facts["free_bytes"] > 0
    assert disk.says.endswith(f"GiB free for {tmp_path / 'a' / 'b'}")
    assert files.facts["limit"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_machine_without_a_jail_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DERL_JAIL", raising=False)
    found = findings(tmp_path)["jail"]
    assert found.state is State.WARNING
    assert "no `bwrap` program on PATH" in found.says
    assert found.fix == "apt install bubblewrap"
    monkeypatch.setenv("DERL_JAIL", "bubblewrap")
    assert findings(tmp_path)["jail"].state is State.FAILED
    monkeypatch.setenv("DERL_JAIL", "none")
    monkeypatch.setenv("DERL_JAIL_MEMORY_GIB", "2")
    found = findings(tmp_path)["jail"]
    assert found.state is State.OK
    assert found.says == (
        "models are judged without a jail (DERL_JAIL=none), within 2.0 GiB, 3600 s an order"
    )
