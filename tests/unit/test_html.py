import importlib.util
import re
import time
from html import escape
from pathlib import Path
from urllib.parse import urljoin

import lxml.html
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from jobs.sources import html
from jobs.sources.charset import codec, decoded
from jobs.sources.html import Page, absolute, page
from jobs.sources.nesting import restored, shallow
from jobs.sources.srcset import largest

URL = "http://a.org/dir/page.html"


def read(html: str, **more: object) -> Page:
    return page(html.encode("utf-8", "surrogatepass"), URL, "utf-8", **more)  # type: ignore[arg-type]


def pairs(html: str) -> list[tuple[str, str, str]]:
    return [(pair.url, pair.text, pair.kind) for pair in read(html).pairs]


def items(html: str) -> list[tuple[str, str | None]]:
    return [
        (item.kind, item.text if item.kind == "text" else item.url)
        for item in read(html).document.items
    ]


def by_lxml(html: str) -> set[tuple[str, str]]:
    """What another parser and other code find: each image with alt text and a plain address."""
    tree = lxml.html.document_fromstring(html)
    bases = tree.xpath("//base/@href")
    base = urljoin(URL, bases[0]) if bases else URL
    found = set()
    for image in tree.xpath("//img[@alt and @src]"):
        alt = re.sub(r"\s+", " ", image.get("alt")).strip()
        url = urljoin(base, image.get("src").strip().replace(" ", "%20"))
        if alt and url.startswith(("http://", "https://")):
            found.add((url, alt))
    return found


WORDS = [
    "fox",
    "Straße",
    "狐狸",
    "лиса",
    "🦊",
    "a&b",
    "<tag>",
    '"quoted"',
    "it's",
    "Ω≈ç",
    "👩‍👩‍👧",
    "x\ny",
]


