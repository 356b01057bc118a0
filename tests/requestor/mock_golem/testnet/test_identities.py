"""Notes on identities, and where the program is looked for."""

import asyncio
import os
import select
import stat
import sys
from pathlib import Path

import pytest

from requestor.mock_golem.testnet.identities import (
    Identity,
    IdentityBook,
    IdentityError,
    IdentityMaker,
)
from requestor.mock_golem.testnet.yagna import YagnaError, find_yagna

WILLOW = Identity("willow", "0x" + "1" * 40, "0" * 32)


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_identities_are_remembered(tmp_path: Path) -> None:
    book = IdentityBook(tmp_path / "identities.json")
    assert book.missing(["alder", "willow"]) == ["alder", "willow"]
    book.providers["willow"] = WILLOW
    book.requestor_key = "k"
    book.save()

    again = IdentityBook(tmp_path / "identities.json")
    assert again.providers == {"willow": WILLOW}
    assert again.requestor_key == "k"
    assert again.missing(["alder", "willow"]) == ["alder"]
    # it holds keys
    assert stat.S_IMODE((tmp_path / "identities.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"providers": [{}]}', '{"providers": 3}'])
def test_damaged_notes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "identities.json"
    path.write_text(text)
    with pytest.raises(IdentityError, match=r"identities.json: cannot be read .*--state"):
        IdentityBook(path)


async def make(binary: Path) -> Identity:
    return await IdentityMaker(binary, {"PATH": "/usr/bin:/bin"}).create("willow")


@pytest.mark.asyncio
async def test_an_identity_is_made_by_the_daemons_own_program(tmp_path: Path) -> None:
    answer = '{ "Ok": { "alias": "willow", "nodeId": "%s" } }' % WILLOW.node_id  # noqa: UP031
    binary = program(
        tmp_path / "yagna",
        f"""case "$1 $2" in
          "id create") echo '{answer}';;
          "app-key create") test "$4" = {WILLOW.node_id} && echo {WILLOW.app_key};;
        esac""",
    )
    assert await make(binary) == WILLOW


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no database >&2; exit 1", "`yagna id create` failed: no database"),
        ("echo hello", "no identity for willow: 'hello"),
        ("""echo '{"Ok": {"nodeId": "0x1"}}'""", "no app key for willow"),
    ],
)
async def test_a_daemon_that_makes_no_identity(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        await make(program(tmp_path / "yagna", script))


def test_where_the_program_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, named, on_path = (tmp_path / name for name in ("beside", "named", "on_path"))
    for folder in (beside, named, on_path):
        folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    environment = {"PATH": str(on_path)}

    with pytest.raises(YagnaError, match=r"scripts/setup dev.*DERL_YAGNA="):
        find_yagna(environment)
    assert find_yagna({**environment, "DERL_YAGNA": str(program(named / "y", ":"))}) == named / "y"
    program(on_path / "yagna", ":")
    assert find_yagna(environment) == on_path / "yagna"
    program(beside / "yagna", ":")
    assert find_yagna(environment) == beside / "yagna"
    for wrong in (tmp_path / "nowhere", named):
        with pytest.raises(YagnaError, match="is no program"):
            find_yagna({**environment, "DERL_YAGNA": str(wrong)})


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"echo $$ > {note}.draft; mv {note}.draft {note}; exec sleep 1000"
    binary = program(tmp_path / "yagna", script)
    call = asyncio.ensure_future(make(binary))
    async with asyncio.timeout(20):
        while not note.exists():
            await asyncio.sleep(0.01)
    watched = os.pidfd_open(int(note.read_text()))
    try:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert select.select([watched], [], [], 20)[0]
    finally:
        os.close(watched)
