"""The text that the bytes of a web page stand for, by the rules of the WHATWG Encoding Standard."""

import re
from encodings.aliases import aliases
from typing import Final

# Python's name of an encoding -> the codec that reads it as browsers do (Encoding Standard §4.2:
# a label often means a superset of what it names). What stands not here is no encoding of the web.
_CODECS: Final = {
    "utf_8": "utf_8",
    "utf_16": "utf_16_le",
    "utf_16_be": "utf_16_be",
    "utf_16_le": "utf_16_le",
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "big5hkscs": "big5hkscs",
    "shift_jis": "cp932",
    "cp932": "cp932",
    "euc_jp": "euc_jp",
    "iso2022_jp": "iso2022_jp",
    "euc_kr": "cp949",
    "cp949": "cp949",
    **{f"iso8859_{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"cp{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
    "koi8_r": "koi8_r",
    "koi8_u": "koi8_u",
    "mac_roman": "mac_roman",
    "mac_cyrillic": "mac_cyrillic",
}
# A closed table: a page's label never reaches Python's own search for codecs.
_LABELS: Final = {
    **{alias: _CODECS[name] for alias, name in aliases.items() if name in _CODECS},
    **_CODECS,
    "windows_874": "cp874",
    "iso_8859_8_i": "iso8859_8",
}
_MARKS: Final = (  # §6.1 "BOM sniff"
    (b"\xef\xbb\xbf", "utf_8"),
    (b"\xfe\xff", "utf_16_be"),
    (b"\xff\xfe", "utf_16_le"),
)
_PRESCAN_BYTES: Final = 1024  # HTML Standard §13.2.3.2: where a page must name its encoding
_META: Final = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)


def codec(label: str | None) -> str | None:
    """The codec that a label means; null where it is none of the web's.

    >>> codec("ISO-8859-1"), codec("x-sjis"), codec("rot13")
    ('cp1252', 'cp932', None)
    """
    name = (label or "").strip().lower().removeprefix("x-").replace("-", "_")
    return _LABELS.get(name)


def decoded(content: bytes, declared: str | None = None) -> str:
    """The text of a page; never fails, what cannot be read becomes U+FFFD.

    Args:
        content: the page.
        declared: the charset that HTTP names. A byte order mark goes before it; the page's own
            `<meta>` comes after it; UTF-8 is the last.

    >>> decoded("café".encode("latin-1"), "latin1")
    'café'
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    found = codec(declared) or _of_meta(content[:_PRESCAN_BYTES]) or "utf_8"
    return content.decode(found, "replace")


def _of_meta(start: bytes) -> str | None:
    match = _META.search(start)
    found = codec(match[1].decode("latin-1")) if match else None
    # A page that can be read this far is not in UTF-16, whatever it says: §13.2.3.2, step 9.
    return "utf_8" if found is not None and found.startswith("utf_16") else found