def generated(seed: int, images: int) -> str:
    """A page of images in blocks, tables, links and figures, among words of many scripts."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), count))

    blocks = []
    for number in range(images):
        size = 65_536 if number == 7 else int(rng.integers(0, 12))
        alt = (words(size) * 2)[:65_536] if number == 7 else words(size)
        where = rng.choice(["/abs", "rel/x", "../up", "http://b.org/i", "//c.org/i", "?q=1&amp;r"])
        image = f'<img class="c" src="{where}{number}.jpg" alt="{escape(alt)}">'
        shape = rng.integers(0, 5)
        blocks.append(
            [
                f"<p>{escape(words(4))} {image}</p>",
                f"<div><b><a href='x'>{image}</a></b></div>",
                f"<ul><li>{image}<li>{escape(words(2))}</ul>",
                f"<table><tr><td>{image}</td><td>{escape(words(2))}</td></tr></table>",
                f"<nav><span>{image}</span></nav>",
            ][shape]
        )
    base = "<base href='/other/'>" if seed % 2 else ""
    return f"<!doctype html><html><head>{base}<title>t</title></head><body>{''.join(blocks)}</body>"


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_are_those_that_another_parser_finds(seed: int) -> None:
    html = generated(seed, images=300)

    found = {(url, text) for url, text, kind in pairs(html) if kind == "alt"}

    assert found == by_lxml(html)
    assert len(found) > 200
    assert any(len(text) > 60_000 for _, text in found)


def test_on_pages_of_installed_packages_too() -> None:
    folders = [importlib.util.find_spec(name) for name in ("importlinter", "coverage", "idlelib")]
    roots = [Path(str(spec.origin)).parent for spec in folders if spec and spec.origin]
    compared = 0
    for path in (path for root in roots for path in root.rglob("*.html")):
        html = path.read_text("utf-8")
        found = {(pair.url, pair.text) for pair in read(html).pairs if pair.kind == "alt"}
        assert found == by_lxml(html), path.name
        compared += 1
    assert compared


def test_whitespace_is_collapsed_and_entities_are_read() -> None:
    assert pairs("<img src=/a.jpg alt=' two&nbsp;\n words &amp; &#x1F98A; '>") == [
        ("http://a.org/a.jpg", "two words & 🦊", "alt")
    ]
    assert pairs("<img src=/a.jpg alt=' &nbsp;'><img src=/b.jpg>") == []


def test_markup_in_an_alt_text_stays_as_it_is() -> None:
    assert pairs("<img src=/a.jpg alt='<b>x</b> <div>'>")[0][1] == "<b>x</b> <div>"
    deep = "<div>" * 600
    assert pairs(f"{deep}<img src=/a.jpg alt='<b>x</b> <div></div>'>")[0][1] == (
        "<b>x</b> <div></div>"
    )


def test_the_same_url_and_text_are_one_pair() -> None:
    once = "<img src=a.jpg alt=x>"
    assert len(pairs(once + once + "<img src=a.jpg alt=y>")) == 2


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("", "http://a.org/dir/i.jpg"),
        ("<base href='/b/'>", "http://a.org/b/i.jpg"),
        ("<base target=x><base href='https://c.org'><base href='/b/'>", "https://c.org/i.jpg"),
        ("<base href='data:text/plain,x'>", "http://a.org/dir/i.jpg"),
        ("<base href='http://['>", "http://a.org/dir/i.jpg"),
    ],
)
def test_urls_are_relative_to_the_first_base(base: str, expected: str) -> None:
    assert pairs(f"{base}<img src=i.jpg alt=x>")[0][0] == expected


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,AA",
        "javascript:x()",
        "blob:http://a/1",
        "file:///etc/x",
        "#a",
        " ",
        "http://[::1",
        "ftp://a.org/x",
        "http://",
        "http://" + "a" * 9000,
    ],
)
def test_other_urls_give_no_pair_but_are_counted(url: str) -> None:
    found = read(f"<p>x<img src='{url}' alt=x><img src=ok.jpg alt=y>")

    assert [pair.text for pair in found.pairs] == ["y"]
    assert found.images_without_url == 1
    assert len(found.document.items) == 2


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("src=a.jpg data-src=b.jpg", "a.jpg"),
        ("data-src=b.jpg", "b.jpg"),
        ("src='data:image/gif;base64,R0' data-original=c.jpg", "c.jpg"),
        ("src='' data-lazy-src=d.jpg srcset='e.jpg 2x'", "d.jpg"),
        ("srcset='e.jpg 100w, f.jpg 300w, g.jpg 200w'", "f.jpg"),
        ("data-srcset='e.jpg, f.jpg 2x'", "f.jpg"),
        ("src=a.jpg srcset='e.jpg 2x'", "a.jpg"),
    ],
)
def test_an_address_kept_for_later_stands_in_for_a_placeholder(
    attributes: str, expected: str
) -> None:
    assert pairs(f"<img {attributes} alt=x>")[0][0] == f"http://a.org/dir/{expected}"


def test_the_sources_of_a_picture_stand_in_too_but_only_for_its_own_image() -> None:
    html = "<picture><source srcset='a.webp 1x, b.webp 2x'><img alt=x></picture><img alt=y>"
    assert pairs(html) == [("http://a.org/dir/b.webp", "x", "alt")]
    assert read(html).images_without_url == 1


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("", None),
        (",,,", None),
        ("a", "a"),
        ("a,", "a"),
        ("a,b 2x", "a,b"),
        ("a, b 2x", "b"),
        ("a 1.5x,b 1x", "a"),
        ("a 100w, b 200w 10h", "b"),
        ("a 1x 2x, b", "b"),
        ("a 100w 1x, b", "b"),
        ("a 10h, b", "b"),
        ("a 2q, b", "b"),
        ("a (1x, c 9x), b", "b"),
        ("a -1x, b .5x", "b"),
        ("data:image/png;base64,AA 1x, b 2x", "b"),
    ],
)
def test_the_largest_of_a_srcset_is_found_by_the_standards_rules(
    srcset: str, expected: str | None
) -> None:
    assert largest(srcset) == expected


def test_a_figure_gives_its_caption_to_its_own_images() -> None:
    html = (
        "<figure><img src=a.jpg alt='A fox'><figcaption>The <b>red</b> fox<p>at dawn</figcaption>"
        "</figure><img src=b.jpg alt=other>"
    )
    assert pairs(html) == [
        ("http://a.org/dir/a.jpg", "A fox", "alt"),
        ("http://a.org/dir/a.jpg", "The red fox at dawn", "figcaption"),
        ("http://a.org/dir/b.jpg", "other", "alt"),
    ]


def test_a_caption_that_repeats_the_alt_text_gives_no_second_pair() -> None:
    html = "<figure><img src=a.jpg alt='A fox'><figcaption> A  fox</figcaption></figure>"
    assert [kind for _, _, kind in pairs(html)] == ["alt"]
    assert [kind for _, _, kind in pairs(html.replace("alt='A fox'", ""))] == ["figcaption"]


def test_a_caption_ends_with_its_element() -> None:
    html = "<figure><figcaption>above</figcaption><img src=a.jpg>below</figure>"
    assert [text for _, text, _ in pairs(html)] == ["above"]


def test_nested_figures_keep_their_captions_apart() -> None:
    inner = "<figure><img src=b.jpg><figcaption>inner</figcaption></figure>"
    html = f"<figure><img src=a.jpg>{inner}<figcaption>outer</figcaption></figure>"
    assert [(url[-5:], text) for url, text, _ in pairs(html)] == [
        ("b.jpg", "inner"),
        ("a.jpg", "outer"),
    ]


def test_the_document_has_texts_and_images_in_the_order_of_the_page() -> None:
    html = (
        "<title> The\n title</title><h1>Head</h1><p>one <b>two</b>&nbsp;three<img src=a.jpg alt=A>"
        "four<br>five</p><ul><li>x<li>y</ul><table><tr><td>1<td>2</table><pre>\n a\n  b</pre>tail"
    )
    assert items(html) == [
        ("text", "Head"),
        ("text", "one two three"),
        ("image", "http://a.org/dir/a.jpg"),
        ("text", "four five"),
        ("text", "x"),
        ("text", "y"),
        ("text", "1"),
        ("text", "2"),
        ("text", " a\n  b"),
        ("text", "tail"),
    ]
    assert read(html).document.title == "The title"


def test_what_is_around_the_content_is_no_part_of_the_document_but_its_images_are_pairs() -> None:
    for tag in ("nav", "header", "footer", "aside", "noscript", "div hidden"):
        html = f"<p>in<{tag}>out<img src=a.jpg alt=x></{tag.split()[0]}><p>on"
        assert items(html) == [("text", "in"), ("text", "on")], tag
        assert len(pairs(html)) == 1, tag
    for tag in ("script", "style", "template", "textarea"):
        html = f"<p>in<{tag}>out<img src=a.jpg alt=x></{tag}><p>on"
        assert items(html) == [("text", "in"), ("text", "on")], tag
        assert pairs(html) == [], tag


def test_a_form_around_the_content_does_not_hide_it() -> None:
    html = "<form id=aspnetForm><input type=hidden value=x><p>in<img src=a.jpg></form>"
    assert items(html) == [("text", "in"), ("image", "http://a.org/dir/a.jpg")]


def test_the_xpath_leads_to_the_image() -> None:
    html = "<html><head></head><body><div><p>x</p></div><div><a><img src=1></a><img src=2></div>"
    tree = lxml.html.document_fromstring(html)

    images = [item for item in read(html).document.items if item.kind == "image"]

    for item in images:
        (element,) = tree.xpath(str(item.xpath))
        assert str(item.url).endswith(element.get("src"))
    assert len(images) == 2


def test_the_main_text_leaves_the_frame_of_the_page_out() -> None:
    sentence = "The red fox crosses the field at dawn, and nobody sees it but the owl. "
    html = (
        f"<html><body><nav><a href=/>Home</a></nav><article><h1>Fox</h1><p>{sentence * 5}</p>"
        f"<p>{sentence * 4}</p></article><footer>imprint</footer></body></html>"
    )
    assert sentence.strip() in str(read(html, with_main_text=True).main_text)
    assert "imprint" not in str(read(html, with_main_text=True).main_text)
    assert read(html).main_text is None
    assert read("<p>x", with_main_text=True).main_text in (None, "x")


@pytest.mark.parametrize(
    ("content", "declared", "expected"),
    [
        ("é".encode(), None, "é"),
        ("é".encode("latin-1"), "ISO-8859-1", "é"),
        (b"\x80", "us-ascii", "€"),
        ("狐".encode("gb18030"), "GB2312", "狐"),
        ("狐".encode("shift_jis"), " x-sjis ", "狐"),
        ("лис".encode("koi8-r"), "koi8-r", "лис"),
        (b"\xef\xbb\xbf" + "é".encode(), "latin-1", "é"),
        (b"\xff\xfe" + "é".encode("utf-16-le"), None, "é"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "utf-8", "é"),
        (b"\xff!", "no-such", "\ufffd!"),
        (b"\xff!", "rot13", "\ufffd!"),
        (b"\xff!", "utf-7", "\ufffd!"),
    ],
)
def test_bytes_are_read_as_browsers_read_them(
    content: bytes, declared: str | None, expected: str
) -> None:
    assert decoded(content, declared) == expected


def test_the_pages_own_word_on_its_encoding_comes_after_https() -> None:
    for meta in (
        b"<meta charset=windows-1251>",
        b'<META http-equiv="Content-Type" content="text/html; charset=windows-1251">',
    ):
        assert decoded(meta + "лиса".encode("cp1251")).endswith("лиса")
        assert decoded(meta + "лиса".encode(), "utf-8").endswith("лиса")
    assert decoded(b"<meta charset=utf-16>x") == "<meta charset=utf-16>x"


def test_labels_mean_what_the_standard_says() -> None:
    labels = ["utf8", "latin1", "ascii", "windows-1252", "iso-8859-9", "tis-620", "windows-874"]
    labels += ["gbk", "big5", "euc-kr", "ks_c_5601-1987", "macintosh", "x-mac-cyrillic", "koi8-u"]
    assert all(codec(label) for label in labels)


HOSTILE = {
    "nested blocks": "<div>" * 100_000 + "<img src=a.jpg alt=x>",
    "nested lists": "<ul><li>" * 100_000 + "<img src=a.jpg alt=x>",
    "nested tables": "<table><tr><td>" * 50_000 + "<img src=a.jpg alt=x>",
    "nested inline": "<b><i><u>" * 50_000 + "<img src=a.jpg alt=x>",
    "nested svg": "<svg><g>" * 50_000 + "</svg><img src=a.jpg alt=x>",
    "formatting bomb": "".join(f"<p><font a={i}>" for i in range(20_000)) + "<img src=a.jpg alt=x>",
    "blocks in depth": "<div>" * 20_000 + "<div></div>" * 50_000 + "<img src=a.jpg alt=x>",
    "end tags": "<div>" * 20_000 + "</p>" * 50_000 + "<img src=a.jpg alt=x>",
    "attributes": "<p " + " ".join(f"a{i}=1" for i in range(100_000)) + "><img src=a.jpg alt=x>",
    "wide": "<img src=a.jpg alt=x>" * 20_000,
    "deep and wide": "<div>" * 1000 + "<img src=a.jpg alt=x>" * 20_000,
    "figures": "<figure><figcaption>x" * 20_000 + "<img src=a.jpg alt=x>",
    "open tags": "<img src=a.jpg alt=x>" + "<a" * 500_000,
    "paragraphs": "<img src=a.jpg alt=x>" + "<table><tr><td>a b<td>c<pre>d</pre></table>" * 6_000,
    "srcset": "<img src=a.jpg alt=x><img srcset='" + "a (," * 200_000 + "'>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_are_read_in_time(name: str) -> None:
    start = time.process_time()

    found = read(HOSTILE[name], with_main_text=True)

    # chosen: ten times what it takes; the parser alone takes up to minutes for most of them.
    assert time.process_time() - start < 5
    assert ("http://a.org/dir/a.jpg", "x") in {(pair.url, pair.text) for pair in found.pairs}


def test_a_formatting_bomb_does_not_grow() -> None:
    bomb = "".join(f"<p><font a={i}>x" for i in range(3000))
    assert len(read(bomb).document.items) == 3000
    tree = LexborHTMLParser(shallow(bomb))
    assert tree.root is not None
    assert sum(1 for _ in tree.root.traverse()) < 10_000  # of the bomb itself: millions


@given(st.text(alphabet="<>/abdivpsvg =\"'!-", max_size=60))
def test_marks_are_taken_off_again(source: str) -> None:
    assert restored(shallow(source)) == source


TAGS = re.split(
    " (?=[<&])",
    "<p> <div> </div> <b> </b> <table> <td> </table> <svg> </svg> <template> </template> <select> "
    "<form> <pre> </pre> <figure> </figure> <figcaption> <picture> </picture> <a> </a> <noscript> "
    "<base href=x> <img src=a.jpg alt=x> <img srcset='a,b 2x' alt=y> <!-- --> <![CDATA[ <script> "
    "</script> <title> <frameset> <plaintext> <br/> <math><mi> &amp; &#xD800; &#0; <é <\0 <",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=5)), max_size=30).map("".join))
def test_no_markup_whatever_makes_the_reader_fail(html: str) -> None:
    found = page(html.encode("utf-8", "surrogatepass"), URL, None)

    for pair in found.pairs:
        assert pair.text == " ".join(pair.text.split()) != ""
        assert pair.url.startswith("http://a.org/")
        pair.text.encode("utf-8")
    for item in found.document.items:
        assert item.text or item.kind == "image"
        (item.text or "").encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-16", "shift_jis", "big5", "gbk"]))
def test_no_bytes_whatever_make_the_reader_fail(content: bytes, charset: str | None) -> None:
    page(content, URL, charset)
    page(content, "", charset)


def test_a_page_without_an_address_has_no_relative_pairs() -> None:
    assert absolute("", "a.jpg") is None
    assert absolute("", "http://b.org/a.jpg") == "http://b.org/a.jpg"


def test_images_of_one_picture_do_not_each_look_at_all_its_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at = 0
    real = html.absolute

    def counted(base: str, url: str | None) -> str | None:
        nonlocal looked_at
        looked_at += 1
        return real(base, url)

    monkeypatch.setattr(html, "absolute", counted)
    count = 1000
    content = "<picture>" + "<source srcset='data:a 1w'><img alt=b>" * count
    found = page(content.encode(), "http://a.org/", "utf-8")

    assert found.images_without_url == count
    assert looked_at < 100 * count
