"""The closed list of rules that turn an input away before it reaches bronze."""

from typing import Final

TOMBSTONED: Final = "tombstoned"
REJECT_REASONS: Final = {
    "opted_out": "the server says in X-Robots-Tag that the media must not be used so",
    "tdm_reserved": "the server reserves text and data mining (tdm-reservation: 1)",
    "robots_disallowed": "the host's robots.txt does not allow the fetch",
    "blocklisted": "the bytes, the URL or its domain stand on a blocklist; nothing of it is kept",
    TOMBSTONED: "taken down before; a re-crawl does not bring it back",
    "too_few_bytes": "media smaller than the configured limit",
    "too_few_pixels": "a shorter side below the configured limit, by the header",
    "aspect_ratio": "longer side to shorter side above the configured limit, by the header",
    "already_present": "taken earlier; the shard was read again",
}
