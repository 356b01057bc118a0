"""Run a Golem SDK's own public examples, as they are, on `mock-golem`.

    python tests/sdk_examples/run_examples.py yapapi CHECKOUT [--only NAME]... [--python PYTHON]

CHECKOUT is a folder with the SDK's `examples` (a clone at the tag of the release), PYTHON an
interpreter that has the SDK. Needs Linux with user namespaces, util-linux, iproute2, openssl and
bubblewrap; no network. Nothing of the checkout is changed: each example runs in a copy.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from requestor.mock_golem.fleet import parse_fleet  # noqa: E402
from tests.sdk_examples import machine  # noqa: E402
from tests.sdk_examples.cases import CASES, Case  # noqa: E402

GRACE_SECONDS = 60.0
REACTION_SECONDS = 2.0  # a user's Ctrl-C meets a program that waits, not one that just answers
DEFAULT_PACKAGES = Path(tempfile.gettempdir()) / "sdk-examples-packages"


@dataclass(frozen=True)
class Place:
    """Where an example runs: the checkout, the interpreter, an empty folder, the authority.

    `packages` holds what stand-ins for images need; `daemon` is `serve`, or `testnet` for the
    real yagna.
    """

    checkout: Path
    python: str
    folder: Path
    certificate: Path
    packages: Path
    daemon: str


class Daemon:
    """A running `mock-golem serve` or `mock-golem testnet`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready

    def count(self, path: str) -> int:
        """How many things a route lists."""
        key = {"Authorization": f"Bearer {self.ready['app_key']}"}
        request = urllib.request.Request(self.ready["url"] + path, headers=key)
        with urllib.request.urlopen(request, timeout=GRACE_SECONDS) as response:
            return len(json.loads(response.read()))

    def environment(self) -> dict[str, str]:
        """What it tells its users to export."""
        return {
            "YAGNA_APPKEY": self.ready["app_key"],
            "YAGNA_API_URL": self.ready["url"],
            "YAGNA_PAYMENT_NETWORK": self.ready["payment_platform"].split("-")[1],
            "YAGNA_SUBNET": self.ready["subnet"],
            "PATH": f"{self.ready['gftp_directory']}:{os.environ['PATH']}",
        }


def install_packages(folder: Path) -> None:
    """Install what stand-ins for images need, before the network is gone; see `folder`'s log."""
    for requirements in sorted(HERE.glob("*.requirements.txt")):
        target = folder / requirements.name.partition(".")[0]
        if target.exists():
            continue
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target))
        subprocess.run([*pip, "--requirement", str(requirements)], check=True)


def build_images(place: Place) -> None:
    """Copy the stand-ins for images, and add what the checkout and the packages have for them."""
    images = place.folder / "images"
    shutil.copytree(HERE / "images", images)
    examples = place.checkout / "examples"
    packages = Path("opt/packages")
    shutil.copytree(place.packages / "ssh", images / "ssh" / packages)
    for name, source in (
        ("webapp", examples / "webapp" / "http"),
        ("webapp_fileupload", examples / "webapp_fileupload" / "http-file-upload"),
    ):
        (images / name).mkdir()
        if source.is_dir():
            shutil.copytree(source, images / name / "webapp")
            (images / name / "webapp" / "uploads").mkdir()
            shutil.copytree(place.packages / "webapp", images / name / packages)
    if (examples / "webapp" / "db").is_dir():
        program = images / "rqlite" / "bin" / "run_rqlite.sh"
        shutil.copy(examples / "webapp" / "db" / program.name, program)
        program.chmod(0o755)
    if (examples / "simple-service-poc").is_dir():
        _build_simple_service(examples, images / "simple_service")


def _build_simple_service(examples: Path, image: Path) -> None:
    programs = image / "golem" / "run"
    programs.mkdir(parents=True)
    for file in (examples / "simple-service-poc" / "simple_service").glob("*.py"):
        shutil.copy(file, programs)
        (programs / file.name).chmod(0o755)
    stand_in = image / "opt" / "stand_in"
    subprocess.run(  # as its Dockerfile does
        [sys.executable, str(programs / "simple_service.py"), "--init"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(stand_in)},
    )


async def start_daemon(case: Case, place: Place) -> Daemon:
    """Start a daemon on the fleet, changed as the case wants it."""
    fleet = yaml.safe_load((HERE / "fleet.yaml").read_text(encoding="utf-8"))
    for image in fleet["images"]:
        if "root" in image:
            image["root"] = str(place.folder / image["root"])
    fleet["payment"]["network"] = case.network
    for provider in fleet["providers"]:
        provider.update(case.provider)
        if case.old_terms:
            provider["terms"] = {"required_properties": []}
    file = place.folder / "fleet.yaml"
    file.write_text(yaml.safe_dump(fleet), encoding="utf-8")
    with (place.folder / "daemon.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "requestor.mock_golem", place.daemon, "--json"),
            *("--fleet", str(file), "--wire-log", str(place.folder / "wire.jsonl")),
            "--stop-on-stdin-eof",  # which comes however this program ends
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # the daemon fetches from the web what examples have transferred
            env={**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(place.certificate)},
        )
    assert process.stdout is not None
    return Daemon(process, json.loads(await process.stdout.readline()))


