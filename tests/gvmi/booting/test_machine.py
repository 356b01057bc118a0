"""QEMU's command line and the script inside: nothing of an image is read as option or as shell."""

import os
import subprocess
from pathlib import Path

import pytest

from gvmi.booting.guest_init import PORTS, GuestTask, init_script
from gvmi.booting.machine import Machine, find_qemu, inherited, qemu_command, why_no_kvm
from gvmi.errors import MachineUnfit

MACHINE = Machine(
    kernel=Path("/k/vmlinuz"),
    initramfs=Path("/k/initramfs"),
    image=11,
    console=12,
    ports={name: 13 + number for number, name in enumerate(PORTS)},
    memory_mebibytes=512,
    processors=1,
)


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_the_command_gives_the_machine_what_it_needs_and_no_more() -> None:
    command = qemu_command("qemu", MACHINE, "tcg")
    assert value(command, "-kernel") == "/k/vmlinuz"
    assert value(command, "-m") == "512M"
    assert value(command, "-accel").startswith("tcg")
    assert value(command, "-cpu") == "max"
    assert "-nodefaults" in command  # no network, display or USB unless named
    assert not {"-nic", "-netdev", "-net", "-monitor", "-drive"} & set(command)
    assert value(command, "-sandbox").startswith("on")
    files = [command[i + 1] for i, word in enumerate(command) if word == "-add-fd"]
    assert files == ["fd=11,set=1", "fd=12,set=2", "fd=13,set=3", "fd=14,set=4", "fd=15,set=5"]
    assert value(command, "-blockdev").endswith("read-only=on,filename=/dev/fdset/1")
    assert inherited(MACHINE) == (11, 12, 13, 14, 15)


def test_kvm_has_the_processor_of_this_machine() -> None:
    command = qemu_command("qemu", MACHINE, "kvm")
    assert (value(command, "-accel"), value(command, "-cpu")) == ("kvm", "host")


def test_a_missing_qemu_is_said_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineUnfit, match="not installed") as error:
        find_qemu()
    assert "apt install qemu-system-x86" in (error.value.fix or "")


def test_a_device_that_is_no_kvm_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    assert why_no_kvm(tmp_path / "kvm") == f"there is no {tmp_path / 'kvm'}"
    (tmp_path / "kvm").touch()
    assert "makes no machine" in (why_no_kvm(tmp_path / "kvm") or "")


HOSTILE = "a'b\"; touch /hacked; $(touch /hacked) `touch /hacked` @COMMAND@\n\\"


def test_what_an_image_says_stays_text(tmp_path: Path) -> None:
    task = GuestTask(
        ["prog", HOSTILE],
        {"GOOD": HOSTILE, "B-AD": "1", "A": "2"},
        "/w" + HOSTILE,
        ["/v/inner", "/v" + HOSTILE, "/v"],
    )
    script = init_script(task, ["virtio", "squashfs"])
    assert subprocess.run(["sh", "-n"], input=script.encode(), check=True).returncode == 0
    # the script's own last command, with programs that print what they are given
    begin = script.index("for volume in")
    shown = script[begin : script.index("</dev/null")].replace("env -i", "printf '<%s>'")
    shown = "must() { printf '<%s>' \"$@\"; }\nhostname() { :; }\nip() { :; }\nroot=\n" + shown
    printed = subprocess.run(
        ["sh", "-c", shown], capture_output=True, check=True, cwd=tmp_path, env=dict(os.environ)
    ).stdout.decode()
    for text in (f"<GOOD={HOSTILE}>", "<A=2>", f"<prog><{HOSTILE}>", f"</w{HOSTILE}>"):
        assert text in printed
    assert "B-AD" not in printed
    assert printed.index("</v>") < printed.index("</v/inner>")
    assert not Path("/hacked").exists()


def test_the_upper_layer_is_as_small_as_on_golem() -> None:
    assert "size=128m" in init_script(GuestTask(["true"]), [])
