"""Pushes an image to a registry, and asks it afterwards what it has.

Read next: `gvmkit_build.py` (who sends it), `registry_account.py` (who we are, and where to).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from gvmi.errors import BadImage, ImageToolError, RegistryRefused
from gvmi.image_lock import LOCK_FILE, LockedImage, read_lock, write_locked
from gvmi.registry.gvmkit_build import POLL_SECONDS, Ending, Listener, run_gvmkit_build
from gvmi.registry.registry_account import Credentials, Target
from requestor.marketplace.diagnosis import CheckFailed
from requestor.marketplace.golem.daemon.registry import ImageReference, check_image
from requestor.mock_golem.images.gvmi_file import ImageError, image_hash, read_gvmi


@dataclass(frozen=True)
class ImageToPush:
    """An image file that is sound; `locked` is its row of the lock, if it is a locked one."""

    path: Path
    sha3: str
    size_bytes: int
    locked: LockedImage | None


@dataclass(frozen=True)
class PushedImage:
    """What the registry has now, as it said itself."""

    image: ImageToPush
    target: Target
    seconds: float


def look_at(path: Path, lock: Path = LOCK_FILE) -> ImageToPush:
    """Read an image file, and look it up in the lock.

    Raises:
        BadImage: it is no image.
    """
    try:
        size_bytes = read_gvmi(path).size_bytes
        sha3 = image_hash(path)
    except ImageError as error:
        raise BadImage(
            str(error), fix="give an image file; `derl-image build` makes one"
        ) from error
    rows = read_lock(lock).values()
    return ImageToPush(
        path, sha3, size_bytes, next((row for row in rows if row.sha3 == sha3), None)
    )


def push(
    image: ImageToPush,
    target: Target,
    account: Credentials | None,
    listener: Listener,
    poll_seconds: float = POLL_SECONDS,
) -> PushedImage:
    """Push an image and check what the registry then says of it.

    Chunks that the registry has already are not sent again: what was broken off goes on.

    Raises:
        RegistryRefused: the registry does not take it, or has something else afterwards.
        MachineUnfit: gvmkit-build is not installed.
    """
    started = time.monotonic()
    ending = run_gvmkit_build(image.path, target, account, listener, poll_seconds)
    if ending.code != 0:
        raise _explained(ending, target)
    asyncio.run(_check(image, target))
    return PushedImage(image, target, time.monotonic() - started)


def note_tag(pushed: PushedImage, lock: Path = LOCK_FILE) -> bool:
    """Write the tag into the lock, if the image is the locked one; tell whether."""
    locked, tag = pushed.image.locked, pushed.target.tag
    if locked is None or tag is None:
        return False
    write_locked(replace(locked, tag=tag), lock)
    return True


async def _check(image: ImageToPush, target: Target) -> None:
    wanted = target.tag or image.sha3
    try:
        answer = await check_image(ImageReference(wanted, None, target.registry_url))
    except CheckFailed as error:
        raise RegistryRefused(
            f"pushed, but {error.says}",
            fix="registries may need a moment: run the same command again, which sends nothing "
            "twice",
        ) from error
    sha3, size_bytes = answer.facts["sha3"], answer.facts["size_bytes"]
    if sha3 != image.sha3:
        raise RegistryRefused(
            f"pushed {image.sha3}, but the registry says that {wanted} is {sha3}",
            fix="somebody else may have pushed to the tag; use golem.image=<hash>, or another tag",
        )
    if size_bytes is not None and size_bytes != image.size_bytes:
        raise RegistryRefused(
            f"pushed {image.size_bytes} bytes, but the registry says that {wanted} has "
            f"{size_bytes}",
            fix="run the same command again; if it stays so, push under another tag",
        )


def _explained(ending: Ending, target: Target) -> ImageToolError:
    said = "\n".join(ending.said)
    last = next((line for line in reversed(ending.said) if "Error" in line), "")
    last = last or (ending.said[-1] if ending.said else f"it ended with code {ending.code}")
    if "failed to log in" in said:
        return RegistryRefused(
            f"{target.registry_url} does not take REGISTRY_USER with REGISTRY_TOKEN",
            fix="check both; tokens are made and renewed in the registry's web portal",
        )
    if "Not possible to add to repository" in said:
        return RegistryRefused(
            f"the registry does not take the tag {target.tag}: {last}",
            fix="the tag's USER must be REGISTRY_USER, and the repository must be there: make it "
            "in the registry's web portal",
        )
    if "error sending request" in said or "error trying to connect" in said:
        return RegistryRefused(
            f"{target.registry_url} does not answer, or no longer: {last}",
            fix="look at the network and at --registry (REGISTRY_URL); run the same command "
            "again, which sends only what is missing",
        )
    return RegistryRefused(
        f"gvmkit-build failed: {last}",
        fix="run the same command again, which sends only what is missing",
    )
