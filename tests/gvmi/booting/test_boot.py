"""Real boots under QEMU, of an image that holds busybox alone and, where it is built, of ours."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gvmi.booting.kernel import provide_kernel
from requestor.mock_golem.images.gvmi_file import trailer

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-c", "from gvmi.cli.main import main; main()", "boot"]
NATIVE = ROOT / "build/images/derl-native.gvmi"
SETTINGS = {
    "Env": ["PATH=/bin", "GREETING=it's $HOME"],
    "WorkingDir": "/golem/work",
    "Volumes": {"/golem/work": {}},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of busybox, a shell, and files where a volume will be."""
    folder = tmp_path_factory.mktemp("tiny")
    root = folder / "root"
    (root / "golem/work").mkdir(parents=True)
    (root / "golem/work/hidden").write_text("of the image")
    (root / "bin").mkdir()
    shutil.copy(provide_kernel(lambda _: None).busybox, root / "bin/busybox")
    for name in ("sh", "ls", "cat", "dd", "hostname", "sleep", "id", "grep", "rm"):
        (root / "bin" / name).symlink_to("busybox")
    image = folder / "tiny.gvmi"
    subprocess.run(
        ["mksquashfs", root, image, "-comp", "lzo", "-noappend", "-all-root", "-quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with image.open("ab") as file:
        file.write(trailer(json.dumps(SETTINGS).encode()))
    return image


def boot(image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, str(image), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_command_has_the_surroundings_of_a_container_on_golem(tiny: Path) -> None:
    script = """
        echo "$GREETING"; pwd; hostname; id -u; echo "entries: $(ls -A)"
        echo new >file && cat file
        ls /sys/class/net; grep -c . /proc/net/route
        dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null || echo "root is full"
        rm /big
        dd if=/dev/zero of=big bs=1M count=200 2>/dev/null && echo "the volume is not"
        echo kept >/tmp/x && echo kept >/dev/shm/x && cat /tmp/x
        echo to errors >&2
        exit 7
    """
    done = boot(tiny, "--", "sh", "-c", script)
    assert done.stdout.splitlines() == [
        "it's $HOME",
        "/golem/work",
        "golem",
        "0",
        "entries: ",
        "new",
        "lo",
        "1",  # the heading alone: no route leads anywhere
        "root is full",
        "the volume is not",
        "kept",
    ], done.stderr
    assert "to errors" in done.stderr
    assert "exit code 7" in done.stderr
    assert done.returncode == 7


def test_much_output_comes_through_whole(tiny: Path) -> None:
    command = [*PROGRAM, str(tiny), "--", "cat", "/bin/busybox"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.stdout == provide_kernel(lambda _: None).busybox.read_bytes()


def test_a_program_that_is_not_there_is_said(tiny: Path) -> None:
    done = boot(tiny, "--", "python3")
    assert done.returncode == 127
    assert "python3" in done.stderr


def test_time_that_is_over_ends_it(tiny: Path) -> None:
    done = boot(tiny, "--timeout", "2", "--accel", "tcg", "--", "sleep", "1000")
    assert done.returncode == 124
    assert "not done after 2 s" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_boot_leaves_no_machine(tiny: Path, number: int) -> None:
    command = [*PROGRAM, str(tiny), "--accel", "tcg", "--", "sh", "-c", "echo here; sleep 1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    machines = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(machines) == 1
    watched = os.pidfd_open(int(machines[0]))
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert _is_gone(watched)


def _is_gone(process: int) -> bool:
    """Wait for the end of a process that is not ours (its descriptor becomes readable then)."""
    ready, _, _ = select.select([process], [], [], 10)
    os.close(process)
    return bool(ready)


@pytest.mark.parametrize("damage", ["truncated", "other content"])
def test_a_damaged_image_is_the_images_fault(tiny: Path, tmp_path: Path, damage: str) -> None:
    raw = bytearray(tiny.read_bytes())
    image = tmp_path / "bad.gvmi"
    if damage == "truncated":
        image.write_bytes(raw[:-20])
    else:
        raw[96:4096] = bytes(4000)  # tables are at the end, and compressed files at the beginning
        raw[-4096:-300] = bytes(3796)
        image.write_bytes(raw)
    done = boot(image, "--accel", "tcg", "--", "cat", "/bin/busybox")
    assert done.returncode != 0
    assert str(image) in done.stderr


@pytest.mark.skipif(not NATIVE.exists(), reason="derl-image build native has not been run")
def test_the_built_image_passes_its_self_test() -> None:
    done = boot(NATIVE)
    assert done.returncode == 0, done.stderr
