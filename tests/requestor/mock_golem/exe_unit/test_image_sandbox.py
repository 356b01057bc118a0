"""Activities in an image's own root: what they see and cannot reach, what is left of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio

from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit, IsolationError
from requestor.mock_golem.exe_unit.sandbox import devices_problem
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.images.gvmi_file import ImageError
from requestor.mock_golem.images.library import ALL_WAYS, ImageLibrary
from requestor.mock_golem.images.mounts import Way
from tests.requestor.mock_golem import tiny_image
from tests.requestor.mock_golem.exe_unit.conftest import marked_processes
from tests.requestor.mock_golem.tiny_image import needs_images

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import Activity, MakeActivity

pytestmark = [
    pytest.mark.asyncio,
    needs_images,
]
MIB = 1 << 20
HIDDEN = ("/work", "/root", "/home", "/usr/share", sys.prefix, os.fspath(Path(__file__).parents[4]))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image.build(tmp_path_factory.mktemp("image") / "tiny.gvmi")


@pytest.fixture
def isolation() -> str:
    return "bubblewrap"


@pytest_asyncio.fixture
async def ready(make_activity: MakeActivity, image: Path) -> Activity:
    activity: Activity = await (await make_activity(image=image)).ready()
    return activity


class TestWhatIsSeen:
    async def test_settings_are_the_trailer_s(self, ready: Activity) -> None:
        result = await ready.shell("echo $OF_THE_IMAGE; pwd; id -u; cat /etc/hostname")
        assert result["stdout"] == "yes\n/golem/work\n0\ngolem\n", result

    async def test_deploy_names_the_trailer_s_volumes(
        self, make_activity: MakeActivity, image: Path
    ) -> None:
        activity = await make_activity(image=image)
        (deployed,) = await activity.execute({"deploy": {"volumes": ["/golem/more"]}})
        paths = [one["path"] for one in json.loads(deployed["stdout"])["vols"]]
        assert paths == ["/golem/more", "/golem/other", "/golem/work"]

    async def test_volumes_start_empty_and_take_files(self, ready: Activity) -> None:
        assert (await ready.shell("ls -A /golem/work /golem/other"))["stdout"].split() == [
            "/golem/other:",
            "/golem/work:",
        ]
        url, arrived = ready.receive()
        results = await ready.execute(
            {"transfer": {"from": ready.publish(b"abc"), "to": "container:/golem/work/deep/in"}},
            {"transfer": {"from": "container:/golem/work/deep/in", "to": url}},
        )
        assert [one["result"] for one in results] == ["Ok", "Ok"], results
        assert arrived.read_bytes() == b"abc"

    @pytest.mark.parametrize("path", ["/etc/passwd", "/tmp/x", "/golem/x"])
    async def test_nothing_is_transferred_outside_volumes(self, ready: Activity, path: str) -> None:
        (result,) = await ready.execute(
            {"transfer": {"from": ready.publish(b"abc"), "to": f"container:{path}"}}
        )
        assert result["message"].endswith(f"IO error: path not found in container: {path}")

    async def test_programs_are_found_by_their_whole_paths_only(self, ready: Activity) -> None:
        for entry_point in ("sh", "/usr/bin/python3"):
            (result,) = await ready.execute({"run": {"entry_point": entry_point, "args": []}})
            assert result["message"] == "Runtime error: No such file or directory (os error 2)"

    async def test_commands_run_as_the_image_s_user(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        image = tiny_image.build(tmp_path / "user.gvmi", User="worker")
        activity = await make_activity(image=image)
        _, started = await activity.execute({"deploy": {}}, {"start": {}})
        if os.geteuid() != 0:
            pytest.skip("only root can be somebody else")
        assert started["result"] == "Ok", started
        result = await activity.shell("id -u; id -G; touch /golem/work/mine && echo written")
        assert result["stdout"] == "1234\n1235 77\nwritten\n", result
        assert (await activity.shell("touch /mine"))["result"] == "Error"

    async def test_a_user_whom_the_image_does_not_know(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        image = tiny_image.build(tmp_path / "user.gvmi", User="nobody-knows")
        activity = await make_activity(image=image)
        _, started = await activity.execute({"deploy": {}}, {"start": {}})
        assert "the image's User is nobody-knows" in started["message"]


class TestWhatIsOutOfReach:
    async def test_there_is_no_network(self, ready: Activity) -> None:
        result = await ready.shell("cat /proc/net/route; cat /proc/net/dev")
        routes, *devices = result["stdout"].splitlines()
        assert routes.startswith("Iface") and [one.split(":")[0].strip() for one in devices][
            2:
        ] == ["lo"]

    async def test_the_machine_s_loopback_is_another(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("there is no `bash` on PATH")
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connect = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        subprocess.run([bash, "-c", connect], check=True)
        image = tiny_image.build(
            tmp_path / "bash.gvmi", lambda root: tiny_image.add_program(root, "bash")
        )
        activity = await (await make_activity(image=image)).ready()
        run = {"entry_point": "/bin/bash", "args": ["-c", connect]}
        (result,) = await activity.execute({"run": run})
        server.close()
        assert result["result"] == "Error"

    async def test_no_file_of_the_machine_is_seen(self, ready: Activity, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        canary.write_text("x")
        for path in (*HIDDEN, os.fspath(canary), os.fspath(ready.folder)):
            result = await ready.shell(f"ls {path}")
            assert result["result"] == "Error" and "No such file" in result["stderr"], path
        seen = (await ready.shell("cat /proc/self/mountinfo"))["stdout"]
        places = {line.split()[4] for line in seen.splitlines()}
        known = {"/", "/tmp", "/golem/work", "/golem/other"}
        assert {one for one in places if not one.startswith(("/proc", "/dev"))} == known, places
        top = set((await ready.shell("ls -A /"))["stdout"].split())
        assert top <= {"bin", "dev", "etc", "golem", "lib", "lib64", "opt", "proc", "tmp", "usr"}

    async def test_there_is_no_way_back(self, ready: Activity) -> None:
        tries = (
            "ls /proc/1/root/",
            "ls /proc/1/cwd/",
            "ls -lL /proc/1/fd/1",
            "echo x > /proc/1/fd/1",
            "cat /proc/1/exe",
            "head -c 1 /proc/1/mem",
            "chroot /proc/1/root /bin/sh -c id",
            "mkdir /x && chroot /x /bin/sh",
            "mount -t tmpfs none /opt",
            "mount -t proc none /opt",
            "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
        )
        for script in tries:
            result = await ready.shell(f"{script}; test $? = 0 && echo open")
            assert "open" not in (result["stdout"] or ""), (script, result)

    async def test_a_virtual_network_s_device_comes_without_rights_to_make_more(
        self, make_activity: MakeActivity, image: Path
    ) -> None:
        if devices_problem("bubblewrap") is not None:
            pytest.skip(str(devices_problem("bubblewrap")))
        activity = await make_activity(image=image)
        net = {"id": "n", "ip": "192.168.7.0", "mask": "255.255.255.0", "nodeIp": "192.168.7.2"}
        results = await activity.execute({"deploy": {"net": [net]}}, {"start": {}})
        assert results[-1]["result"] == "Ok", results
        result = await activity.shell("cat /proc/net/dev /proc/net/route /proc/self/status")
        assert "vpn0:" in result["stdout"] and "vpn0\t0007A8C0" in result["stdout"]
        assert "CapEff:\t00000000000004fb" in result["stdout"]

    async def test_rights_are_few_and_none_can_come_back(self, ready: Activity) -> None:
        status = (await ready.shell("cat /proc/self/status"))["stdout"]
        found = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
        # chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service
        expected = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10))
        assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {expected}
        assert found["NoNewPrivs"] == "1" and int(found["CapAmb"], 16) == 0

    async def test_hostile_links_of_an_image_lead_nowhere(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        victim = tmp_path / "victim"
        (victim / "etc").mkdir(parents=True)

        def furnish(root: Path) -> None:
            shutil.rmtree(root / "golem")
            (root / "golem").symlink_to(victim)
            shutil.rmtree(root / "opt")
            (root / "opt").symlink_to("../../../../../.." + os.fspath(victim))
            (root / "etc" / "hosts").symlink_to(victim / "hosts")

        image = tiny_image.build(
            tmp_path / "links.gvmi", furnish, Volumes={"/golem/work": {}, "/opt/v": {}}
        )
        activity = await make_activity(image=image)
        await activity.execute({"deploy": {}}, {"start": {}})
        assert sorted(os.listdir(victim)) == ["etc"] and os.listdir(victim / "etc") == []

    async def test_volumes_cannot_hide_what_a_container_needs(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        image = tiny_image.build(tmp_path / "proc.gvmi", Volumes={"/proc/x": {}})
        activity = await make_activity(image=image)
        _, started = await activity.execute({"deploy": {}}, {"start": {}})
        assert started["message"] == "Runtime error: /proc/x cannot be a volume"

    async def test_pipes_in_place_of_lists_do_not_hold_it_up(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        def furnish(root: Path) -> None:
            for name in ("passwd", "group", "hosts"):
                (root / "etc" / name).unlink(missing_ok=True)
                os.mkfifo(root / "etc" / name)

        image = tiny_image.build(tmp_path / "pipes.gvmi", furnish)
        activity = await (await make_activity(image=image)).ready()
        assert (await activity.shell("cat /etc/hosts"))["stdout"].startswith("127.0.0.1")

    async def test_a_working_dir_that_is_a_file(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        image = tiny_image.build(tmp_path / "file.gvmi", WorkingDir="/bin/sh")
        activity = await make_activity(image=image)
        _, started = await activity.execute({"deploy": {}}, {"start": {}})
        assert started["message"].endswith(
            "the image cannot be entered: [Errno 17] File exists: '/bin/sh'"
        )


    async def test_calls_that_no_namespace_keeps_apart_are_filtered(self, ready: Activity) -> None:
        """tests/…/test_sandbox.py makes such calls; the filter is the same."""
        result = await ready.shell("cat /proc/self/status")
        assert "Seccomp:\t2" in result["stdout"], result


class TestWhatIsWritten:
    async def test_the_root_takes_as_much_as_a_vm_s(self, ready: Activity) -> None:
        assert (await ready.shell("head -c 100000000 /dev/zero > /most"))["result"] == "Ok"
        result = await ready.shell("head -c 100000000 /dev/zero > /rest")
        assert result["result"] == "Error" and "No space left" in result["stderr"]
        total = (await ready.shell("df -k /"))["stdout"].split("\n")[1].split()[1]
        assert int(total) * 1024 == 128 * MIB

    async def test_the_next_activity_sees_nothing_of_it(
        self, make_activity: MakeActivity, image: Path
    ) -> None:
        before = hashlib.sha256(image.read_bytes()).digest()
        first = await (await make_activity(image=image)).ready()
        await first.shell("echo x > /new; echo x > /etc/passwd; echo x > /bin/cat; touch /tmp/y")
        second = await (await make_activity(image=image)).ready()
        result = await second.shell("ls -A / /tmp; cat /etc/passwd")
        assert "new" not in result["stdout"].split() and "y" not in result["stdout"].split()
        assert "worker" in result["stdout"]
        assert hashlib.sha256(image.read_bytes()).digest() == before

    @pytest.mark.parametrize(
        "script",
        [
            "head -c 90000000 /dev/zero > /big",
            "head -c 90000000 /dev/zero > /dev/big",
            "n=0; while test $n -lt 70000; do : > /tmp/$n; n=$((n + 1)); done",
        ],
    )
    async def test_files_in_memory_count_as_memory(
        self, make_activity: MakeActivity, image: Path, script: str
    ) -> None:
        activity = await (await make_activity(image=image, memory_bytes=64 * MIB)).ready()
        activity.begin(
            {"run": {"entry_point": "/bin/sh", "args": ["-c", f"{script}; exec sleep 1000"]}}
        )
        async with asyncio.timeout(60):
            await activity.unit.wait_gone()
        assert activity.unit.reason == "OutOfMemory"


class TestLife:
    async def test_ports_of_a_program_inside_can_be_reached(self, ready: Activity) -> None:
        with pytest.raises(ConnectionRefusedError):  # of the activity's own loopback
            await ready.unit.connect("network", 7)

    @pytest.mark.parametrize("way", ["squashfuse"])
    async def test_a_mount_whose_server_was_killed_is_made_anew(
        self, tmp_path: Path, image: Path, way: Way
    ) -> None:
        library = ImageLibrary(tmp_path / "library", (way,))
        try:
            first = await library.mount(image)
        except ImageError as error:
            pytest.skip(str(error))
        keeper = psutil.Process(int(first.starter[1].partition("=")[2]))
        keeper.children()[0].kill()
        async with asyncio.timeout(60):
            while (await library.mount(image)) is first:
                await asyncio.sleep(0.01)
        await library.close()

    async def test_a_reset_activity_starts_anew(self, ready: Activity) -> None:
        await ready.shell("echo x > /golem/work/x; echo x > /x")
        await ready.execute({"terminate": {}})
        await ready.ready()
        assert (await ready.shell("ls -A /golem/work"))["stdout"] is None
        assert (await ready.shell("cat /x"))["result"] == "Error"

    async def test_two_activities_share_a_mount(self, tmp_path: Path, image: Path) -> None:
        library = ImageLibrary(tmp_path / "library")
        seen = set()
        for name in ("one", "two"):
            spec = ContainerSpec(tmp_path / name, image=image)
            unit = ExeUnit(spec, GftpStore(tmp_path), lambda name: CommandFaults(), library=library)
            await unit.initialize()
            unit.execute("b", [{"deploy": {}}, {"start": {}}])
            results = await unit.results("b", 60.0, command_index=1)
            assert results[-1]["result"] == "Ok", results
            seen.add((await library.mount(image)).starter)
            await unit.terminate()
        await library.close()
        assert len(seen) == 1
        assert len(os.listdir(tmp_path / "library")) <= 1

    async def test_nothing_but_bubblewrap_will_do(
        self, make_activity: MakeActivity, image: Path
    ) -> None:
        with pytest.raises(IsolationError, match="an image's own root needs bubblewrap"):
            await make_activity(image=image, isolation="process")

    async def test_what_is_no_image_is_refused_by_name(
        self, make_activity: MakeActivity, tmp_path: Path
    ) -> None:
        (tmp_path / "no.gvmi").write_bytes(b"hsqs" + bytes(2000))
        activity = await make_activity(image=tmp_path / "no.gvmi")
        (deployed,) = await activity.execute({"deploy": {}})
        assert deployed["result"] == "Error"
        assert deployed["message"].startswith(f"Runtime error: {tmp_path / 'no.gvmi'}: ")
        (started,) = await activity.execute({"start": {}})  # nor is it started without its image
        assert started["result"] == "Error" and "its deploy has failed" in started["message"]

    @pytest.mark.parametrize("way", ALL_WAYS)
    async def test_nothing_survives_kill_9_of_the_daemon(
        self, tmp_path: Path, image: Path, way: Way
    ) -> None:
        problem = await way_problem(tmp_path / "probe", image, way)
        if problem is not None:
            pytest.skip(problem)
        marker = os.urandom(8).hex()
        arguments = json.dumps([os.fspath(tmp_path), os.fspath(image), marker, way])
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, arguments], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "running\n"
        assert marked_processes(marker) and holders_of(tmp_path)
        holder.kill()
        holder.wait()
        holder.stdout.close()
        await eventually(lambda: not marked_processes(marker) and not holders_of(tmp_path))
        assert os.fspath(tmp_path) not in Path("/proc/self/mountinfo").read_text()
        await eventually(lambda: os.fspath(image) not in loop_devices())


HOLDER = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit
    from requestor.mock_golem.gftp import GftpStore
    from requestor.mock_golem.images.library import ImageLibrary

    async def main():
        folder, image, marker, way = json.loads(sys.argv[1])
        spec = ContainerSpec(Path(folder) / "activity", image=Path(image),
                             environment={"MARKER": marker})
        unit = ExeUnit(spec, GftpStore(Path(folder)), lambda name: CommandFaults(),
                       library=ImageLibrary(Path(folder) / "library", (way,)))
        await unit.initialize()
        run = {"entry_point": "/bin/sh", "args": ["-c", "sleep 1000 & echo; exec sleep 1000"],
               "capture": {"stdout": {"stream": {}}}}
        unit.execute("b", [{"deploy": {}}, {"start": {}}, {"run": run}])
        async for event in unit.events("b"):
            if "stdout" in event["kind"] and event["index"] == 2:
                print("running", flush=True)

    asyncio.run(main())
    """
)


async def way_problem(folder: Path, image: Path, way: Way) -> str | None:
    """Why images cannot be mounted in this way here."""
    library = ImageLibrary(folder, (way,))
    try:
        await library.mount(image)
    except Exception as error:
        return str(error)
    finally:
        await library.close()
    return None


def holders_of(folder: Path) -> list[str]:
    """Processes that are told of the folder: keepers, `squashfuse`, bubblewraps."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder / "library") in words or os.fsencode(folder / "activity") in words:
            found.append(name)
    return found


def loop_devices() -> list[str]:
    """The files that loop devices show."""
    found = []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it ends just now
            found.append(device.read_text().strip())
    return found


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
