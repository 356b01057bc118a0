"""The Docker way where there is no engine: context, settings, what is said without one."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import installer
import pytest

from gvmi.assembly.container_recipe import MODULES
from gvmi.assembly.docker_engine import require_engine, why_no_engine
from gvmi.assembly.docker_way import DOCKERFILE, forget_the_container, mksquashfs_script
from gvmi.assembly.squashing import Squeeze, container_settings
from gvmi.errors import MachineUnfit
from gvmi.variants import ENVIRONMENT, WORK_VOLUME
from requestor.mock_golem.images.gvmi_file import read_gvmi, trailer

ROOT = Path(__file__).parents[3]


def test_the_dockerfile_sets_what_the_other_way_sets() -> None:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    last = text[text.index("AS image") :]
    variables = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    found = dict(word.split("=", 1) for line in variables for word in shlex.split(line))
    assert found == ENVIRONMENT
    assert re.findall(r"^VOLUME (.*)$", last, re.MULTILINE) == [json.dumps([WORK_VOLUME])]
    assert re.findall(r"^WORKDIR (.*)$", last, re.MULTILINE) == [WORK_VOLUME]


def test_the_recipe_needs_nothing_but_what_goes_into_the_context(tmp_path: Path) -> None:
    for name in MODULES:
        module = tmp_path / "gvmi" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_bytes((ROOT / f"gvmi/{name}.py").read_bytes())
    shutil.copytree(Path(installer.__file__).parent, tmp_path / "installer")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program += "; import gvmi.assembly.container_recipe"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_the_squashfs_is_left_no_choice_and_has_what_docker_blanks(tmp_path: Path) -> None:
    (tmp_path / "in/etc").mkdir(parents=True)
    for name in ("hostname", "hosts", "resolv.conf"):
        (tmp_path / "in/etc" / name).touch(0o755)
    script = mksquashfs_script(Squeeze("xz")).replace(
        "os.execv(", "(lambda path, words: print(path, *words))("
    )
    words = [sys.executable, "-", str(tmp_path / "in"), "out", "-comp", "lzo", "-info"]
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=True)
    command = done.stdout.split()
    assert command[:4] == ["/usr/bin/mksquashfs", "mksquashfs", str(tmp_path / "in"), "out"]
    assert command[command.index("-comp") + 1] == "xz"
    assert "lzo" not in command
    assert {"-all-root", "-no-xattrs", "-all-time", "-mkfs-time"} <= set(command)
    excluded = command[command.index("-e") + 1 :]
    assert ".dockerenv" in excluded
    assert not [name for name in excluded if name.startswith("-")]
    assert (tmp_path / "in/etc/hostname").read_text() == "golem\n"
    assert (tmp_path / "in/etc/hosts").stat().st_mode & 0o777 == 0o644


def test_settings_of_docker_become_those_of_the_other_way(tmp_path: Path) -> None:
    root, image = tmp_path / "root", tmp_path / "image"
    root.mkdir()
    (root / "file").write_text("content")
    subprocess.run(
        ["mksquashfs", root, image, "-comp", "xz", "-quiet", "-no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    squashfs = image.read_bytes()
    labels = {"derl.variant": "native", "b": "2", "a": "1"}
    dockers = {
        "Hostname": "fa20a177ab8a",
        "Env": [f"{name}={value}" for name, value in reversed(ENVIRONMENT.items())],
        "Cmd": ["/bin/sh"],
        "Image": "9355b0f5",
        "Volumes": {WORK_VOLUME: {}},
        "WorkingDir": WORK_VOLUME,
        "Labels": labels,
    }
    with image.open("ab") as file:
        file.write(trailer(json.dumps(dockers).encode()))
    forget_the_container(image)
    assert image.read_bytes() == squashfs + trailer(container_settings(labels))
    assert read_gvmi(image).settings.environment == ENVIRONMENT


def test_without_docker_the_other_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineUnfit, match="docker is not installed") as error:
        require_engine()
    assert "--with bubblewrap" in (error.value.fix or "")


def test_what_an_engine_that_is_away_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert why_no_engine() == "Cannot connect to the Docker daemon"
