"""Both ways of building, for real: with a Docker engine and without, the same file comes out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gvmi.assembly.docker_engine import why_no_engine

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]
PROGRAM = [sys.executable, "-c", "from gvmi.cli.main import main; main()"]


def build(way: str, target: Path) -> str:
    """Build the native image; returns its SHA3-224."""
    command = [*PROGRAM, "build", "native", "--with", way, "--no-lock", "--json"]
    done = subprocess.run(
        [*command, "--output", str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sha3 = json.loads(done.stdout)["sha3"]
    assert isinstance(sha3, str)
    return sha3


def test_docker_gives_the_same_image_and_it_passes_verify(tmp_path: Path) -> None:
    reason = why_no_engine()
    if reason is not None:
        pytest.skip(f"no Docker engine: {reason}")
    image = tmp_path / "docker.gvmi"
    sha3 = build("docker", image)
    done = subprocess.run(
        [*PROGRAM, "verify", str(image)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if shutil.which("bwrap") is None:
        pytest.skip("no bubblewrap to build the other way")
    assert build("bubblewrap", tmp_path / "bubblewrap.gvmi") == sha3
