"""An HTML page as a dump wants it: its images with their texts, and the page in reading order."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Literal
from urllib.parse import urljoin, urlsplit

import trafilatura
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from jobs.sources.charset import decoded
from jobs.sources.entry import Document, Item
from jobs.sources.nesting import restored, shallow, with_few_attributes
from jobs.sources.srcset import largest

# Where scripts that load images late keep the address until then, most used first: lazysizes
# (data-src), jquery.lazyload and WP Rocket (data-original, data-lazy-src), Jetpack
# (data-lazy-src, data-orig-file), Flickity (data-flickity-lazyload), older galleries (the rest).
_LAZY_URLS: Final = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-orig-file",
    "data-flickity-lazyload",
    "data-echo",
    "data-hi-res-src",
    "data-full-src",
)
_LAZY_SRCSETS: Final = ("data-srcset", "data-lazy-srcset", "data-flickity-lazyload-srcset")
_URL_CHARS: Final = 8000  # RFC 9110 §4.1: what all must at least support
# chosen: an XPath says where; a page of many deep images must not grow with the square of both
_XPATH_CHARS: Final = 1000
_SOURCES: Final = 64  # chosen: of one <picture>, ten times what the web's have
# chosen: each image of a figure gets its caption anew, and LAION cut captions at 2,000 characters
_CAPTION_CHARS: Final = 8000
_MAIN_TEXT_CHARS: Final = 1 << 20  # chosen: trafilatura took up to 5 s for so many, measured
# Its second opinions compare paragraphs with each other: of a page with 32,000 tags they took 10 s
# (measured). The web's have hundreds, long articles a few thousand.
_MAIN_TEXT_TAGS: Final = 10_000

# Never text of the page.
_UNSEEN: Final = frozenset(
    [
        "head",
        "iframe",
        "noembed",
        "noframes",
        "noscript",
        "script",
        "select",
        "style",
        "svg",
        "template",
        "textarea",
    ]
)
# Around the content rather than part of it. No form: ASP.NET's pages lie in one as a whole.
_APART: Final = frozenset(["aside", "footer", "header", "nav"])
# HTML Standard §15.3 "flow content": elements shown as blocks, and the cells of tables.
_BLOCKS: Final = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "listing",
        "main",
        "menu",
        "nav",
        "ol",
        "p",
        "plaintext",
        "pre",
        "search",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
        "xmp",
    ]
)

# It has something to say of each page that is not to its liking.
logging.getLogger("trafilatura").setLevel(logging.CRITICAL)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image of a page and a text that stands for it.

    Attributes:
        url: of the image, absolute, http or https.
        text: not empty, whitespace collapsed.
        kind: where the text stood.
    """

    url: str
    text: str
    kind: Literal["alt", "figcaption"]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page holds.

    Attributes:
        pairs: each (url, text) once, in the order of the page.
        document: texts and images of the content; may be without items.
        images_without_url: images that no http or https URL leads to.
        main_text: what trafilatura takes for the main text, if asked for and found.
    """

    pairs: tuple[Pair, ...]
    document: Document
    images_without_url: int
    main_text: str | None = None


def page(
    content: bytes, url: str, charset: str | None = None, *, with_main_text: bool = False
) -> Page:
    """What an HTML page holds; whatever the bytes are, it never fails.

    Args:
        content: the page.
        url: of the page; what its own URLs are relative to, unless it says otherwise.
        charset: what HTTP declares.
        with_main_text: whether trafilatura is asked too; that costs more than all the rest.

    >>> found = page(b"<p>A fox.<img src=fox.jpg alt='red  fox'>", "http://a.org/b/")
    >>> found.pairs
    (Pair(url='http://a.org/b/fox.jpg', text='red fox', kind='alt'),)
    >>> [item.text for item in found.document.items]
    ['A fox.', 'red fox']
    """
    source = with_few_attributes(decoded(content, charset))
    tree = LexborHTMLParser(shallow(source), options=LexborDocumentOptions.WO_EVENTS)
    walk = _Walk(_base(tree, url))
    if tree.root is not None:
        walk.run(tree.root)
    return Page(
        pairs=tuple(walk.pairs.values()),
        document=Document(items=tuple(walk.items), title=walk.title),
        images_without_url=walk.images_without_url,
        main_text=_main_text(source) if with_main_text else None,
    )


def collapsed(text: str) -> str:
    r"""The text with each run of whitespace made one space, and none around it.

    >>> collapsed(" a\n\tb\u00a0 c ")
    'a b c'
    """
    return " ".join(text.split())


def absolute(base: str, url: str | None) -> str | None:
    r"""The URL as browsers resolve it; null where it is none of http or https.

    >>> absolute("http://a.org/b/", "..\\c d.jpg")
    'http://a.org/c%20d.jpg'
    >>> absolute("http://a.org/b/", "data:image/gif;base64,R0lGOD")
    """
    if url is None or len(url) > _URL_CHARS:
        return None
    # URL Standard §4.4: spaces around and line breaks within are dropped, "\" is taken for "/".
    stripped = url.strip().translate({9: None, 10: None, 13: None})
    path, mark, query = stripped.partition("?")
    if not stripped or stripped.startswith("#"):
        return None
    try:
        joined = urljoin(base, path.replace("\\", "/") + mark + query).replace(" ", "%20")
        parts = urlsplit(joined)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # brackets or a port that make no address
        return None
    # "http://" alone leads back to the page, which is no image.
    return joined if is_web and joined != base and len(joined) <= _URL_CHARS else None


def _base(tree: LexborHTMLParser, url: str) -> str:
    element = tree.css_first("base[href]")
    href = None if element is None else element.attributes.get("href")
    return absolute(url, restored(href) if href else None) or url


def _main_text(source: str) -> str | None:
    if len(source) > _MAIN_TEXT_CHARS:
        return None
    try:
        is_fast = source.count("<") > _MAIN_TEXT_TAGS
        found = trafilatura.extract(
            source, favor_precision=True, include_comments=False, fast=is_fast
        )
        return found or None
    except Exception:  # it raises whatever its parsers do; the page has its items all the same
        return None


@dataclass
class _Figure:
    images: list[tuple[str, str]] = field(default_factory=list)
    caption: list[str] | None = None


@dataclass
class _Open:
    """An element whose children are being met."""

    node: LexborNode
    tag: str
    step: str
    path_chars: int
    is_unseen: bool
    is_apart: bool
    caption: list[str] | None = None
    children: dict[str, int] = field(default_factory=dict)


class _Walk:
    """Meets every node of a page once, in the order of the page, without recursion."""

    def __init__(self, base: str) -> None:
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.items: list[Item] = []
        self.title: str | None = None
        self.images_without_url = 0
        self._base = base
        self._open: list[_Open] = []
        self._figures: list[_Figure] = []
        self._captions: list[list[str]] = []
        self._sources: list[list[str]] = []  # of each open <picture>
        self._words: list[str] = []
        self._pre = 0
        self._roots: dict[str, int] = {}

    def run(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        while node is not None or self._open:
            if node is None:
                node = self._leave().next
                continue
            tag = restored(node.tag or "-")
            if tag == "-text":
                self._text(node.text_content or "")
            elif not tag.startswith("-"):
                self._enter(node, tag)
                node = node.first_child
                continue
            node = node.next
        self._flush()

    def _enter(self, node: LexborNode, tag: str) -> None:
        parent = self._open[-1] if self._open else None
        children = parent.children if parent else self._roots
        children[tag] = children.get(tag, 0) + 1
        step = f"/{tag}[{children[tag]}]"
        attributes = node.attributes
        here = _Open(
            node=node,
            tag=tag,
            step=step,
            path_chars=(parent.path_chars if parent else 0) + len(step),
            is_unseen=tag in _UNSEEN or (parent is not None and parent.is_unseen),
            is_apart=(
                tag in _APART or "hidden" in attributes or (parent is not None and parent.is_apart)
            ),
        )
        self._boundary(tag)
        self._open.append(here)
        if tag == "img":
            self._image(attributes, here)
        elif tag == "title" and self.title is None and parent is not None and parent.tag == "head":
            self.title = collapsed(restored(node.text())) or None
        elif tag == "figure":
            self._figures.append(_Figure())
        elif tag == "figcaption" and self._figures and self._figures[-1].caption is None:
            here.caption = self._figures[-1].caption = []
            self._captions.append(here.caption)
        elif tag == "picture":
            self._sources.append([])
        elif tag == "source" and self._sources and len(self._sources[-1]) < _SOURCES:
            self._sources[-1] += _values(attributes, ("srcset", *_LAZY_SRCSETS))
        elif tag == "pre":
            self._pre += 1
        elif tag == "br":
            self._text("\n")

    def _leave(self) -> LexborNode:
        here = self._open[-1]
        self._boundary(here.tag)
        self._open.pop()
        if here.tag == "figure":
            self._close(self._figures.pop())
        elif here.tag == "picture":
            self._sources.pop()
        elif here.tag == "pre":
            self._pre -= 1
        if here.caption is not None:
            self._captions.pop()
        return here.node

    def _boundary(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._flush()
            if self._captions:
                self._captions[-1].append(" ")

    def _text(self, text: str) -> None:
        here = self._open[-1]
        if here.is_unseen:
            return
        if self._captions:
            self._captions[-1].append(text)
        if not here.is_apart:
            self._words.append(text)

    def _flush(self) -> None:
        text = restored("".join(self._words))
        self._words.clear()
        # Lines and columns are what a <pre> is for.
        text = text.strip("\n").rstrip() if self._pre else collapsed(text)
        if text:
            self.items.append(Item(kind="text", text=text))

    def _image(self, attributes: Mapping[str, str | None], here: _Open) -> None:
        url = self._url(attributes)
        if url is None:
            self.images_without_url += 1
            return
        alt = collapsed(restored(attributes.get("alt") or ""))
        self._pair(url, alt, "alt")
        if self._figures:
            self._figures[-1].images.append((url, alt))
        if not (here.is_unseen or here.is_apart):
            self._flush()
            is_short = here.path_chars <= _XPATH_CHARS
            xpath = "".join(element.step for element in self._open) if is_short else None
            self.items.append(Item(kind="image", text=alt or None, url=url, xpath=xpath))

    def _url(self, attributes: Mapping[str, str | None]) -> str | None:
        plain = _values(attributes, ("src", *_LAZY_URLS))
        sets = _values(attributes, ("srcset", *_LAZY_SRCSETS))
        sets += self._sources[-1] if self._sources else []
        found = (absolute(self._base, value) for value in plain)
        others = (absolute(self._base, largest(value)) for value in sets)
        return next((url for url in chain(found, others) if url is not None), None)

    def _close(self, figure: _Figure) -> None:
        caption = collapsed(restored("".join(figure.caption or ())))
        if len(caption) > _CAPTION_CHARS:
            return
        for url, _alt in figure.images:
            self._pair(url, caption, "figcaption")

    def _pair(self, url: str, text: str, kind: Literal["alt", "figcaption"]) -> None:
        if text:
            self.pairs.setdefault((url, text), Pair(url=url, text=text, kind=kind))


def _values(attributes: Mapping[str, str | None], names: tuple[str, ...]) -> list[str]:
    return [restored(value) for name in names if (value := attributes.get(name))]
