"""Who is who in one daemon: the requestor and every provider, with their keys."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CALL_SECONDS = 30.0


class IdentityError(Exception):
    """The daemon did not make an identity, or the notes about earlier ones cannot be read."""


@dataclass(frozen=True)
class Identity:
    """One party: `node_id` is its address in the network and its wallet."""

    name: str
    node_id: str
    app_key: str


class IdentityBook:
    """The notes on identities made earlier, in a file that only its owner may read.

    Raises:
        IdentityError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            notes: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            self.requestor_key: str | None = notes.get("requestor_key")
            self.providers = {
                str(note["name"]): Identity(
                    str(note["name"]), str(note["node_id"]), str(note["app_key"])
                )
                for note in notes.get("providers", [])
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IdentityError(
                f"{path}: cannot be read ({error}); use another --state folder"
            ) from error

    def save(self) -> None:
        """Write the file anew, whole or not at all."""
        notes = {
            "requestor_key": self.requestor_key,
            "providers": [asdict(identity) for identity in self.providers.values()],
        }
        draft = self._path.with_name(f".{self._path.name}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(notes, file, indent=1)
        draft.rename(self._path)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which of the providers have no identity yet, in the given order."""
        return [name for name in names if name not in self.providers]


class IdentityMaker:
    """Makes identities in a running daemon, with its own command line.

    Args:
        binary: the yagna program.
        environment: as the daemon's: it names the data folder and the bus.
    """

    def __init__(self, binary: Path, environment: Mapping[str, str]) -> None:
        self._binary = binary
        self._environment = {
            name: value
            for name, value in environment.items()
            if not name.startswith("YAGNA_AUTOCONF")
        }

    async def create(self, name: str) -> Identity:
        """Create an identity called `name` and a key for it.

        Raises:
            IdentityError: the daemon refuses.
        """
        made = await self._call("id", "create", "--no-password", "--json", name)
        try:
            node_id = str(json.loads(made)["Ok"]["nodeId"])
        except (ValueError, KeyError, TypeError) as error:
            raise IdentityError(f"no identity for {name}: {made[:300]!r}") from error
        key = (await self._call("app-key", "create", "--id", node_id, name)).strip()
        if not key.isalnum():
            raise IdentityError(f"no app key for {name}: {key[:300]!r}")
        return Identity(name, node_id, key)

    async def open_account(self, network: str) -> None:
        """Make the requestor's account known as one that sends; the daemon forgets it at its end.

        Raises:
            IdentityError: the daemon refuses.
        """
        await self._call("payment", "init", "--sender", "--network", network)

    async def pay_every(self, seconds: float, network: str) -> None:
        """Have the requestor's payments sent this often (at least 5 s); it is kept over restarts.

        Raises:
            IdentityError: the daemon refuses.
        """
        every = f"{seconds:g}s"
        await self._call(
            *("payment", "process", "set", "--network", network),
            *("--interval", every, "--payout", every),
        )

    async def _call(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            os.fspath(self._binary),
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, errors = await asyncio.wait_for(process.communicate(), CALL_SECONDS)
        except TimeoutError:
            raise IdentityError(f"`yagna {' '.join(arguments[:2])}` does not answer") from None
        finally:
            if process.returncode is None:  # too slow, or we are cancelled
                process.kill()
                await process.communicate()
        if process.returncode != 0:
            text = (errors or said).decode(errors="replace").strip()
            raise IdentityError(f"`yagna {arguments[0]} {arguments[1]}` failed: {text[:500]}")
        return said.decode(errors="replace")
