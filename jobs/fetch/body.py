"""The bytes of an answer, within limits, whatever the server declares or sends."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import aiohttp

from jobs.fetch.answer import Failed

_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS  # zlib.h, inflateInit2: the header says which
LARGE_BYTES: Final = 2 * 2**20  # chosen: ten times a photograph of web crawls
_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})  # RFC 9110 §8.4.1, what zlib reads


async def whole(
    response: aiohttp.ClientResponse, max_bytes: int, large: asyncio.Semaphore
) -> bytes:
    """All bytes of an answer, decoded where the server compressed them unasked.

    Args:
        response: its headers are there, its body is not read yet.
        max_bytes: of what is sent, and of what it decompresses to.
        large: of all answers under way, those beyond `LARGE_BYTES` take turns in memory.

    Raises:
        Failed: too large, cut short, or a coding that cannot be read.
    """
    declared = response.content_length
    if declared is not None and declared > max_bytes:
        raise Failed("response_too_large", f"{declared} bytes declared, limit {max_bytes}")
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    try:
        sent = await _bounded(response.content.iter_any(), max_bytes, large)
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
        raise Failed(
            "response_cut", f"{type(error).__name__}: the body ends early", is_worth_retrying=True
        ) from None
    if coding in ("", "identity"):
        return sent
    if coding not in _CODINGS:
        raise Failed("response_cut", "a Content-Encoding that was not asked for")
    return await asyncio.to_thread(_decoded, sent, max_bytes)


async def start(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The first bytes of an answer, at most so many; what follows is left."""
    held = bytearray()
    async for piece in response.content.iter_any():
        held += piece
        if len(held) >= max_bytes:
            break
    return bytes(held[:max_bytes])


async def _bounded(pieces: AsyncIterator[bytes], max_bytes: int, large: asyncio.Semaphore) -> bytes:
    held, held_bytes = [], 0
    async with AsyncExitStack() as turn:
        async for piece in pieces:
            if held_bytes <= LARGE_BYTES < held_bytes + len(piece):
                await turn.enter_async_context(large)
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes > max_bytes:
                raise Failed("response_too_large", f"more than {max_bytes} bytes")
        return held[0] if len(held) == 1 else b"".join(held)


def _decoded(sent: bytes, max_bytes: int) -> bytes:
    decoder = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        plain = decoder.decompress(sent, max_bytes + 1)
    except zlib.error as error:
        raise Failed("response_cut", f"broken encoding: {error}") from None
    if len(plain) > max_bytes:
        raise Failed("response_too_large", f"more than {max_bytes} bytes once decompressed")
    if not decoder.eof:
        raise Failed("response_cut", "the encoding ends early")
    return plain
