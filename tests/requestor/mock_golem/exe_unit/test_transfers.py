"""Files in and out of volumes, and every way that must not lead out of them."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.exe_unit.volumes import Location, PathNotFound, Volumes, open_source
from requestor.mock_golem.gftp import GftpServer

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity


def transfer(source: str, target: str) -> dict[str, Any]:
    return {"transfer": {"from": source, "to": target}}


@pytest.mark.asyncio
async def test_there_and_back(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    content = os.urandom(100_000)
    url, arrived = activity.receive()
    results = await activity.execute(
        transfer(activity.publish(content), "container:/golem/work/a/b/in put.bin"),
        {"run": {"entry_point": "/bin/cp", "args": ["a/b/in put.bin", "out"]}},
        transfer("container:/golem/work/out", url),
        transfer("container:/golem/work/a/b/in%20put.bin", "container:/golem/work/copy"),
    )
    assert [result["result"] for result in results] == ["Ok"] * 4, results
    assert results[0]["stdout"] is None
    assert arrived.read_bytes() == content
    assert (await activity.shell("cmp out copy"))["result"] == "Ok"


@pytest.mark.asyncio
async def test_an_empty_file_and_one_full_of_holes(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("touch empty; truncate -s 3G holes; printf end >> holes")
    for name, size in (("empty", 0), ("holes", (3 << 30) + 3)):
        url, arrived = activity.receive()
        (result,) = await activity.execute(transfer(f"container:/golem/work/{name}", url))
        assert result["result"] == "Ok"
        assert arrived.stat().st_size == size
        assert arrived.stat().st_blocks * 512 < 1 << 20


@pytest.mark.asyncio
async def test_paths_outside_volumes_do_not_exist(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    for path in (
        "/etc/passwd",
        "/golem/workshop/a",
        "/golem",
        "/golem/work/../../etc/passwd",
        "/golem/work/%2e%2e/%2e%2e/etc/passwd",
        "/golem/work/a/../b",
        "golem/work/a",
        "",
        "/golem/work/a%00b",
    ):
        url, arrived = activity.receive()
        for command in (
            transfer(f"container:{path}", url),
            transfer(activity.publish(b"x"), f"container:{path}"),
        ):
            (result,) = await activity.execute(command)
            assert result["result"] == "Error"
            assert result["message"].startswith(
                "Local service error: Transfer error: IO error: path not found in container: "
            ), path
        assert arrived.read_bytes() == b""


@pytest.mark.asyncio
async def test_what_must_not_be_sent(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    (activity.folder / "activities" / "0" / "secret").write_text("not for the requestor")
    for preparation in (
        "ln -s /etc/hostname source",
        "ln -s ../../../../../../../../etc/hostname source",
        "mkdir a; ln -s ../.. a/up; ln -s a/up/secret source",
        "ln -s source source",
        "ln -s one two; ln -s two one; ln -s one source",
        "ln -s . source",
        "mkdir source",
        "mkfifo source",
        "true",
    ):
        await activity.shell(f"rm -rf *; {preparation}")
        url, arrived = activity.receive()
        (result,) = await activity.execute(transfer("container:/golem/work/source", url))
        assert result["result"] == "Error", preparation
        assert "Transfer error: IO error: " in result["message"]
        assert arrived.read_bytes() == b""


@pytest.mark.asyncio
async def test_links_within_a_volume_are_followed(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("mkdir -p a/b; echo found > a/x; ln -s ../x a/b/up; ln -s a/b deep")
    url, arrived = activity.receive()
    (result,) = await activity.execute(transfer("container:/golem/work/deep/up", url))
    assert result["result"] == "Ok"
    assert arrived.read_text() == "found\n"


@pytest.mark.asyncio
async def test_what_comes_in_does_not_follow_links_out(
    make_activity: MakeActivity, tmp_path: Path
) -> None:
    activity = await (await make_activity()).ready()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    await activity.shell(f"ln -s {outside} folder; ln -s {outside}/file link")
    (refused,) = await activity.execute(
        transfer(activity.publish(b"evil"), "container:/golem/work/folder/file")
    )
    assert "path not found in container" in refused["message"]
    (replaced,) = await activity.execute(
        transfer(activity.publish(b"fine"), "container:/golem/work/link")
    )
    assert replaced["result"] == "Ok"
    assert (await activity.shell("cat link"))["stdout"] == "fine"
    assert (outside / "file").read_text() == "untouched"


@pytest.mark.asyncio
async def test_sources_that_cannot_be_had(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    for source, complaint in (
        ("ftp://example.com/file", "Unsupported scheme: ftp "),
        ("file:///etc/passwd", "Unsupported scheme: file "),
        ("nonsense", "URL parse error"),
        ("gftp://0x" + "00" * 20 + "/" + "ab" * 32, "gftp error: "),
        ("gftp://0x" + "00" * 20 + "/../lock", "gftp error: "),
    ):
        (result,) = await activity.execute(transfer(source, "container:/golem/work/file"))
        assert result["message"].startswith("Local service error: Transfer error: " + complaint)
    assert (await activity.shell("ls -A"))["stdout"] is None


@pytest.mark.asyncio
async def test_onto_a_folder(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("mkdir folder; touch plain")
    for target in ("/golem/work", "/golem/work/", "/golem/work/folder"):
        (result,) = await activity.execute(transfer(activity.publish(b"x"), f"container:{target}"))
        assert result["message"].endswith("IO error: Is a directory (os error 21)"), target
    (result,) = await activity.execute(
        transfer(activity.publish(b"x"), "container:/golem/work/plain/below")
    )
    assert result["message"].endswith("IO error: Not a directory (os error 20)")


@pytest.mark.asyncio
async def test_a_closed_url_cannot_be_had(
    make_activity: MakeActivity, gftp_server: GftpServer
) -> None:
    activity = await (await make_activity()).ready()
    url = activity.publish(b"once")
    gftp_server.close([url])
    (result,) = await activity.execute(transfer(url, "container:/golem/work/file"))
    assert "gftp error: " in result["message"]


names = st.text(st.sampled_from([*string.ascii_letters, ".", "-", " ", "é", "%"]), min_size=1)
plain_names = names.filter(lambda name: name not in (".", ".."))
volume_paths = st.lists(plain_names, min_size=1, max_size=3).map(lambda p: "/" + "/".join(p))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(volume_paths, min_size=1, max_size=4), st.lists(plain_names, max_size=3), st.data())
def test_the_longest_prefix_decides(
    tmp_path_factory: pytest.TempPathFactory,
    paths: set[str],
    below: list[str],
    data: st.DataObject,
) -> None:
    volumes = Volumes(tmp_path_factory.mktemp("volumes"))
    volumes.add(sorted(paths))
    folders = dict(volumes.items())
    path = "/".join([data.draw(st.sampled_from(sorted(paths))), *below])
    expected = max((p for p in paths if path == p or path.startswith(p + "/")), key=len)
    location = volumes.locate(path)
    assert location.root == folders[expected]
    assert "/".join((expected, *location.names)) == path


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.sampled_from("/.abé%\0 "), max_size=12))
def test_no_path_leads_out_of_its_volume(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    volumes = Volumes(tmp_path_factory.getbasetemp() / "unused" / os.urandom(8).hex())
    volumes.add(["/a", "/a/b"])
    try:
        location = volumes.locate(path)
    except FileNotFoundError:
        return
    resolved = Path(os.path.normpath(location.host_path))
    assert resolved == location.root or location.root in resolved.parents
    assert "\0" not in path


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["..", ".", "a", "link", "deep", "file"]), min_size=1, max_size=6))
def test_no_chain_of_links_leads_out_of_its_volume(
    tmp_path_factory: pytest.TempPathFactory, target: list[str]
) -> None:
    base = tmp_path_factory.mktemp("links")
    (base / "file").write_text("outside")
    root = base / "volume"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "a" / "file").write_text("inside")
    (root / "file").write_text("inside")
    (root / "link").symlink_to("a/deep/..")
    (root / "source").symlink_to("/".join(target))
    try:
        descriptor = open_source(Location("/v/source", root, ("source",)))
    except PathNotFound:
        return
    except OSError:
        assert not (root / "source").is_file(), "a file within the volume must be found"
        return
    with os.fdopen(descriptor) as file:
        assert file.read() == "inside"
