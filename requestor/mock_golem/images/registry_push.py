"""What `gvmkit-build` sends to a registry: a login, a descriptor, chunks, a tag."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from requestor.mock_golem.answers import TextRefusal, json_answer, read_object
from requestor.mock_golem.images.descriptor import MAX_DESCRIPTOR_BYTES, Descriptor
from requestor.mock_golem.images.forms import blocks_of, read_bounded, read_form
from requestor.mock_golem.images.store import ImageStore, StoreError, is_tag
from requestor.mock_golem.images.uploads import ChunkClaim, UploadRefused, Uploads

MAX_CREDENTIAL = 1000
_Handler = Callable[[web.Request], Awaitable[web.Response]]


class PushApi:
    """The part of a registry that takes images in.

    Args:
        store: where they go.
        accounts: tokens by user; None lets everybody in under any name.
    """

    def __init__(self, store: ImageStore, accounts: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._uploads = Uploads(store)
        self._accounts = accounts

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [
            web.post("/auth/pat/login", self._login),
            web.get(r"/v1/image/descr/{sha256:[0-9a-f]{64}}", _refusals(self._status)),
            web.post("/v1/image/push/descr", _refusals(self._descriptor)),
            web.post("/v1/image/push/chunk", _refusals(self._chunk)),
            web.post(r"/v1/image/descr/attach/{sha256:[0-9a-f]{64}}", _refusals(self._attach)),
        ]

    def image_hash(self, sha256: str) -> str | None:
        """Return the SHA3-224 of the image that a descriptor speaks of."""
        descriptor = self._uploads.find(sha256)
        return None if descriptor is None else descriptor.sha3

    async def _login(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        if not self._lets_in(body.get("username"), body.get("password")):
            raise TextRefusal(401, "wrong user name or token")
        return json_answer({"status": "ok"})

    async def _status(self, request: web.Request) -> web.Response:
        """Which chunks are there: a client sends the others."""
        descriptor = self._uploads.find(request.match_info["sha256"])
        if descriptor is None:
            return json_answer({"descriptor": "not found", "version": 1})
        whole = await asyncio.to_thread(self._uploads.is_whole, descriptor)
        there = [True] * len(descriptor.chunks) if whole else self._uploads.present(descriptor)
        return json_answer(
            {
                "descriptor": "ok",
                "version": 1,
                "status": "full" if whole else "partial",
                "chunks": [int(one) for one in there],
            }
        )

    async def _descriptor(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        if form.file is None:
            raise TextRefusal(400, "the form has no `file`")
        raw = await read_bounded(form.file, MAX_DESCRIPTOR_BYTES)
        descriptor = await asyncio.to_thread(self._uploads.begin, raw)
        return web.Response(text=descriptor.sha256)

    async def _chunk(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        descriptor = self._known(form.text("descr-sha256"))
        claim = ChunkClaim(
            form.number("chunk-no"),
            form.text("chunk-sha256"),
            form.number("chunk-pos"),
            form.number("chunk-len"),
        )
        if form.file is None:
            raise TextRefusal(400, "the form has no `file` behind its texts")
        await self._uploads.receive(descriptor, claim, blocks_of(form.file))
        await asyncio.to_thread(self._uploads.finish, descriptor)
        return web.Response(text="ok")

    async def _attach(self, request: web.Request) -> web.Response:
        """Name an image; with `check` only say whether that would be allowed."""
        form = await read_form(request)
        login = form.text("login")
        if not self._lets_in(login, form.text("token")):
            raise TextRefusal(401, "wrong user name or token")
        if form.text("username") != login:
            raise TextRefusal(403, f"{login} may not name images of {form.text('username')}")
        tag = f"{login}/{form.text('repository')}:{form.text('tag')}"
        if not is_tag(tag):
            raise TextRefusal(400, f"no tag: {tag[:255]}")
        descriptor = self._known(request.match_info["sha256"])
        if form.texts.get("check") == "true":
            return web.Response(text="ok")
        if not await asyncio.to_thread(self._uploads.is_whole, descriptor):
            raise TextRefusal(409, "the image is not whole yet")
        await asyncio.to_thread(self._store.tag, tag, descriptor.sha3)
        return web.Response(text=f"{tag} is {descriptor.sha3}")

    def _known(self, sha256: str) -> Descriptor:
        descriptor = self._uploads.find(sha256)
        if descriptor is None:
            raise TextRefusal(404, "no such descriptor; push it first")
        return descriptor

    def _lets_in(self, user: object, token: object) -> bool:
        if not (isinstance(user, str) and isinstance(token, str) and user and token):
            return False
        if max(len(user), len(token)) > MAX_CREDENTIAL:
            return False
        if self._accounts is None:
            return True
        expected = self._accounts.get(user, "")
        return bool(expected) and hmac.compare_digest(token.encode(), expected.encode())


def _refusals(handler: _Handler) -> _Handler:
    """Turn what goes wrong with an upload into an answer."""

    async def answered(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except UploadRefused as refusal:
            raise TextRefusal(refusal.status, str(refusal)) from refusal
        except StoreError as error:
            raise TextRefusal(500, str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise TextRefusal(507, f"cannot be stored: {reason}") from error

    return answered
