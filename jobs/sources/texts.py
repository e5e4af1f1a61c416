"""What a dump or an error says, as texts that can be stored."""

from typing import Final

DETAIL_CHARS: Final = 500  # chosen: enough to say what, too little to carry content


def printable(text: str) -> str:
    r"""The text with what is not valid Unicode escaped, so that it can be stored.

    >>> printable("a\udcff")
    'a\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def said(error: Exception) -> str:
    """What an error says, as the detail of an entry.

    >>> said(OSError("the stream ends early"))
    'OSError: the stream ends early'
    """
    return printable(f"{type(error).__name__}: {error}")[:DETAIL_CHARS]
