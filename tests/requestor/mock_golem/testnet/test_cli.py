"""`mock-golem testnet` as a program: what it says when it cannot run, and what it never loads."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
FLEET = "providers: [{name: willow}]"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a fleet file until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "requestor.mock_golem", "testnet", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet file."""
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_a_program_that_is_not_there(tmp_path: Path, fleet: Path) -> None:
    nowhere = str(tmp_path / "yagna")
    done = run("--fleet", str(fleet), "--json", DERL_YAGNA=nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    said = f"DERL_YAGNA={nowhere} is no program; name yagna's or unset it"
    assert done.stderr == f"mock-golem: {said}\n"


def test_a_program_that_is_not_yagna(tmp_path: Path, fleet: Path) -> None:
    program = tmp_path / "yagna"
    program.write_text("#!/bin/sh\necho no space left on device >&2\nexit 3\n")
    program.chmod(0o755)
    done = run("--fleet", str(fleet), "--json", DERL_YAGNA=str(program))
    assert (done.returncode, done.stdout) == (1, "")
    assert "yagna does not start: it ended with code 3\n" in done.stderr
    assert "no space left on device" in done.stderr


def test_a_state_folder_in_use(tmp_path: Path, fleet: Path) -> None:
    sleeper = tmp_path / "yagna"
    sleeper.write_text("#!/bin/sh\nexec sleep 1000\n")
    sleeper.chmod(0o755)
    state = tmp_path / "state"
    command = [sys.executable, "-m", "requestor.mock_golem", "testnet", "--stop-on-stdin-eof"]
    command += ["--fleet", str(fleet), "--state", str(state)]
    first = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, env={**os.environ, "DERL_YAGNA": str(sleeper)}
    )
    try:
        journal = state / "chain" / "journal.jsonl"
        while not (journal.exists() and journal.read_text()):
            assert first.poll() is None
            time.sleep(0.02)
        done = run("--fleet", str(fleet), "--state", str(state), DERL_YAGNA=str(sleeper))
        assert done.returncode == 1
        assert "another mock-golem uses this state directory" in done.stderr
        # told to stop while its daemon has not answered yet
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(timeout=60) == 0
    finally:
        first.kill()
        first.wait()


def test_the_mock_loads_nothing_of_it() -> None:
    script = """
import sys
from click.testing import CliRunner
from requestor.mock_golem.cli import main
CliRunner().invoke(main, ["serve", "--fleet", "/nonexistent"])
CliRunner().invoke(main, ["testnet", "--help"])
roots = ("requestor.mock_golem.testnet", "eth_account", "eth_abi", "flatbuffers")
print([name for name in sys.modules if name.startswith(roots)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
