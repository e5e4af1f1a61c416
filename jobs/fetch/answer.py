"""What a URL gave: its media or why there is none, with all that the server said."""

from dataclasses import dataclass
from datetime import datetime

from schemas import fetches


@dataclass(frozen=True, kw_only=True)
class Request:
    """A URL to fetch.

    Attributes:
        url: normalised.
        url_sha256: of that, hex.
        host: of that, ASCII.
        attempt: 0 the first time; one more at each retry.
    """

    url: str
    url_sha256: str
    host: str
    attempt: int = 0


@dataclass(kw_only=True)
class Answer:
    """What became of a request; filled in while it is under way.

    `outcome` is `ok`, a class of `schemas.error_classes` or a reason of `schemas.reject_reasons`.
    """

    request: Request
    outcome: str = fetches.OK
    detail: str | None = None
    matched: str | None = None
    http_status: int | None = None
    final_url: str | None = None
    redirects: int = 0
    tries: int = 0
    content_type: str | None = None
    is_type_mismatch: bool | None = None
    etag: str | None = None
    last_modified: str | None = None
    robots_tag: str | None = None
    tdm_reservation: str | None = None
    md5: str | None = None
    sha1: str | None = None
    media_sha256: str | None = None
    size_bytes: int | None = None
    mime: str | None = None
    header_width_px: int | None = None
    header_height_px: int | None = None
    fetched_at: datetime | None = None
    duration_s: float | None = None
    content: bytes | None = None


class Failed(Exception):
    """A request that gives no media, or not now.

    Attributes:
        outcome: a class or a reason.
        matched: what stands on a blocklist.
        is_worth_retrying: another try of this run may help.
        retry_after_s: how long the server asks to be left alone, if it does.
    """

    def __init__(
        self,
        outcome: str,
        detail: str | None = None,
        *,
        matched: str | None = None,
        is_worth_retrying: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail
        self.matched = matched
        self.is_worth_retrying = is_worth_retrying
        self.retry_after_s = retry_after_s
