"""What counts as the address of something on the web."""

from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = frozenset({"http", "https"})


def is_web_url(url: str) -> bool:
    """Whether it can be parsed, is http or https, and names a host.

    >>> is_web_url("https://example.org/a b.jpg"), is_web_url("file:///etc/hostname")
    (True, False)
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed when asked for
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.hostname)
