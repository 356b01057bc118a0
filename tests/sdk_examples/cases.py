"""The examples: how each is started, what ends it, and what it must have said."""

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Visit = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Case:
    """One example.

    `path` is relative to the checkout's `examples`; `first` is another one that runs before, whose
    last line is its argument. `says` are patterns that its output must hold. `until` is a pattern
    after which it is visited (if there is something to visit) and, if `interrupt`, sent SIGINT.
    `unfinished` says why it may have to be killed in the end. `old_terms`: providers do not insist
    on a chosen payment platform. `provider` changes all providers of the fleet, `network` is what
    they are paid on.
    """

    path: str
    says: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    until: str = ""
    visit: Visit | None = None
    interrupt: bool = True
    unfinished: str = ""
    first: str = ""
    old_terms: bool = False
    provider: dict[str, Any] = field(default_factory=dict)
    network: str = "hoodi"
    seconds: float = 90.0

    @property
    def name(self) -> str:
        """Its path without the suffix."""
        return self.path.rpartition(".")[0]

    @property
    def how(self) -> str:
        """Its arguments, as a user types them."""
        return " ".join(self.arguments)


async def visit_nginx(output: str) -> str:
    """Ask the proxy twice: two instances answer in turn."""
    texts = []
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get("http://127.0.0.1:8081/") as response:
                texts.append(await response.text())
    if len(set(texts)) != 2 or not all("Hello from inside Golem!" in text for text in texts):
        raise AssertionError(texts)
    return "two instances answered through the proxy"


async def _is_up(session: aiohttp.ClientSession) -> None:
    """Reload until the web server, which the example starts in the background, answers."""
    while True:
        async with session.get("http://127.0.0.1:8080/") as response:
            if response.status == 200:
                return
        await asyncio.sleep(0.5)


async def visit_webapp(output: str) -> str:
    """Post a message: the web server stores it in the database of another provider."""
    async with aiohttp.ClientSession() as session:
        await _is_up(session)
        form = {"message": "stored on another provider"}
        async with session.post("http://127.0.0.1:8080/", data=form) as response:
            text = await response.text()
    if form["message"] not in text:
        raise AssertionError(text)
    return "a message went through the web server into the database of another provider"


async def visit_upload(output: str) -> str:
    """Upload a file and fetch it again."""
    async with aiohttp.ClientSession() as session:
        await _is_up(session)
        form = aiohttp.FormData()
        form.add_field("file", b"content" * 20000, filename="picture.png")
        async with session.post("http://127.0.0.1:8080/", data=form) as response:
            text = await response.text()
        if "picture.png" not in text:
            raise AssertionError(text)
        async with session.get("http://127.0.0.1:8080/images/picture.png") as response:
            if await response.read() != b"content" * 20000:
                raise AssertionError("the file came back changed")
    return "140 kB went up and came back"


