"""What an answer says: from its headers and bytes to the media, or to why there is none."""

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from jobs.fetch import body, opt_out
from jobs.fetch.answer import Answer, Failed
from jobs.fetch.rules import AGENT, Rules
from udfs import exif
from udfs.image_codec import ImageRefused, header

_WITH_MEDIA: Final = frozenset({200, 203})  # RFC 9110 §15.3: the others carry no whole media
_GONE: Final = frozenset({404, 410})
_LATER: Final = frozenset({408, 425, 429})  # of the 4xx, those that time may mend
_HEADER_CHARS: Final = 2000  # chosen: of what a server says of itself, stored at most


async def read(
    answer: Answer, response: aiohttp.ClientResponse, rules: Rules, large: asyncio.Semaphore
) -> None:
    """Take the media of an answer that is no redirect, and all that is said of it.

    Args:
        answer: is filled in.
        response: its headers are there, its body is not read yet.
        rules: manners and limits.
        large: as `body.whole` has it.

    Raises:
        Failed: why there is no media, or none that may be used.
    """
    settings = rules.settings
    answer.http_status = response.status
    _note(answer, response)
    if response.status not in _WITH_MEDIA:
        raise _refused(response)
    against = opt_out.refusal(
        response.headers.getall("X-Robots-Tag", ()),
        answer.tdm_reservation if settings.obeys_tdm else None,
        agent=AGENT,
        disallowed=settings.directives,
    )
    if against is not None:
        raise Failed(*against)
    _judge(answer, await body.whole(response, settings.max_bytes, large), rules)


def _judge(answer: Answer, content: bytes, rules: Rules) -> None:
    """Hashes, header and lists; only what passes is kept."""
    answer.size_bytes = len(content)
    answer.md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    answer.sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest()
    digests = (("md5", answer.md5), ("sha1", answer.sha1), ("sha256", sha256))
    against = rules.guard.listed(digests)
    if against is not None:
        raise Failed(against.reason, against.detail, matched=against.matched)
    try:
        found = header(content, max_pixels=rules.max_pixels)
    except ImageRefused as refusal:
        declared = (answer.content_type or "nothing").partition(";")[0]
        raise Failed(refusal.error_class, f"{refusal.detail}; declared {declared}") from None
    against = rules.guard.size(len(content), found.width_px, found.height_px)
    if against is not None:
        raise Failed(against.reason, against.detail)
    answer.mime = found.mime
    answer.header_width_px, answer.header_height_px = found.width_px, found.height_px
    answer.is_type_mismatch = _is_mismatch(answer.content_type, found.mime)
    answer.media_sha256 = sha256
    answer.content = exif.scrub(content)


def _note(answer: Answer, response: aiohttp.ClientResponse) -> None:
    """What the server says of its answer."""

    def said(name: str) -> str | None:
        values = response.headers.getall(name, ())
        return "\n".join(values)[:_HEADER_CHARS].encode("utf-8", "replace").decode() or None

    answer.content_type = said("Content-Type")
    answer.etag = said("ETag")
    answer.last_modified = said("Last-Modified")
    answer.robots_tag = said("X-Robots-Tag")
    answer.tdm_reservation = said("tdm-reservation")


def _refused(response: aiohttp.ClientResponse) -> Failed:
    status = response.status
    detail = f"HTTP {status}"
    if status in _GONE:
        return Failed("http_gone", detail)
    if status in _LATER or status >= 500:
        return Failed(
            "http_unavailable",
            detail,
            is_worth_retrying=True,
            retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
        )
    return Failed("http_refused", detail)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After asks for: RFC 9110 §10.2.3, seconds or a date.

    >>> _retry_after_s("120"), _retry_after_s("soon")
    (120.0, None)
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def below_http(error: aiohttp.ClientError) -> Failed:
    """The class of what went wrong below HTTP."""
    said = type(error).__name__
    inner = error.__cause__ or error.__context__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failed("dns_failed", str(error.os_error)[:200], is_worth_retrying=True)
    if isinstance(error, aiohttp.ClientSSLError) or isinstance(inner, ssl.SSLError):
        return Failed("tls_failed", _tls_detail(inner) or said)
    if isinstance(error, aiohttp.ClientConnectionError):
        return Failed("connection_failed", said, is_worth_retrying=True)
    return Failed("connection_failed", said)


def _tls_detail(error: BaseException | None) -> str | None:
    """What OpenSSL has against a certificate, or its name for what else went wrong."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason if isinstance(error, ssl.SSLError) else None


def _is_mismatch(declared: str | None, mime: str) -> bool:
    """Whether a server declares another type than the bytes have.

    >>> _is_mismatch("image/jpg; charset=binary", "image/jpeg"), _is_mismatch(None, "image/png")
    (False, True)
    """
    kind = (declared or "").partition(";")[0].strip().lower()
    return _ALIASES.get(kind, kind) != mime


_ALIASES: Final = {  # names in use beside the registered ones
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
}
