"""Reads multipart forms of strangers, part by part, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from requestor.mock_golem.answers import TextRefusal

MAX_PARTS = 16
MAX_TEXT_BYTES = 1024
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Form:
    """The texts that came before the file, and the file's part, if one came."""

    texts: Mapping[str, str]
    file: BodyPartReader | None

    def number(self, name: str) -> int:
        """Return a whole number.

        Raises:
            TextRefusal: 400, there is none.
        """
        text = self.texts.get(name, "")
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise TextRefusal(400, f"the form has no number `{name}`")
        return int(text)

    def text(self, name: str) -> str:
        """Return a text.

        Raises:
            TextRefusal: 400, there is none.
        """
        found = self.texts.get(name)
        if not found:
            raise TextRefusal(400, f"the form has no `{name}`")
        return found


async def read_form(request: web.Request) -> Form:
    """Read a form up to its part `file`, or to its end.

    Raises:
        TextRefusal: 400 or 413, it is none.
    """
    texts: dict[str, str] = {}
    try:
        reader = await request.multipart()
        for _ in range(MAX_PARTS):
            part = await reader.next()
            if part is None:
                return Form(texts, None)
            if isinstance(part, MultipartReader) or not part.name:
                raise TextRefusal(400, "the form has a part without a name")
            if part.name == "file":
                return Form(texts, part)
            texts[part.name] = (await read_bounded(part, MAX_TEXT_BYTES)).decode()
    except (HttpProcessingError, ValueError, AssertionError, LookupError) as error:
        raise TextRefusal(400, f"not a multipart form: {str(error)[:200]}") from error
    raise TextRefusal(400, f"the form has more than {MAX_PARTS} parts")


async def read_bounded(part: BodyPartReader, most: int) -> bytes:
    """Return a part's content.

    Raises:
        TextRefusal: 413, it has more than `most` bytes.
    """
    found = b""
    async for block in blocks_of(part):
        found += block
        if len(found) > most:
            raise TextRefusal(413, f"the part `{part.name}` has more than {most} bytes")
    return found


async def blocks_of(part: BodyPartReader) -> AsyncIterator[bytes]:
    """Yield a part's content as it comes.

    Raises:
        TextRefusal: 400, the form breaks off.
    """
    while not part.at_eof():
        try:
            block = await part.read_chunk(_BLOCK_BYTES)
        except (HttpProcessingError, ValueError, AssertionError) as error:
            raise TextRefusal(400, f"the form breaks off: {str(error)[:200]}") from error
        if block:
            yield block
