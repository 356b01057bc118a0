"""What the README shows works as it is written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "requestor" / "mock_golem" / "README.md"


def code(language: str) -> str:
    """Return the README's only block of code in this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    return str(found)


def test_the_example_runs_as_written(tmp_path: Path) -> None:
    program = tmp_path / "hello.py"
    program.write_text(code("python"), encoding="utf-8")
    name, *arguments = shlex.split(code("sh"))
    assert name == "mock-golem"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YAGNA_")}
    environment["PYTHONPATH"] = str(ROOT)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "requestor.mock_golem", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert daemon.stdout is not None
    try:
        printed = ""
        while "export PATH=" not in printed:
            line = daemon.stdout.readline()
            assert line, daemon.communicate()
            printed += line
        run = subprocess.run(
            ["/bin/sh", "-c", printed + f"exec {shlex.quote(sys.executable)} hello.py"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=100,
            check=False,
        )
    finally:
        daemon.terminate()
        _, complaints = daemon.communicate(timeout=60)
    assert run.returncode == 0, (run.stderr, complaints)
    assert sorted(run.stdout.splitlines()) == ["hello 0", "hello 1", "hello 2"]
    assert "hoodi" in printed and "public" in printed, "what the example names"
