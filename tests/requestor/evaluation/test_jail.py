"""What code in the jail can do and see: an environment of the user's plays the villain."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from provider_image.wire import EnvironmentSpec, InitialiseOrder, LearnerSpec
from requestor.errors import PreflightError, UsageError
from requestor.evaluation.jail import Jail, choose_jail
from requestor.evaluation.limits import Limits
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker

ORDER = InitialiseOrder(
    run_id="r",
    seed=1,
    environment=EnvironmentSpec("CartPole-v1"),
    learner=LearnerSpec("ppo", learner="native"),
    output="model",
)
NONE = Jail("none")
LIMITS = Limits(memory_bytes=1 << 30, order_seconds=60, file_bytes=8 << 20, processes=20)
SECRET = "0123456789abcdef-app-key"
VILLAIN = """
import json, os, socket, subprocess, sys, time

def tell(**found):
    with open("found.json", "w") as file:
        json.dump(found, file)

def readable(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16).decode("latin-1")
    except OSError:
        return None

def writable(path):
    try:
        open(path, "ab").close()
        return True
    except OSError:
        return False

{deed}
raise ImportError("that was all")
"""


@pytest.fixture(scope="module")
def bubblewrap() -> Jail:
    """A jail by bubblewrap, or the reason why there is none here."""
    jail = choose_jail({**os.environ, "DERL_JAIL": "auto"})
    if jail.problem is not None:
        pytest.skip(jail.problem)
    return jail


@pytest.fixture(params=["bubblewrap", "none"])
def either(request: pytest.FixtureRequest) -> Jail:
    """Both ways of confining a worker."""
    if request.param == "none":
        return NONE
    jail: Jail = request.getfixturevalue("bubblewrap")
    return jail


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that the user has put on PYTHONPATH."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def run_in(
    tmp_path: Path, package: Path, jail: Jail, deed: str, limits: Limits = LIMITS
) -> tuple[str, Mapping[str, Any]]:
    """Have the villain do a deed, then an honest order; what the first said, and found."""
    (package / "villain.py").write_text(VILLAIN.format(deed=deed))
    villain = replace(ORDER, environment=EnvironmentSpec("villain:Env"))
    folder = tmp_path / "runs" / "ppo" / "run_1" / "local"

    async def work() -> tuple[str, Mapping[str, Any]]:
        async with LocalWorker(folder, ORDER.learner, jail=jail, limits=limits) as worker:
            with pytest.raises(LocalOrderFailed) as caught:
                await worker.execute(villain, {})
            found = folder / "found.json"
            told = json.loads(found.read_text()) if found.exists() else {}
            await worker.execute(ORDER, {})
            assert (folder / "model").stat().st_size > 1000
            return str(caught.value), told

    return asyncio.run(work())


def test_users_environments_can_be_imported(tmp_path: Path, package: Path, either: Jail) -> None:
    (package / "levels").mkdir()
    (package / "levels" / "one.txt").write_text("a level")
    deed = f"tell(level=readable({str(package / 'levels' / 'one.txt')!r}), name=__name__)"
    _, found = run_in(tmp_path, package, either, deed)
    assert found == {"level": "a level", "name": "villain"}


def test_relative_paths_of_pythonpath_are_of_the_users_folder(
    tmp_path: Path, package: Path, either: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "package")
    said, _ = run_in(tmp_path, package, either, "")
    assert "that was all" in said


def test_secrets_are_out_of_reach(
    tmp_path: Path, package: Path, bubblewrap: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", SECRET)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", SECRET)
    monkeypatch.setenv("PROXY", f"http://user:{SECRET}@host/")
    monkeypatch.setenv("HARMLESS", "seen")
    run = tmp_path / "runs" / "ppo" / "run_1"
    others = tmp_path / "runs" / "ppo" / "run_2"
    for folder in (run, others):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "audit.json").write_text(SECRET)
    (package / ".env").write_text(SECRET)
    home = Path.home()
    deed = f"""
places = [{str(run / "audit.json")!r}, {str(others / "audit.json")!r}, {str(package / ".env")!r}]
places += ["/proc/%s/environ" % name for name in os.listdir("/proc") if name.isdigit()]
places += ["/proc/{os.getpid()}/environ", "/proc/{os.getpid()}/mem", "/proc/{os.getpid()}/root"]
found = [path for path in places if {SECRET!r} in (readable(path) or "")]
everywhere = [
    os.path.join(folder, name)
    for folder, _, names in os.walk({str(tmp_path)!r})
    for name in names
    if {SECRET!r} in (readable(os.path.join(folder, name)) or "")
]
tell(
    found=found,
    everywhere=[path for path in everywhere if not path.endswith("villain.py")],
    variables=sorted(os.environ),
    processes=len([name for name in os.listdir("/proc") if name.isdigit()]),
    home=os.listdir({str(home)!r}) if os.path.isdir({str(home)!r}) else [],
    harmless=os.environ["HARMLESS"],
)
"""
    _, found = run_in(tmp_path, package, bubblewrap, deed)
    assert found["found"] == found["everywhere"] == []
    assert not {"YAGNA_APPKEY", "SOME_SERVICE_TOKEN", "PROXY"} & set(found["variables"])
    assert found["harmless"] == "seen"
    assert found["processes"] <= 3
    assert not set(found["home"]) & {".ssh", ".local", ".config", ".bashrc", ".profile"}


def test_without_bubblewrap_the_environment_is_still_clean(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", SECRET)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", SECRET)
    deed = "tell(own=readable('/proc/self/environ'))"
    _, found = run_in(tmp_path, package, NONE, deed)
    assert SECRET not in found["own"]


def test_nothing_can_be_written_or_reached_from_inside(
    tmp_path: Path, package: Path, bubblewrap: Jail
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        places = ["/", "/usr", "/etc", "/dev", str(package), str(Path.home())]
        deed = f"""
