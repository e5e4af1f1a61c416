"""The `srcset` attribute of images: which of its pictures is the largest."""

import re
from typing import Final

# HTML Standard §4.8.4.2.2 "Parsing a srcset attribute"; possessive, so that time stays linear.
_URL: Final = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r]++)")
_DESCRIPTORS: Final = re.compile(r"(?:[^,(]++|\([^)]*+\)?)*+")
# A number of more digits is no size of a picture; it also costs nothing to read.
_DESCRIPTOR: Final = re.compile(r"(\d{1,9})([wh])|((?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}))(x)")


def largest(srcset: str) -> str | None:
    """The URL of the widest picture, else of the densest; the first of equals.

    >>> largest("small.jpg 320w, large.jpg 1280w")
    'large.jpg'
    >>> largest("a.jpg, a@2x.jpg 2x")
    'a@2x.jpg'
    """
    best: tuple[float, float] | None = None
    url = None
    position = 0
    while match := _URL.match(srcset, position):
        candidate, position = match[1], match.end()
        descriptors = ""
        if candidate.endswith(","):
            candidate = candidate.rstrip(",")
        else:
            found = _DESCRIPTORS.match(srcset, position)
            assert found is not None  # it matches nothing as well
            descriptors, position = found[0], found.end()
        size = _size(descriptors.split())
        if candidate and size is not None and (best is None or size > best):
            best, url = size, candidate
    return url


def _size(descriptors: list[str]) -> tuple[float, float] | None:
    """Width and density; null for what the standard drops as an error."""
    found: dict[str, float] = {}
    for descriptor in descriptors:
        match = _DESCRIPTOR.fullmatch(descriptor)
        if match is None:
            return None
        kind = match[2] or match[4]
        if kind in found:
            return None
        found[kind] = float(match[1] or match[3])
    if ("x" in found and len(found) > 1) or ("h" in found and "w" not in found):
        return None
    return found.get("w", 0.0), found.get("x", 1.0)
