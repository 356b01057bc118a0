"""No package index, no path of anybody's machine and no key stands in a tracked file."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "package index": re.compile(
        r"pypi\.(org|python)|pythonhosted\.|download\.pytorch\.|conda\.anaconda\.|--index-url\s+\S+:"
    ),
    "path of a machine": re.compile(
        rf"(?<![\w.$}}\])-])(/root|/home/\w+|/Users/\w+|{re.escape(str(ROOT))})/"
    ),
    "key": re.compile(
        r"BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
        r"|\bhf_[A-Za-z0-9]{30,}\b|\bsk-[A-Za-z0-9]{32,}\b"
    ),
}


def offences(text: str) -> list[str]:
    return [
        f"{what}: {found.group()}"
        for what, pattern in FORBIDDEN.items()
        for found in pattern.finditer(text)
    ]


def test_tracked_files_hold_none_of_it() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            text = path.read_bytes().decode(errors="replace")
            found += [f"{name}: {offence}" for offence in offences(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "pip install --index-url https://pypi.org/simple derl",
        f"open('{ROOT}/x')",
        "cd /root/project",
        "/home/anna/x",
        "-----BEGIN RSA PRIVATE KEY-----",
        "ghp_" + "a" * 36,
    ],
)
def test_the_check_sees(text: str) -> None:
    assert offences(text)


@pytest.mark.parametrize("text", ["/golem/work/model", "$HOME/work/x", "worker.sock", "a/root/b"])
def test_the_check_lets_pass(text: str) -> None:
    assert offences(text) == []
