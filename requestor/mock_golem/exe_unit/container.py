"""The container of an activity: its volumes and its guest, without any life cycle."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakSet

from requestor.mock_golem.exe_unit import lying
from requestor.mock_golem.exe_unit.guest_process import (
    AgentDied,
    GuestProcess,
    OutputSink,
    RunningCommand,
)
from requestor.mock_golem.exe_unit.image_sandbox import as_image_says, build_image_sandbox
from requestor.mock_golem.exe_unit.progress import Progress
from requestor.mock_golem.exe_unit.sandbox import (
    ActiveIsolation,
    build_sandbox,
    devices_problem,
)
from requestor.mock_golem.exe_unit.script import Deploy, Run, Transfer
from requestor.mock_golem.exe_unit.spec import CommandFailed, ContainerSpec, Tamper
from requestor.mock_golem.exe_unit.transfers import Places, transfer
from requestor.mock_golem.exe_unit.volumes import Volumes
from requestor.mock_golem.exe_unit.vpn import Fabric, Membership, VpnDevice
from requestor.mock_golem.finishing import finish_anyway
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.images.cache import DownloadError
from requestor.mock_golem.images.gvmi_file import ImageError
from requestor.mock_golem.images.library import ImageLibrary
from requestor.mock_golem.images.mounts import MountedImage
from requestor.mock_golem.images.package import Package

CONNECT_SECONDS = 5.0  # as long as yagna waits for a TCP connection in a virtual network


@dataclass(frozen=True)
class Means:
    """What containers are made with; without a `library`, each has its image for itself."""

    store: GftpStore
    fabric: Fabric
    library: ImageLibrary | None = None


class Container:
    """Takes the scratch folder at once and keeps it until `remove`."""

    def __init__(self, spec: ContainerSpec, isolation: ActiveIsolation, means: Means) -> None:
        spec.directory.mkdir(parents=True, mode=0o700)
        self._given = self._spec = replace(spec, directory=spec.directory.resolve())
        self._isolation = isolation
        self._store = means.store
        self._fabric = means.fabric
        self._own_library: ImageLibrary | None = None
        if means.library is None and spec.image is not None:
            self._own_library = ImageLibrary(self._spec.directory / "images")
        self._library = means.library or self._own_library
        self._mounted: MountedImage | None = None
        self._volumes = Volumes(self._volumes_folder)
        self._environment: dict[str, str] = {}
        self.networks: tuple[Membership, ...] = ()
        self._devices: list[VpnDevice] = []
        self._connections: WeakSet[socket.socket] = WeakSet()
        self._earlier_cpu_seconds = 0.0  # of guests that have ended
        self.guest: GuestProcess | None = None

    @property
    def _volumes_folder(self) -> Path:
        return self._spec.directory / "volumes"

    async def deploy(self, command: Deploy, progress: Progress) -> bytes:
        """Get the image, make the volumes, empty; returns the deployment as JSON.

        Raises `CommandFailed`.
        """
        self._mounted, self._spec = None, self._given
        if self._given.image is None:
            progress.say("Deployed image from cache")
        else:
            self._mounted = await self._take_image(self._given.image, progress)
            self._spec = as_image_says(self._given, self._mounted)
        paths = (*self._spec.volumes, *command.volumes)
        try:
            replace(self._spec, volumes=paths)  # checks the paths
        except ValueError as error:
            raise CommandFailed(f"Runtime error: {error}") from error
        self._volumes.add(paths)
        self._environment = command.environment
        self.networks = command.networks
        deployment = {
            "valid": {"Ok": ""},
            "vols": [{"name": folder.name, "path": path} for path, folder in self._volumes.items()],
            "startMode": "blocking",
        }
        return json.dumps(deployment, separators=(",", ":")).encode()

    async def _take_image(self, image: Path | Package, progress: Progress) -> MountedImage:
        assert self._library is not None  # whoever has an image has one
        try:
            if isinstance(image, Package):
                is_here = self._library.has(image)
                path = await self._library.fetch(image, self._given.storage_bytes, progress.advance)
                progress.say("Deployed image from cache" if is_here else "Deployed image")
            else:
                path = image
                progress.say("Deployed image from cache")
            return await self._library.mount(path)
        except DownloadError as error:
            raise CommandFailed(f"Local service error: Transfer error: {error}") from error
        except ImageError as error:
            raise CommandFailed(f"Runtime error: {error}") from error

    async def start(self) -> GuestProcess:
        """Start the guest; raises `CommandFailed`."""
        if self._given.image is not None and self._mounted is None:
            raise CommandFailed("Runtime error: there is no image to start: its deploy has failed")
        networks = () if devices_problem(self._isolation) else self.networks
        volumes, with_devices = self._volumes.items(), bool(networks)
        if self._mounted is not None:
            (self._spec.directory / "stage").mkdir(exist_ok=True)
            sandbox = build_image_sandbox(
                self._spec, self._mounted, volumes, with_devices=with_devices
            )
        else:
            sandbox = build_sandbox(self._isolation, self._spec, volumes, with_devices=with_devices)
        guest = self.guest = GuestProcess(sandbox, self._spec.directory / "agent.log")
        try:
            await finish_anyway(self._begin(guest, networks))
        except (AgentDied, OSError) as error:
            self.guest = None
            raise CommandFailed(f"Runtime error: {error}") from error
        return guest

    async def _begin(self, guest: GuestProcess, networks: Sequence[Membership]) -> None:
        descriptors = await guest.start(networks)
        self._devices = [
            VpnDevice(descriptor, member, self._fabric)
            for descriptor, member in zip(descriptors, networks, strict=False)
        ]

    async def connect(self, network_id: str, port: int) -> socket.socket:
        """Connect to a TCP port of the guest; the socket is non-blocking, and ends with the guest.

        Where guests have no device of their own, their loopback stands for the network. Raises
        `OSError`, among them `TimeoutError`, and `AgentDied`.
        """
        if self.guest is None:
            raise AgentDied("the guest is not started")
        addresses = [one.member.address for one in self._devices if one.is_in(network_id)]
        made = await self.guest.open_socket()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                address = addresses[0] if addresses else "127.0.0.1"
                await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        self._connections.add(made)
        return made

    async def run(self, command: Run, on_output: OutputSink) -> RunningCommand:
        """Start a command; returns once it runs. Raises `CommandFailed` and `AgentDied`."""
        if self.guest is None:
            raise CommandFailed("Runtime error: START command not run")
        return await self.guest.run(command, self._environment, on_output)

    async def transfer(self, command: Transfer, tamper: Tamper | None, progress: Progress) -> None:
        """Move a file in or out; raises `CommandFailed`."""
        places = Places(self._volumes, self._store, self._spec.directory)
        await transfer(command, places, tamper, progress)

    async def snapshot(self) -> lying.Snapshot:
        """The present files of all volumes."""
        folders = [folder for _, folder in self._volumes.items()]
        return await finish_anyway(asyncio.to_thread(lying.take_snapshot, folders))

    async def falsify(self, before: lying.Snapshot, output: bytes, tamper: Tamper) -> bytes:
        """Falsify what was written since `before` and is named by its digest in `output`."""
        after = await self.snapshot()
        return await finish_anyway(
            asyncio.to_thread(lying.falsify_reported_files, before, after, output, tamper)
        )

    def cpu_seconds(self) -> float:
        """CPU seconds of all commands and what they started, so far."""
        present = self.guest.cpu_seconds() if self.guest is not None else 0.0
        return self._earlier_cpu_seconds + present

    async def reset(self) -> None:
        """End the guest with all its processes and drop the volumes."""
        guest, self.guest = self.guest, None
        if guest is not None:
            await finish_anyway(guest.stop())
            self._earlier_cpu_seconds += guest.cpu_seconds()
        for device in self._devices:
            device.close()
        self._devices = []
        for connection in self._connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(_remove_tree, self._volumes_folder)
        self._volumes = Volumes(self._volumes_folder)

    async def remove(self) -> None:
        """End everything and delete the scratch folder."""
        await self.reset()
        if self._own_library is not None:
            await finish_anyway(self._own_library.close())
        await asyncio.to_thread(_remove_tree, self._spec.directory)


def _remove_tree(folder: Path) -> None:
    """Delete a folder whatever its owner did to the permissions in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(parent, name)):
                os.chmod(os.path.join(parent, name), 0o700)
    shutil.rmtree(folder)