async def visit_ssh(output: str) -> str:
    """Log in on both instances."""
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
    found = re.findall(r"-p (\d+) root@([\d.]+).*\n.*password: (\w+)", output)
    hosts = []
    for port, address, password in found:
        with tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False) as asking:
            asking.write(f"#!/bin/sh\necho {password}\n")
        os.chmod(asking.name, 0o700)
        ssh = await asyncio.create_subprocess_exec(
            *("ssh", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"),
            *("-p", port, f"root@{address}", "cat /proc/sys/kernel/hostname; id -u"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={**environment, "SSH_ASKPASS": asking.name},
        )
        said, complaint = await ssh.communicate()
        if said != b"golem\n0\n":
            raise AssertionError((said, complaint))
        hosts.append(port)
    if len(hosts) != 2:
        raise AssertionError(output)
    return "ssh logged in on both instances"


DRAFT = "task_api_draft/examples"
YAPAPI = (
    Case("hello-world/hello.py", ("20[0-9][0-9]",)),
    Case("hello-world/hello_service.py", ("Instance 0 is running on", "20[0-9][0-9]")),
    Case(
        "low-level-api/list-offers.py",
        ('"golem.node.id.name": "willow"',),
        ("--subnet-tag", "public"),
    ),
    Case("blender/blender.py", ("6 tasks computed", "COST: 0"), ("--show-usage",)),
    Case("blender/blender_registry_usage.py", ("6 tasks computed",)),
    Case("blender/start_stop_blender.py", ("6 tasks computed",)),
    Case("scan/scan.py", ("'willow'", "'alder'", "'rowan'", "'hazel'"), ("--scan-size", "4")),
    Case(
        "market-strategy/market_strategy.py",
        ("TASK EXECUTED",),
        until="Scored known provider",
    ),
    Case(
        "yacat/yacat.py",
        ("The keyspace size is 1000", "Password found: 042"),
        (
            *("--mask", "?d?d?d", "--hash", "$P$5ZDzPE45CVyqAHYEWL8dPTfwEPMvU50"),
            *("--chunk-size", "256", "--max-workers", "4"),
        ),
    ),
    Case(
        "transfer-progress/progress.py",
        ("Deployed image from cache", r"100% \[8.4MBytes"),
        until="Accepted invoice",
        unfinished="ends its own cluster from inside, for which yapapi may wait in vain",
        seconds=30.0,
    ),
    Case(
        "http-proxy/http_proxy.py",
        ("HTTP server stopped",),
        ("--port", "8081"),
        until="Local HTTP server listening",
        visit=visit_nginx,
    ),
    Case("ssh/ssh.py", ("connect with",), until=r"(?s)password:.*password:", visit=visit_ssh),
    Case(
        "webapp/webapp.py",
        ("HTTP server stopped",),
        until="Local HTTP server listening",
        visit=visit_webapp,
    ),
    Case(
        "webapp/webapp_suspend_resume.py",
        ("RESTARTING THE ENGINE",),
        until=r"(?s)Local HTTP server listening.*Local HTTP server listening",
        visit=visit_webapp,
    ),
    Case(
        "webapp_fileupload/webapp_fileupload.py",
        ("HTTP server stopped",),
        until="Local HTTP server listening",
        visit=visit_upload,
    ),
    Case(
        "simple-service-poc/simple_service.py",
        ('"size": [1-9]', "downloading plot", "COST: 0"),
        ("--running-time", "30", "--show-usage"),
    ),
    Case(
        "custom_runtime/custom_runtime.py",
        ("willow: running|alder: running|rowan: running|hazel: running",),
        until=": running",
        provider={"runtime": "my-runtime", "memory_gib": 16, "storage_gib": 1024},
    ),
)
GOLEM_CORE = (
    Case("managers/basic_composition.py", ("WORK MANAGER RESULT.*hello golem",)),
    Case("managers/flexible_negotiation.py", ("WORK MANAGER RESULT.*hello golem",)),
    Case(
        "managers/proposal_plugins.py",
        ("WORK MANAGER RESULT.*hello golem",),
        unfinished="waits at times for the activity of the redundant work that it cancelled",
    ),
    Case("managers/ssh.py", ("ssh -o ProxyCommand=.*/tcp/192.168.0.[0-9]+/22", "PASSWORD: ")),
    Case("core_example.py", ("Got expected exception: .*exited with code 127",), old_terms=True),
    Case("detached_activity.py", ("^[0-9a-f]{32}$",), old_terms=True),
    Case(
        "attach.py",
        ("Current date on .* is .*20[0-9][0-9]",),
        first="detached_activity.py",
        until="Current date on",
        old_terms=True,
    ),
    Case(
        "exception_handling/exception_handling.py",
        ("no_such_command: not found", "TASK DONE"),
        old_terms=True,
    ),
    Case(
        "service.py",
        ("(?s)Connect with.*Connect with", "/tcp/192.168.0.[0-9]+/22"),
        until="(?s)Connect with.*Connect with",
        old_terms=True,
    ),
    Case(
        f"{DRAFT}/execute_tasks_hello_world.py",
        tuple(f"TASK RESULT Executing task {number}" for number in range(7)),
        old_terms=True,
    ),
    Case(f"{DRAFT}/redundance.py", ("GOT RESULT 9", "DONE"), old_terms=True),
    Case(
        f"{DRAFT}/yacat.py",
        (r"TOTAL *\| *[1-9]",),
        until=r"TOTAL *\| *[1-9]",
        old_terms=True,
        provider={"count": 4},
    ),
    Case(
        f"{DRAFT}/yacat_no_business_logic.py",
        ("FOUND [0-9a-f]{64}:",),
        until="FOUND [0-9a-f]{64}:",
        old_terms=True,
    ),
    Case("cli_example.sh", (r"erc20 *\| holesky *\| *2 ",), network="holesky"),
)
CASES = {"yapapi": YAPAPI, "golem-core": GOLEM_CORE}
