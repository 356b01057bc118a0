"""`mock-golem registry` as a program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.requestor.mock_golem.images.registry_client import ROOT, gvmi, registry_process, sha3


def registry(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "requestor.mock_golem", "registry", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*arguments: str, **environment: str) -> tuple[int, str]:
    program = registry(*arguments, **environment)
    _, err = program.communicate(timeout=60)
    return program.returncode, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_what_it_does_not_serve(
    tmp_path: Path, number: signal.Signals
) -> None:
    store = tmp_path / "new" / "store"
    store.mkdir(parents=True)
    image = gvmi(5000)
    (store / "derl-native.gvmi").write_bytes(image)
    (store / "bad.gvmi").write_bytes(b"x" * 5000)
    program = registry("--store", str(store))
    assert program.stdout is not None
    assert program.stdout.readline().startswith(f"# mock-golem serves 1 image of {store}")
    export = program.stdout.readline()
    assert export.startswith("export REGISTRY_URL=http://127.0.0.1:")
    url = export.strip().partition("=")[2]
    with urllib.request.urlopen(f"{url}/v1/image/info?hash={sha3(image)}") as answer:
        assert json.load(answer)["size"] == len(image)
    question = urllib.request.Request(f"{url}/download/{sha3(image)}.gvmi", method="HEAD")
    with urllib.request.urlopen(question) as answer:
        assert answer.headers["Content-Length"] == str(len(image))
    program.send_signal(number)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (0, "")
    assert (
        err
        == "mock-golem: bad.gvmi is not served: no squashfs image (it does not begin with `hsqs`)\n"
    )


def test_accounts_have_their_tokens_in_the_environment(tmp_path: Path) -> None:
    with registry_process(tmp_path, "--account", "me=MINE", MINE="t0ken") as url:

        def login(token: str) -> int:
            body = json.dumps({"username": "me", "password": token}).encode()
            try:
                with urllib.request.urlopen(f"{url}/auth/pat/login", data=body) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert (login("t0ken"), login("MINE"), login("")) == (200, 401, 401)
    code, err = ended("--store", str(tmp_path), "--account", "me=NOBODYS")
    assert code == 1 and "that variable is empty; export the token in it" in err


def test_what_cannot_be_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, err = ended("--store", str(tmp_path), "--port", port)
    assert code == 1 and "Choose another with --port" in err
    (tmp_path / "tags.json").write_text("[]")
    code, err = ended("--store", str(tmp_path))
    assert code == 1 and "tags.json: no map of tags to hashes; correct or remove it" in err
    (tmp_path / "file").write_text("")
    code, err = ended("--store", str(tmp_path / "file" / "store"))
    assert code == 1 and "Not a directory" in err
