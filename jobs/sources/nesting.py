"""HTML that no parser needs more than linear time and memory for: hostile nesting taken out.

The HTML Standard's tree construction is quadratic by its own rules. For most start and end tags
the open elements are searched, and each unclosed formatting element is opened anew in each
paragraph: 63 kB of `<p><font a=1><p><font a=2>...` took 9 s and 3 GB, measured.
"""

import re
from typing import Final

# Marks a name as a plain one. A noncharacter, never to be interchanged: Unicode §23.7.
_MARK: Final = "\ufdd0"
_DEPTH: Final = 512  # Blink opens no element deeper: kMaximumHTMLParserDOMTreeDepth
_TAG: Final = re.compile(r"<(/?)([A-Za-z][^\s/>]*)")
# HTML Standard §13.2.4.3, the formatting elements.
_FORMATTING: Final = frozenset(
    [
        "a",
        "b",
        "big",
        "code",
        "em",
        "font",
        "i",
        "nobr",
        "s",
        "small",
        "strike",
        "strong",
        "tt",
        "u",
    ]
)
# Elements that cannot stand in themselves without one that is counted between: void ones, those
# that the next of their kind ends, and those whose content is no markup.
_SHALLOW: Final = frozenset(
    [
        "area",
        "base",
        "basefont",
        "bgsound",
        "br",
        "col",
        "embed",
        "frame",
        "hr",
        "image",
        "img",
        "input",
        "keygen",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
        "caption",
        "colgroup",
        "dd",
        "dt",
        "li",
        "optgroup",
        "option",
        "p",
        "rb",
        "rp",
        "rt",
        "rtc",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "iframe",
        "noembed",
        "noframes",
        "plaintext",
        "script",
        "style",
        "textarea",
        "title",
        "xmp",
        "body",
        "head",
        "html",
    ]
)
# A tag so long is looked at for its attributes: each is compared with all before it, and 100,000
# took 17 s. The longest alt texts are shorter.
_LONG_CHARS: Final = 100_000
_ATTRIBUTE: Final = re.compile(
    r"[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>\"'][^\s>]*+)?)?"
)
_ATTRIBUTES: Final = 1000  # chosen: no page that means it has so many on one element


def shallow(source: str) -> str:
    """The page with formatting elements made plain, and none opened deeper than 512.

    What stands in an element that is not opened stays. `restored` takes the marks off again.

    >>> restored(shallow("<div><b>bold</b></div>"))
    '<div><b>bold</b></div>'
    """
    open_count: dict[str, int] = {}
    closed_count: dict[str, int] = {}
    depth = {True: 0, False: 0}

    def tag(match: re.Match[str]) -> str:
        slash, name = match[1], match[2].lower()
        if name in _SHALLOW:
            return match[0]
        is_formatting = name in _FORMATTING
        mark = _MARK if is_formatting else ""
        if "svg" in open_count and name != "svg":  # `<path/>` is closed there, elsewhere it is not
            return match[0] + mark
        if not slash:
            if depth[is_formatting] >= _DEPTH:
                closed_count[name] = closed_count.get(name, 0) + 1
                return f"<!{_MARK}{match[2]}"  # a comment for the parser: §13.2.5.42
            depth[is_formatting] += 1
            open_count[name] = open_count.get(name, 0) + 1
        elif closed_count.get(name):
            closed_count[name] -= 1
            return f"<!{_MARK}/{match[2]}"
        elif name in open_count:
            depth[is_formatting] -= 1
            open_count[name] -= 1
            if not open_count[name]:
                del open_count[name]
        return match[0] + mark

    return _TAG.sub(tag, source)


def with_few_attributes(source: str) -> str:
    """The page with each very long tag cut behind its thousandth attribute.

    >>> source = "<p " + "a " * 100_000 + ">text"
    >>> len(with_few_attributes(source))
    2008
    """
    pieces, kept, start = [], 0, 0
    for piece in source.split(">"):
        end = start + len(piece)
        name = _TAG.search(source, max(start, kept), end) if len(piece) >= _LONG_CHARS else None
        start = end + 1
        if name is None:
            continue
        position, count, cut = name.end(), 0, None
        while attribute := _ATTRIBUTE.match(source, position):
            position, count = attribute.end(), count + 1
            if count == _ATTRIBUTES:
                cut = position
        if cut is not None:
            pieces.append(source[kept:cut])
            kept = position
    return "".join([*pieces, source[kept:]])


def restored(text: str) -> str:
    """A text or name that came out of a page, without the marks that `shallow` has set."""
    if _MARK not in text:
        return text
    return text.replace(f"<!{_MARK}", "<").replace(_MARK, "")
