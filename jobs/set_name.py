"""Names that people give to what becomes a table, a folder or a file."""

import re

from jobs.runtime.errors import ConfigError


def checked(what: str, name: str) -> str:
    """The name, if it can be one of a table and of a file on any system.

    Raises:
        ConfigError: it cannot.

    >>> checked("review", "banned_2026")
    'banned_2026'
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ConfigError(
            f"{what} got name {name!r}; allowed a small letter, then up to 39 of a-z, 0-9 and _"
        )
    return name
