"""`derl-image push` with the real gvmkit-build, to the mock's registry."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler

from gvmi.errors import MachineUnfit
from gvmi.gvmkit_program import find_gvmkit_build
from gvmi.image_lock import LockedImage, read_lock, write_locked
from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.images.registry import RegistryApi
from requestor.mock_golem.images.registry_push import PushApi
from requestor.mock_golem.images.store import ImageStore
from tests.requestor.mock_golem.images.registry_client import gvmi, sha3

try:
    find_gvmkit_build()
except MachineUnfit as error:
    pytest.skip(str(error), allow_module_level=True)

ROOT = Path(__file__).parents[3]
TOKEN = "t0ken-of-mine"
IMAGE = gvmi(15 << 20)
CHUNKS = 8  # of 2 MiB
TAG = "me/derl:native"


Answer = Awaitable[web.StreamResponse]


class Registry:
    """A registry that does as a test says: `before` sees every request first."""

    def __init__(self, store: Path) -> None:
        store.mkdir()
        self.store = ImageStore(store)
        self.url = ""
        self.seen: list[str] = []
        self.taken = 0
        self._changed = asyncio.Condition()
        self.before: Callable[[web.Request], Answer | None] = lambda request: None
        self._api = RegistryApi(store=self.store, push=PushApi(self.store, {"me": TOKEN}))

    async def start(self) -> web.AppRunner:
        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.seen.append(request.path.rpartition("/")[2])
            found = self.before(request)
            if found is not None:
                return await found
            try:
                answer = await handler(request)
                await self._took(request)
                return answer
            except Refusal as refusal:
                return refusal.response()

        app = web.Application(middlewares=[handle])
        app.add_routes(self._api.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _took(self, request: web.Request) -> None:
        async with self._changed:
            self.taken += request.path.endswith("/chunk")
            self._changed.notify_all()

    async def until_taken(self, count: int) -> None:
        """Wait until so many chunks are there."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.taken >= count)

    @property
    def chunks(self) -> int:
        """How many chunks were sent."""
        return self.seen.count("chunk")


@pytest_asyncio.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    found = Registry(tmp_path / "store")
    runner = await found.start()
    yield found
    await runner.cleanup()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "derl-native.gvmi"
    path.write_bytes(IMAGE)
    return path