class Run:
    """One example at work."""

    def __init__(self, case: Case, place: Place, daemon: Daemon) -> None:
        self._case = case
        self._place = place
        self._daemon = daemon
        self._told = asyncio.Event()
        self._output = ""

    async def to_its_end(self) -> tuple[str, str]:
        """Return what is wrong with it ("" if nothing), and what is worth saying."""
        arguments = list(self._case.arguments)
        if self._case.first:
            before = await self._start(self._case.first, [])
            output, _ = await before.communicate()
            arguments.append(output.decode().split()[-1])
        process = await self._start(self._case.path, arguments)
        reading = asyncio.create_task(self._read(process))
        note, ended, complaint = "", True, ""
        try:
            async with asyncio.timeout(self._case.seconds):
                if self._case.until:
                    await self._told.wait()
                if self._case.visit is not None:
                    note = await self._case.visit(self._output)
                if self._case.until and self._case.interrupt:
                    await asyncio.sleep(REACTION_SECONDS)
                    process.send_signal(signal.SIGINT)
                await process.wait()
        except TimeoutError:
            ended = False
        except (AssertionError, OSError, aiohttp.ClientError) as error:  # of the visit
            complaint = f"the visit failed: {error!r:.300}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading
            (self._place.folder / "output.txt").write_text(self._output, encoding="utf-8")
        problem = complaint or self._judge(ended, process.returncode)
        return problem, note if ended else f"killed: {self._case.unfinished or 'too late'}"

    async def _start(self, path: str, arguments: list[str]) -> asyncio.subprocess.Process:
        place = self._place
        script = place.folder / "examples" / path
        interpreter = "bash" if script.suffix == ".sh" else place.python
        environment = self._daemon.environment()
        gftp, rest = environment["PATH"].split(":", 1)
        return await asyncio.create_subprocess_exec(
            *(interpreter, script.name, *arguments),
            cwd=script.parent,
            env={
                **os.environ,
                **environment,
                "PATH": f"{gftp}:{Path(place.python).absolute().parent}:{rest}",
                "PYTHONPATH": f"{place.folder / 'examples'}:{place.folder}",
                "PYTHONUNBUFFERED": "1",
                "PYTHONWARNINGS": "ignore",
                "SSL_CERT_FILE": str(place.certificate),
                "TMPDIR": str(place.folder),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 24,
        )

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._output += line.decode(errors="replace")
            if self._case.until and re.search(self._case.until, self._output):
                self._told.set()
        self._told.set()

    def _judge(self, ended: bool, code: int | None) -> str:
        silent = [text for text in self._case.says if not re.search(text, self._output, re.M)]
        if silent:
            return f"did not say {silent}, exit code {code}"
        if not ended:
            late = f"did not end within {self._case.seconds:g} s"
            return "" if self._case.unfinished else late
        interrupted = self._case.until and self._case.interrupt
        fine = (0, -signal.SIGINT) if interrupted else (0,)
        return "" if code in fine else f"exit code {code}"


async def run_case(case: Case, place: Place) -> bool:
    """Run one example on a daemon of its own, and print how that went."""
    place.folder.mkdir(parents=True)
    shutil.copytree(place.checkout / "examples", place.folder / "examples")
    started = time.monotonic()
    build_images(place)
    daemon = await start_daemon(case, place)
    try:
        problem, note = await Run(case, place, daemon).to_its_end()
        left = [
            f"{count} {name}"
            for name, path in (
                ("allocations", "/payment-api/v1/allocations"),
                ("agreements", "/market-api/v1/agreements?state=Approved"),
            )
            if (count := daemon.count(path))
        ]
    finally:
        daemon.process.terminate()
        await daemon.process.wait()
    told = [part for part in (note, f"left: {', '.join(left)}" if left else "") if part]
    seconds = time.monotonic() - started
    verdict = "runs " if not problem else "FAILS"
    words = (verdict, f"{seconds:6.1f} s ", case.name, case.how, problem, "; ".join(told))
    print(*words, flush=True)
    return not problem


async def run_all(arguments: argparse.Namespace, folder: Path) -> int:
    """Run the examples one after another; returns how many failed."""
    machine.furnish(folder)
    certificate, key = machine.make_certificate(folder)
    images = parse_fleet((HERE / "fleet.yaml").read_text(encoding="utf-8")).images
    servers = await machine.serve_names(images, certificate, key)
    failed = 0
    try:
        for case in CASES[arguments.sdk]:
            if arguments.only and case.name not in arguments.only:
                continue
            place = Place(
                arguments.checkout.resolve(),
                arguments.python,
                folder / case.name.replace("/", "-"),
                certificate,
                arguments.packages.resolve(),
                arguments.daemon,
            )
            failed += not await run_case(case, place)
    finally:
        await servers.cleanup()
    return failed


def main() -> None:
    """Read the command line, enter a machine of its own, run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sdk", choices=sorted(CASES))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="outputs and wire logs go here")
    parser.add_argument("--daemon", choices=("serve", "testnet"), default="serve")
    parser.add_argument("--packages", type=Path, default=DEFAULT_PACKAGES, metavar="FOLDER")
    arguments = parser.parse_args()
    if not machine.is_entered():
        install_packages(arguments.packages)
        machine.enter()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        raise SystemExit(asyncio.run(run_all(arguments, arguments.keep.resolve())))
    with tempfile.TemporaryDirectory(prefix="sdk-examples-") as folder:
        raise SystemExit(asyncio.run(run_all(arguments, Path(folder))))


if __name__ == "__main__":
    main()
