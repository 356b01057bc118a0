"""gftp is really started and asked; whatever stands in its place is told apart."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from requestor.marketplace.golem.daemon.gftp_probe import GftpError, gftp_version

pytestmark = pytest.mark.asyncio


class OpenMarket(Protocol):
    """Starts a daemon with a fleet (see conftest.py)."""

    async def __call__(self, providers: str, daemon_faults: str = "") -> Any:
        """Start it."""
        ...


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a gftp of the test's own is found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "gftp"


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_the_stand_in_of_the_mock(open_market: OpenMarket) -> None:
    await open_market("{name: oak}")
    assert (await gftp_version()).startswith("0.17.6")
    left = [one for one in psutil.Process().children(recursive=True) if "gftp" in one.name()]
    assert left == []


async def test_answers_as_the_real_one_writes_them(program: Path) -> None:
    write(
        program,
        'read line; case "$line" in *version*) ;; *) exit 1;; esac; [ "$1" = server ] || exit 1\n'
        """printf '{"jsonrpc":"2.0","id":"1","result":"0.17.3 (build 1)"}\\r\\n'; cat >/dev/null""",
    )
    assert await gftp_version() == "0.17.3 (build 1)"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "ends without a word"),
        ("echo hello", "does not answer as gftp does"),
        ("""echo '{"error": {"code": -1}}'""", "no version in its answer"),
        ("""echo '{"result": 7}'""", "no version in its answer"),
        ("""echo '[]'""", "no version in its answer"),
        ("head -c 200000 /dev/zero | tr '\\\\0' x", "does not answer as gftp does"),
    ],
)
async def test_what_is_no_gftp(program: Path, script: str, reason: str) -> None:
    write(program, script)
    with pytest.raises(GftpError, match=reason):
        await gftp_version()


async def test_silence_ends(program: Path) -> None:
    write(program, "exec tail -f /dev/null")
    started = time.monotonic()
    with pytest.raises(GftpError, match=r"does not answer within 0\.3 s"):
        await gftp_version(0.3)
    assert time.monotonic() - started < 5.0
    assert [one for one in psutil.Process().children() if one.name() == "tail"] == []


async def test_none_at_all_and_one_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GftpError, match="there is no `gftp` on PATH"):
        await gftp_version()
    write(tmp_path / "gftp", "")
    (tmp_path / "gftp").write_text("#!/nowhere/sh\n")
    with pytest.raises(GftpError, match="can't be started"):
        await gftp_version()