class Push:
    """`derl-image push` as a program."""

    def __init__(self, image: Path, registry: Registry) -> None:
        self.image, self.registry = image, registry
        self.scratch = image.parents[1] / "scratch"
        self.scratch.mkdir()
        self.lock = image.parents[1] / "image.lock.yaml"

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        variables = {
            "REGISTRY_URL": self.registry.url,
            "REGISTRY_USER": "me",
            "REGISTRY_TOKEN": TOKEN,
            "TMPDIR": str(self.scratch),
            "PYTHONPATH": str(ROOT),
        }
        program = "from gvmi.cli.main import main; main()"
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "push", "--lock-file", str(self.lock), *arguments),
            cwd=self.image.parents[1],
            env={**os.environ, **variables, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # what a shell starts in the background ignores Ctrl-C, and so would its children
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    async def end(self, process: asyncio.subprocess.Process) -> tuple[int, str, str]:
        out, err = await process.communicate()
        assert TOKEN.encode() not in out + err
        assert not list(self.scratch.iterdir()), "something is left behind"
        assert [path.name for path in self.image.parent.iterdir()] == [self.image.name]
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        given = arguments or (str(self.image), TAG)
        return await self.end(await self.start(*given, **environment))


@pytest.fixture
def push(image: Path, registry: Registry) -> Push:
    return Push(image, registry)


def locked(content: bytes) -> LockedImage:
    return LockedImage("native", sha3(content), len(content), "0" * 64, "abc")


pytestmark = pytest.mark.asyncio


async def test_a_push_with_a_tag(push: Push, registry: Registry) -> None:
    write_locked(locked(IMAGE), push.lock)
    code, out, err = await push()
    assert code == 0, err
    assert registry.store.tags() == {TAG: sha3(IMAGE)}
    assert registry.store.find(sha3(IMAGE)).path.read_bytes() == IMAGE
    assert registry.chunks == CHUNKS
    assert f"{TAG} is {sha3(IMAGE)}, as it should be" in out
    assert "golem.image: lock:native" in out and f"golem.image: {sha3(IMAGE)}" in out
    assert f"golem.registry_url: {registry.url}" in out
    assert "successfully logged in" in err and "warning" not in err
    assert read_lock(push.lock)["native"].tag == TAG

    registry.seen.clear()
    code, out, _ = await push("--json", str(push.image), "me/derl:again")
    assert code == 0 and registry.chunks == 0
    assert json.loads(out) | {"seconds": 0} == {
        "sha3": sha3(IMAGE),
        "size_bytes": len(IMAGE),
        "tag": "me/derl:again",
        "registry_url": registry.url,
        "variant": "native",
        "seconds": 0,
    }


async def test_a_push_without_an_account(push: Push, registry: Registry) -> None:
    write_locked(locked(gvmi(10)), push.lock)
    code, out, err = await push("--nologin", str(push.image), REGISTRY_TOKEN="", REGISTRY_USER="")
    assert code == 0, err
    assert "login" not in registry.seen and registry.store.tags() == {}
    assert registry.store.find(sha3(IMAGE)).size_bytes == len(IMAGE)
    assert "is not the image of any variant in image.lock.yaml" in err
    assert "lock:" not in out and f"golem.image: {sha3(IMAGE)}" in out
    assert read_lock(push.lock)["native"].tag is None


async def test_a_registry_that_dies_in_the_middle(push: Push, registry: Registry) -> None:
    async def death(request: web.Request) -> web.StreamResponse:
        await registry.until_taken(3)
        if request.transport is not None:
            request.transport.abort()
        return await never()

    def dies(request: web.Request) -> Answer | None:
        return death(request) if registry.chunks > 3 else None

    registry.before = dies
    code, _, err = await push()
    assert code == 6 and "sends only what is missing" in err
    assert registry.store.tags() == {}

    registry.before = lambda request: None
    registry.seen.clear()
    code, _, err = await push()
    assert code == 0, err
    assert registry.chunks == CHUNKS - 3
    assert registry.store.tags() == {TAG: sha3(IMAGE)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_push(push: Push, registry: Registry, number: signal.Signals) -> None:
    waiting = asyncio.Event()

    async def hang() -> web.StreamResponse:
        await registry.until_taken(3)
        waiting.set()
        return await never()

    def hangs(request: web.Request) -> Answer | None:
        return hang() if registry.chunks > 3 and request.path.endswith("/chunk") else None

    registry.before = hangs
    process = await push.start(str(push.image), TAG)
    await waiting.wait()
    children = psutil.Process(process.pid).children(recursive=True)
    assert [child.name() for child in children] == ["gvmkit-build"]
    process.send_signal(number)
    code, _, err = await push.end(process)
    assert code == 130 and "goes on and sends only what is missing" in err
    assert not any(child.is_running() for child in children)

    registry.before = lambda request: None
    registry.seen.clear()
    assert (await push())[0] == 0
    assert registry.chunks == CHUNKS - 3


async def test_progress_is_told(push: Push, registry: Registry) -> None:
    asked = asyncio.Event()
    hold = asyncio.Event()

    def slow(request: web.Request) -> Answer | None:
        if request.path.endswith("/chunk") and registry.chunks > 2:
            return held(request)
        if registry.taken == 2 and request.method == "GET":
            asked.set()
        return None

    async def held(request: web.Request) -> web.StreamResponse:
        await hold.wait()
        return web.Response(status=503)

    registry.before = slow
    process = await push.start(str(push.image), TAG)
    await asked.wait()
    hold.set()
    _, _, err = await push.end(process)
    assert f"2 of {CHUNKS} chunks are there" in err


class TestRefusals:
    async def test_a_wrong_token(self, push: Push, registry: Registry) -> None:
        def echoes(request: web.Request) -> Answer | None:
            return answer(401, f"no account with the token {TOKEN}")

        registry.before = echoes
        code, _, err = await push()
        assert code == 6 and "does not take REGISTRY_USER with REGISTRY_TOKEN" in err
        assert "the token <redacted>" in err and "fix: check both" in err

    async def test_somebody_else_s_repository(self, push: Push, registry: Registry) -> None:
        code, _, err = await push(str(push.image), "golem/derl:v1")
        assert code == 6 and "does not take the tag golem/derl:v1" in err
        assert "me may not name images of golem" in err
        assert registry.chunks == 0

    async def test_a_registry_that_is_away(self, push: Push) -> None:
        code, _, err = await push(str(push.image), TAG, REGISTRY_URL="http://127.0.0.1:1")
        assert code == 6 and "http://127.0.0.1:1 does not answer" in err and "fix: look at" in err

    async def test_an_answer_that_is_none(self, push: Push, registry: Registry) -> None:
        registry.before = lambda request: answer(200, "<html>\x1b[2J" + "x" * 100_000)
        code, _, err = await push()
        assert code == 6 and "gvmkit-build failed" in err and "\x1b" not in err
        assert max(map(len, err.splitlines())) < 700

    async def test_another_image_under_the_tag(self, push: Push, registry: Registry) -> None:
        other = {"https": "https://x/i", "sha3": "7" * 56, "size": len(IMAGE)}
        registry.before = lambda request: (
            answer(200, json.dumps(other)) if request.path == "/v1/image/info" else None
        )
        code, _, err = await push()
        assert code == 6 and f"pushed {sha3(IMAGE)}, but the registry says that" in err

    async def test_another_size(self, push: Push, registry: Registry) -> None:
        write_locked(locked(IMAGE), push.lock)
        other = {"https": "https://x/i", "sha3": sha3(IMAGE), "size": 5}
        registry.before = lambda request: (
            answer(200, json.dumps(other)) if request.path == "/v1/image/info" else None
        )
        code, _, err = await push()
        assert code == 6 and "has 5" in err
        assert read_lock(push.lock)["native"].tag is None

    @pytest.mark.parametrize(
        ("arguments", "environment", "code", "words"),
        [
            ([], {"REGISTRY_TOKEN": ""}, 4, "REGISTRY_TOKEN must be set in the environment"),
            ([], {"REGISTRY_USER": ""}, 4, "export REGISTRY_USER=<your account>"),
            (["{image}", "derl"], {}, 6, "no tag: 'derl'"),
            (["{image}", "me/derl:v 1"], {}, 6, "write it as USER/REPO:TAG"),
            (["{image}", "--push-to=x/y:z"], {}, 2, "No such option"),
            (["{image}"], {}, 2, "--nologin for a push without a tag"),
            (["{image}", TAG, "--nologin"], {}, 2, "give either USER/REPO:TAG, or"),
            (["{image}", TAG, "--token", "x"], {}, 2, "No such option"),
            (["{image}.none", TAG], {}, 3, "No such file"),
            (["{image}/..", TAG], {}, 3, "Not a directory"),
            ([], {"REGISTRY_URL": "http://me:pw@127.0.0.1"}, 6, "user name or password in it"),
            ([], {"REGISTRY_URL": "http://10.1.1.1"}, 6, "the token in the clear"),
            ([], {"REGISTRY_URL": "registry"}, 6, "no URL of a registry: 'registry'"),
        ],
    )
    async def test_what_is_said_before_anything_is_sent(
        self,
        push: Push,
        registry: Registry,
        arguments: list[str],
        environment: dict[str, str],
        code: int,
        words: str,
    ) -> None:
        given = [one.format(image=push.image) for one in arguments]
        found, _, err = await push(*given, **environment)
        plain = " ".join(err.replace("│", " ").split())
        assert (found, registry.seen) == (code, []) and words in plain, err

    async def test_a_file_of_credentials_is_not_read(self, push: Push, registry: Registry) -> None:
        for folder in (push.image.parents[1], push.scratch.parent):
            (folder / ".env").write_text(f"REGISTRY_USER=me\nREGISTRY_TOKEN={TOKEN}\n")
        code, _, err = await push(str(push.image), TAG, REGISTRY_TOKEN="")
        assert code == 4 and ".env files are not read" in err and registry.seen == []

    async def test_what_is_no_image(self, push: Push, registry: Registry) -> None:
        push.image.write_bytes(IMAGE[:-1])
        code, _, err = await push()
        assert code == 3 and "no GVMI trailer" in err and registry.seen == []

    async def test_without_the_program(
        self, push: Push, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(MachineUnfit, match="gvmkit-build is not installed") as raised:
            find_gvmkit_build()
        assert raised.value.fix is not None and "pip install gvmkit-build" in raised.value.fix


async def never() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def answer(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)
