"""The gftp stand-in: the program as requestors start it, and the folder exe-units look into."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.gftp import GftpError, GftpServer, GftpStore, main, write_launcher

NODE_ID = "0x" + "0f" * 20


class Client:
    """Talks to a `gftp server` found on PATH, started through the shell as requestors do."""

    def __init__(self, bin_directory: Path) -> None:
        self.process = subprocess.Popen(
            "exec gftp server",
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": f"{bin_directory}:/usr/bin:/bin"},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def send_line(self, line: bytes) -> Any:
        self.stdin.write(line + b"\n")
        self.stdin.flush()
        reply = self.stdout.readline()
        assert reply.endswith(b"\n") and not reply.endswith(b"\r\n")
        return json.loads(reply)

    def call(self, method: str, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": 7}
        reply = self.send_line(json.dumps(request).encode())
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
        return reply["result"]

    def end(self) -> None:
        self.stdin.close()
        self.process.wait(20)
        self.stdout.close()


@pytest.fixture
def store(tmp_path: Path) -> GftpStore:
    return GftpStore(tmp_path / "a store's folder")


@pytest.fixture
def start_client(tmp_path: Path, store: GftpStore) -> Iterator[Callable[[], Client]]:
    write_launcher(tmp_path / "bin", store.directory, NODE_ID)
    clients: list[Client] = []

    def start() -> Client:
        clients.append(Client(tmp_path / "bin"))
        return clients[-1]

    yield start
    for client in clients:
        client.end()


def test_version_and_shutdown(start_client: Callable[[], Client], store: GftpStore) -> None:
    client = start_client()
    version = client.call("version").split()[0]
    assert [int(part) for part in version.split(".")] >= [0, 7, 3]
    assert client.call("shutdown") == "ok"
    assert client.process.wait(20) == 0
    assert list(store.directory.iterdir()) == []


def test_published_content_has_the_name_of_its_hash(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client = start_client()
    file = tmp_path / "file"
    file.write_bytes(b"content")
    (link,) = client.call("publish", files=[str(file)])
    name = hashlib.sha3_256(b"content").hexdigest()
    assert link == {"file": str(file), "url": f"gftp://{NODE_ID}/{name}"}
    file.rename(tmp_path / "elsewhere")
    file.write_bytes(b"another file of that name")
    assert store.open_source(link["url"]).read_bytes() == b"content"
    (tmp_path / "elsewhere").unlink()
    assert store.open_source(link["url"]).read_bytes() == b"content"


def test_the_same_content_has_the_same_url_and_one_close_ends_it(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client, other = start_client(), start_client()
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_bytes(b"same")
    links = client.call("publish", files=[str(file) for file in files])
    assert links[0]["url"] == links[1]["url"]
    assert other.call("publish", files=[str(files[0])])[0]["url"] == links[0]["url"]
    assert client.call("close", urls=[links[0]["url"]]) == ["ok"]
    assert client.call("close", urls=[links[0]["url"], "nonsense"]) == ["error", "error"]
    assert store.open_source(links[0]["url"]).read_bytes() == b"same"
    assert other.call("close", urls=[links[0]["url"]]) == ["ok"]
    with pytest.raises(GftpError, match="not published"):
        store.open_source(links[0]["url"])


def test_publishing_again_takes_nothing_away_from_who_is_about_to_read(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client = start_client()
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_bytes(b"same")
    url = client.call("publish", files=[str(files[0])])[0]["url"]
    found = store.open_source(url)
    client.call("publish", files=[str(files[1])])
    files[1].unlink()
    assert found.read_bytes() == b"same"
    assert store.open_source(url).read_bytes() == b"same"


def test_publishing_again_heeds_what_became_of_the_file(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client = start_client()
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"same")
    new.write_bytes(b"same")
    url = client.call("publish", files=[str(old)])[0]["url"]
    old.write_bytes(b"another")
    client.call("publish", files=[str(new)])
    assert store.open_source(url).read_bytes() == b"same"


def test_publishing_again_and_again_keeps_no_more_files_open(
    start_client: Callable[[], Client], tmp_path: Path
) -> None:
    client = start_client()
    file = tmp_path / "file"
    file.write_bytes(b"model")
    for _ in range(5):
        client.call("publish", files=[str(file)])
    descriptors = [os.readlink(entry) for entry in Path(f"/proc/{client.process.pid}/fd").iterdir()]
    assert descriptors.count(str(file)) == 1


def test_receiving_creates_the_file_at_once(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client = start_client()
    target = tmp_path / "new" / "folders" / "file"
    link = client.call("receive", output_file=str(target))
    assert link["file"] == str(target)
    assert re.fullmatch(rf"gftp://{NODE_ID}/[A-Za-z0-9]{{65}}", link["url"])
    assert target.read_bytes() == b""
    assert store.destination(link["url"]) == target
    target.write_bytes(b"old")
    again = client.call("receive", output_file=str(target))
    assert target.read_bytes() == b""
    assert again["url"] != link["url"]


def test_two_requestors_share_a_store(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    first, second = start_client(), start_client()
    urls = [
        client.call("receive", output_file=str(tmp_path / name))["url"]
        for client, name in ((first, "one"), (second, "two"))
    ]
    assert [store.destination(url).name for url in urls] == ["one", "two"]
    first.call("shutdown")
    assert store.destination(urls[1]).name == "two"
    with pytest.raises(GftpError, match="no running gftp server"):
        store.destination(urls[0])


def test_what_a_killed_server_left_is_worth_nothing(
    start_client: Callable[[], Client], store: GftpStore, tmp_path: Path
) -> None:
    client = start_client()
    file = tmp_path / "file"
    file.write_bytes(b"content")
    source = client.call("publish", files=[str(file)])[0]["url"]
    target = client.call("receive", output_file=str(tmp_path / "out"))["url"]
    client.process.kill()
    client.process.wait(20)
    assert list(store.directory.iterdir()) != []
    with pytest.raises(GftpError):
        store.open_source(source)
    with pytest.raises(GftpError):
        store.destination(target)
    store.remove_dead_servers()
    assert list(store.directory.iterdir()) == []


def test_the_end_of_stdin_ends_it(start_client: Callable[[], Client], store: GftpStore) -> None:
    client = start_client()
    client.call("version")
    client.stdin.close()
    assert client.process.wait(20) == 0
    assert list(store.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", -32700),
        (b"\xff\xfe", -32700),
        (b"", -32700),
        (b"[]", -32600),
        (b'{"method": 1}', -32600),
        (b'{"method": "dance"}', -32601),
        (b'{"method": "publish"}', -32602),
        (b'{"method": "publish", "params": {"files": "a"}}', -32602),
        (b'{"method": "publish", "params": {"files": [1]}}', -32602),
        (b'{"method": "receive", "params": []}', -32602),
        (b'{"method": "receive", "params": {"output_file": ""}}', -32602),
        (b'{"method": "publish", "params": {"files": ["/no/such/file"]}}', -32000),
        (b'{"method": "publish", "params": {"files": ["/"]}}', -32000),
        (b'{"method": "publish", "params": {"files": ["a\\u0000b"]}}', -32000),
        (b'{"method": "receive", "params": {"output_file": "/dev/null/x"}}', -32000),
    ],
)
def test_bad_requests_are_answered(
    start_client: Callable[[], Client], line: bytes, code: int
) -> None:
    client = start_client()
    reply = client.send_line(line)
    assert reply["error"]["code"] == code and reply["error"]["message"]
    assert "result" not in reply
    assert client.call("version"), "it goes on after an error"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.text(),
        st.text(st.sampled_from("./ab\0")).map(lambda name: f"gftp://{NODE_ID}/{name}"),
        st.text(max_size=5).map(lambda node: f"gftp://{node}/{'a' * 65}"),
    )
)
def test_no_url_leads_anywhere_else(tmp_path_factory: pytest.TempPathFactory, url: str) -> None:
    folder = tmp_path_factory.mktemp("store")
    server = GftpServer(folder, NODE_ID)
    try:
        for look_up in (GftpStore(folder).open_source, GftpStore(folder).destination):
            with pytest.raises(GftpError):
                look_up(url)
    finally:
        server.shutdown()


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    assert main(["server"]) == 2
    assert "usage: gftp" in capsys.readouterr().err
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("gftp 0.17.6")


def test_it_starts_light(tmp_path: Path) -> None:
    launcher = write_launcher(tmp_path / "bin", tmp_path / "store")

    def cpu_seconds(*command: str | Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = [sys.executable, "-I", "-S", "-c", "pass"]
    costs = [(cpu_seconds(*bare), cpu_seconds(launcher, "server")) for _ in range(5)]
    python, gftp = (min(column) for column in zip(*costs, strict=True))
    assert gftp < 5 * python, "CPU seconds of a start; 2.5 times Python's where this was written"