try:
    socket.create_connection(("127.0.0.1", {port}), 1)
    reached = True
except OSError:
    reached = False
tell(
    reached=reached,
    written=[path for path in {places!r} if writable(path + "/x")],
    temporary=writable("/tmp/x") and writable({str(tmp_path / "x")!r}),
)
"""
        _, found = run_in(tmp_path, package, bubblewrap, deed)
    assert found == {"reached": False, "written": [], "temporary": True}
    assert not Path("/tmp/x").exists()
    assert not (tmp_path / "x").exists()


def test_a_crash_costs_an_order(tmp_path: Path, package: Path, either: Jail) -> None:
    deed = "import ctypes; print('about to'); sys.stdout.flush(); ctypes.string_at(0)"
    said, _ = run_in(tmp_path, package, either, deed)
    assert said.startswith("the worker died")


def test_eating_memory_costs_an_order(tmp_path: Path, package: Path, either: Jail) -> None:
    said, _ = run_in(tmp_path, package, either, "eaten = bytearray(2 << 30)")
    assert "MemoryError" in said


def test_eating_memory_in_many_processes_costs_an_order(
    tmp_path: Path, package: Path, either: Jail
) -> None:
    deed = """
for number in range(8):
    if os.fork() == 0:
        eaten = b"x" * (100 << 20)
        time.sleep(60)
time.sleep(60)
"""
    limits = changed(LIMITS, memory_bytes=512 << 20)
    said, _ = run_in(tmp_path, package, either, deed, limits)
    assert "of memory (DERL_JAIL_MEMORY_GIB)" in said


def test_running_for_ever_costs_an_order(tmp_path: Path, package: Path, either: Jail) -> None:
    limits = changed(LIMITS, order_seconds=1.0)
    said, _ = run_in(tmp_path, package, either, "while True: pass", limits)
    assert "(DERL_JAIL_ORDER_SECONDS)" in said


def test_many_processes_cost_an_order_and_are_gone(
    tmp_path: Path, package: Path, either: Jail
) -> None:
    deed = """
for number in range(30):
    if os.fork() == 0:
        os.setsid()
        time.sleep(61)
time.sleep(61)
"""
    said, _ = run_in(tmp_path, package, either, deed)
    assert "processes, 20 are allowed" in said
    assert _left_of(tmp_path) == []


def _left_of(tmp_path: Path) -> list[str]:
    """Processes that still work in a folder of the test; a killed one may take a moment."""
    end = time.monotonic() + 10
    while True:
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if str(tmp_path) in os.readlink(link):
                    found.append(str(link))
            except OSError:
                continue
        if not found or time.monotonic() > end:
            return found


def test_filling_the_disk_costs_an_order(tmp_path: Path, package: Path, either: Jail) -> None:
    said, _ = run_in(tmp_path, package, either, "open('x', 'wb').write(bytes(9 << 20))")
    assert "File too large" in said
    deed = """
for number in range(6):
    open(str(number), "wb").write(b"x" * (7 << 20))
time.sleep(60)
"""
    said, _ = run_in(tmp_path, package, either, deed)
    assert "it wrote" in said


@pytest.mark.parametrize("trap", ["os.symlink({victim!r}, 'model')", "os.mkdir('model')"])
def test_what_is_planted_in_the_folder_is_not_followed(
    tmp_path: Path, package: Path, either: Jail, trap: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    names = ("order.json", "input", "serve.log")
    planted = [trap.replace("'model'", repr(name)).format(victim=str(victim)) for name in names]
    deed = "\n".join(
        [f"os.path.lexists({name!r}) and os.unlink({name!r})" for name in names] + planted
    )
    (package / "villain.py").write_text(VILLAIN.format(deed=deed))
    villain = replace(ORDER, environment=EnvironmentSpec("villain:Env"))
    given = tmp_path / "given"
    given.write_text("an input")
    folder = tmp_path / "work"

    async def work() -> None:
        async with LocalWorker(folder, ORDER.learner, jail=either, limits=LIMITS) as worker:
            with pytest.raises(LocalOrderFailed):
                await worker.execute(villain, {})
            await worker.execute(ORDER, {"input": given})
            assert (folder / "input").read_text() == "an input"

    asyncio.run(work())
    assert victim.read_text() == "mine"


def test_the_variable_chooses(tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path)}
    found = choose_jail(nowhere)
    assert found.kind == "none"
    assert found.notice is not None
    assert "apt install bubblewrap" in found.notice
    assert choose_jail({**nowhere, "DERL_JAIL": "none"}).notice is None
    with pytest.raises(PreflightError, match="no `bwrap` program on PATH"):
        choose_jail({**nowhere, "DERL_JAIL": "bubblewrap"})
    with pytest.raises(UsageError, match="DERL_JAIL is 'yes'"):
        choose_jail({"DERL_JAIL": "yes"})


def test_a_bubblewrap_that_fails_is_not_used(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces here >&2\nexit 1\n")
    broken.chmod(0o755)
    found = choose_jail({"PATH": str(tmp_path)})
    assert found.kind == "none"
    assert found.problem is not None
    assert "no namespaces here" in found.problem


def test_a_host_that_forbids_mounts_of_proc_has_a_jail_without(tmp_path: Path) -> None:
    picky = tmp_path / "bwrap"
    picky.write_text('#!/bin/sh\ncase " $* " in *" --proc "*) exit 1;; esac\nexit 0\n')
    picky.chmod(0o755)
    found = choose_jail({"PATH": str(tmp_path)})
    assert found.kind == "bubblewrap"
    assert "/proc/cpuinfo" in found.options
