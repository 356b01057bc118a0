"""What commands see of the machine in either isolation."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from requestor.mock_golem.exe_unit import IsolationError, bubblewrap_problem
from requestor.mock_golem.exe_unit.sandbox import choose_isolation

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity

needs_bubblewrap = pytest.mark.skipif(
    bubblewrap_problem() is not None, reason=str(bubblewrap_problem())
)


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    bubblewrap_problem.cache_clear()
    yield
    bubblewrap_problem.cache_clear()


@needs_bubblewrap
def test_auto_takes_bubblewrap_where_it_works() -> None:
    assert choose_isolation("auto") == "bubblewrap"
    assert choose_isolation("bubblewrap") == "bubblewrap"
    assert choose_isolation("process") == "process"


def test_without_bubblewrap_auto_takes_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert choose_isolation("auto") == "process"
    with pytest.raises(IsolationError, match="no `bwrap` program on PATH"):
        choose_isolation("bubblewrap")


def test_a_bubblewrap_that_does_not_work_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert choose_isolation("auto") == "process"
    with pytest.raises(IsolationError, match=r"code 1: No permissions .* set the isolation to"):
        choose_isolation("bubblewrap")


@pytest.mark.asyncio
async def test_the_isolation_in_force_is_reported(
    make_activity: MakeActivity, isolation: str
) -> None:
    assert (await make_activity()).unit.isolation == isolation


@pytest.mark.asyncio
async def test_the_python_of_the_environment_works(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    result = await activity.shell("python -c 'import sys, pytest; print(sys.prefix)'")
    assert result["stdout"].strip() == sys.prefix, result


@pytest.mark.asyncio
async def test_settings_that_name_a_volume_work(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(environment={"HOME": "/golem/work/home"})).ready()
    result = await activity.shell('mkdir "$HOME" && cd && touch here && ls -A "$OLDPWD"/home')
    assert result["stdout"] == "here\n", result


@needs_bubblewrap
@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["bubblewrap"])
class TestBubblewrap:
    async def test_the_volume_lies_where_it_should(self, make_activity: MakeActivity) -> None:
        activity = await (await make_activity()).ready()
        result = await activity.shell("pwd; echo x > /golem/work/file; cat file; id -u; hostname")
        assert result["stdout"] == "/golem/work\nx\n0\ngolem\n", result

    async def test_the_host_cannot_be_changed(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        activity = await (await make_activity()).ready()
        package = Path(__file__).parents[4]
        for folder in ("/usr", "/etc", sys.prefix, os.fspath(package)):
            result = await activity.shell(f"touch {folder}/written-by-a-guest")
            assert result["result"] == "Error"
            assert not Path(folder, "written-by-a-guest").exists()

    async def test_settings_of_the_machine_cannot_be_changed(
        self, make_activity: MakeActivity
    ) -> None:
        activity = await (await make_activity()).ready()
        for name in ("kernel/core_pattern", "vm/swappiness"):
            result = await activity.shell(f"exec 3>>/proc/sys/{name}")  # open it, write nothing
            assert result["result"] == "Error", name

    async def test_nothing_of_the_host_s_temporary_files_is_seen(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("x")
        activity = await (await make_activity()).ready()
        other = await (await make_activity()).ready()
        assert (await activity.shell(f"cat {tmp_path}/secret"))["result"] == "Error"
        assert (await activity.shell(f"ls {tmp_path}/activities/1"))["result"] == "Error"
        assert (await activity.shell("touch /tmp/mine; ls -A /run"))["stdout"] is None
        assert "mine" not in ((await other.shell("ls -A /tmp"))["stdout"] or "")
        assert not Path("/tmp/mine").exists()

    async def test_processes_and_network_are_its_own(self, make_activity: MakeActivity) -> None:
        activity = await (await make_activity()).ready()
        result = await activity.shell(
            "ls /proc | grep -c '^[0-9]'; tail -n +3 /proc/net/dev | cut -d: -f1"
        )
        count, *devices = result["stdout"].split()
        assert int(count) < 10
        assert devices == ["lo"]

    @pytest.mark.parametrize(
        "program",
        [
            "import socket; socket.socket(40, socket.SOCK_STREAM)",  # AF_VSOCK
            "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
            "c.syscall(250, 0, -4, 1); raise OSError(ctypes.get_errno(), 'keyctl')",
        ],
    )
    async def test_the_machine_s_host_and_keys_are_out_of_reach(
        self, make_activity: MakeActivity, program: str
    ) -> None:
        if platform.machine() != "x86_64":
            pytest.skip("the numbers of calls are those of x86-64")
        activity = await (await make_activity()).ready()
        result = await activity.shell(f'python3 -c "{program}"')
        assert "PermissionError: [Errno 1]" in result["stderr"], result

    async def test_volumes_may_lie_among_the_host_s_folders(
        self, make_activity: MakeActivity
    ) -> None:
        volumes = ("/usr/share/of-the-guest/data", "/opt", "/golem/work")
        activity = await (await make_activity(volumes=volumes)).ready()
        result = await activity.shell(
            "touch /usr/share/of-the-guest/data/a /opt/b; "
            "ls -A /opt; ls -d /usr/share/*guest/data /usr/bin"
        )
        assert result["stdout"].split() == ["b", "/usr/bin", "/usr/share/of-the-guest/data"]

    async def test_files_outside_volumes_are_few(self, make_activity: MakeActivity) -> None:
        activity = await (await make_activity()).ready()
        result = await activity.shell("head -c 200000000 /dev/zero > /filler")
        assert result["result"] == "Error" and "space" in result["stderr"]


@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["process"])
async def test_a_working_dir_outside_every_volume(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(working_dir="/srv/app")).ready()
    result = await activity.shell("pwd")
    assert result["stdout"].endswith("/activities/0/root/srv/app\n")


@needs_bubblewrap
@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["bubblewrap"])
async def test_a_container_that_cannot_be_made_says_why(make_activity: MakeActivity) -> None:
    activity = await make_activity(volumes=("/etc/passwd/volume",))
    results = await activity.execute({"deploy": {}}, {"start": {}})
    assert results[1]["result"] == "Error"
    assert "the guest agent ended at its start: bwrap: " in results[1]["message"]


def image_root(folder: Path) -> Path:
    """An image with a program where the host has none, one among the host's, a link, a volume."""
    root = folder / "image"
    for name in ("golem/entrypoints/run.sh", "usr/sbin/of-the-image", "golem/work/hidden"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\necho $0\n")
        file.chmod(0o755)
    (root / "golem" / "empty").mkdir()
    (root / "golem" / "link").symlink_to("/golem/entrypoints")
    return root


@needs_bubblewrap
@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["bubblewrap"])
class TestImageRoot:
    async def test_its_files_lie_among_the_host_s(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        activity = await (await make_activity(root=image_root(tmp_path))).ready()
        result = await activity.shell(
            "/golem/link/run.sh; /usr/sbin/of-the-image; ls /golem /usr/bin/env"
        )
        assert result["stdout"].split() == [
            "/golem/link/run.sh",
            "/usr/sbin/of-the-image",
            "/usr/bin/env",
            *("/golem:", "empty", "entrypoints", "link", "work"),
        ], result

    async def test_volumes_start_empty_all_the_same(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        activity = await (await make_activity(root=image_root(tmp_path))).ready()
        assert (await activity.shell("ls -A /golem/work"))["stdout"] is None

    async def test_a_guest_can_change_its_copy_only(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        root = image_root(tmp_path)
        activity = await (await make_activity(root=root)).ready()
        result = await activity.shell(
            "rm /usr/sbin/of-the-image && echo x > /golem/entrypoints/run.sh && touch /golem/new; "
            "touch /run/image/x; rm -r /run/image/golem"
        )
        assert result["stderr"].count("Read-only file system") >= 2, result
        assert (root / "usr" / "sbin" / "of-the-image").exists()
        assert "echo $0" in (root / "golem" / "entrypoints" / "run.sh").read_text()
        assert not (root / "golem" / "new").exists()
        other = await (await make_activity(root=root)).ready()
        assert "of-the-image" in (await other.shell("/usr/sbin/of-the-image"))["stdout"]

    async def test_one_that_is_too_big_fails_at_the_start(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        root = image_root(tmp_path)
        with (root / "golem" / "huge").open("wb") as file:
            file.truncate(200 << 20)
        activity = await make_activity(root=root)
        deployed, started = await activity.execute({"deploy": {}}, {"start": {}})
        assert deployed["result"] == "Ok"
        assert started["result"] == "Error" and "No space left" in started["message"]


@pytest.mark.asyncio
@pytest.mark.parametrize("isolation", ["process"])
async def test_an_image_s_root_needs_bubblewrap(
    make_activity: MakeActivity, tmp_path: Path
) -> None:
    activity = await make_activity(root=image_root(tmp_path))
    _, started = await activity.execute({"deploy": {}}, {"start": {}})
    assert started["message"] == "Runtime error: an image with a root folder needs bubblewrap"
