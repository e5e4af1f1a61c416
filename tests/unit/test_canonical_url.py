"""Spellings of one resource have one form, two resources never do, and nothing raises."""

import hashlib
import time
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.fetch.urls import parse
from jobs.sources.entry import EntryRefused
from udfs.canonical_url import (
    MAX_CHARS,
    TRACKING,
    TRACKING_PREFIXES,
    canonical_url,
    url_fingerprint,
)

EQUAL = {
    "http://a.example/": [
        "http://a.example",
        "HTTP://A.EXAMPLE/",
        "http://a.example.",
        "http://a.example:80",
        "http://a.example:0080/",
        "http://a.example:/",
        "http://%61.example/",
        " \thttp://a.exa\nmple/\r\n",
        "http:\\\\a.example\\",
        "http:a.example",
        "http:////a.example/",
        "http://a.example/#",
        "http://a.example/#!/x",
        "http://a.example/?",
        "http://a.example/?&&",
        "http://a.example/?utm_source=x",
        "http://a.example/?UTM_Medium&gclid=",
        "http://a.example/?utm%5fsource=x#y",
        "http://a.example/..",
        "http://a.example/./",
        "http://a.example/b/..",
        "http://a.example/b/%2E%2e/",
        "http://a.example?fbclid=1",
    ],
    "https://a.example/b//c?q=1&q=2": [
        "https://a.example:443/b//c?q=1&q=2",
        "https://a.example/x/../b//./c?&q=1&&q=2&",
        "https://a.example/b//c?mc_eid=7&q=1&_hsenc=z&q=2&utm_id=",
    ],
    "http://a.example/%C3%A4~%2F%25": [
        "http://a.example/ä%7E%2f%25",
        "http://a.example/%c3%a4~%2F%",
    ],
    "http://a.example/%7B%5D?%7C%27": ["http://a.example/{]?|'", "http://a.example/%7b%5d?%7c%27"],
    "http://xn--bcher-kva.example/": ["http://Bücher.example", "http://BÜCHER。example/"],
    "http://[2001:db8::1]/": ["http://[2001:DB8:0:0::1]:80/"],
    "http://127.0.0.1:81/": ["http://127.0.0.1:081"],
}
DIFFERENT = [
    "http://a.example/",
    "https://a.example/",
    "http://www.a.example/",
    "http://a.example:8080/",
    "http://a.example/a",
    "http://a.example/A",
    "http://a.example/a/",
    "http://a.example/a//",
    "http://a.example//a",
    "http://a.example/a?",  # as without: only its neighbours differ from it
    "http://a.example/a?b",
    "http://a.example/a?b=",
    "http://a.example/a?b=1&c=2",
    "http://a.example/a?c=2&b=1",
    "http://a.example/a?b=1%26c=2",
    "http://a.example/a?b=+",
    "http://a.example/a?b=%20",
    "http://a.example/a?b=%2B",
    "http://a.example/a%2Fb",
    "http://a.example/a/b",
    "http://a.example/a;b",
    "http://a.example/a%3Bb",
    "http://a.example/%2520",
    "http://a.example/%20",
    "http://a.example/?ref=1",
    "http://a.example/?si=1",
    "http://a.example/?xutm_source=1",
    "http://a.example/?b=utm_source",
    "http://a.example/utm_source=1",
]
INVALID = [
    None,
    "",
    " ",
    "a.example",
    "//a.example/",
    "/a",
    "ftp://a.example/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "httpx://a.example/",
    "http://",
    "http:///",
    "http://?q",
    "http://#a",
    "http://user:secret@a.example/",
    "http://a b.example/",
    "http://a.example:0/",
    "http://a.example:65536/",
    "http://a.example:99999999999999999999/",
    "http://a.example:٣/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[no]/",
    "http://0x7f.1/",
    "http://256.1.1.1/",
    "http://%ff.example/",
    "http://a..example/",
    "http://a.example/\ud800",
    "http://\udfff.example/",
    "http://a.example/#\ud800",
    "http://a.example/" + "a" * MAX_CHARS,
    "http://a.example/" + "ä" * (MAX_CHARS // 3),  # too long once encoded
]
# Texts that come close to a URL: their pieces are what the rules are about.
pieces = st.sampled_from(
    [
        *(
            "http://",
            "HTTPS:",
            "//",
            "/",
            "\\",
            "?",
            "&",
            "=",
            "#",
            ":",
            "@",
            "[",
            "]",
            "%",
            "%2",
            ".",
        ),
        *(
            "..",
            "%2e",
            "%2E%2e",
            "%25",
            "%61",
            "%2F",
            "%C3%A4",
            "%ff",
            "ä",
            "ß",
            "İ",
            "\u200d",
            "。",
        ),
        *(
            "utm_source=",
            "gclid",
            "a.example",
            "xn--",
            "::1",
            "80",
            "443",
            " ",
            "\n",
            "\x00",
            "'",
            "|",
        ),
        *("+", ";", "\ud800", "😀", "-", "_", "~"),
    ]
)
anything = st.one_of(
    st.text(st.characters(), max_size=60),
    st.lists(pieces, max_size=15).map("".join),
    st.lists(pieces, max_size=12).map(lambda found: "http://a.example/" + "".join(found)),
)


@pytest.mark.parametrize("canonical", EQUAL)
def test_spellings_of_one_resource_have_one_form(canonical):
    assert canonical_url(canonical) == canonical
    for spelling in EQUAL[canonical]:
        assert canonical_url(spelling) == canonical, spelling
        assert url_fingerprint(spelling) == url_fingerprint(canonical)


def test_different_resources_have_different_forms():
    forms = [canonical_url(url) for url in DIFFERENT]
    assert None not in forms
    assert forms[9] == forms[4]
    assert len(set(forms)) == len(DIFFERENT) - 1
    assert len(set(map(url_fingerprint, DIFFERENT))) == len(DIFFERENT) - 1


@pytest.mark.parametrize("url", INVALID)
def test_what_is_no_url_of_the_web_has_no_form(url):
    assert canonical_url(url) is None
    assert url_fingerprint(url) is None


@given(anything)
@example("http://a.example/%%34%31")  # decoded once it would begin an escape
@example("http://a.example/%%%41")
@example("http://a.example/?%%37%35tm_source=1")
@example("http://a.example/x/..//a.example/")
@example("http://a.example/%252e%252e/")
def test_the_form_is_stable_ascii_and_bounded(url):
    canonical = canonical_url(url)
    fingerprint = url_fingerprint(url)
    if canonical is None:
        assert fingerprint is None
        return
    assert canonical_url(canonical) == canonical
    assert canonical.isascii()
    assert len(canonical) <= MAX_CHARS
    assert "#" not in canonical
    assert not {".", ".."} & set(urlsplit(canonical).path.split("/"))
    assert fingerprint == hashlib.sha256(canonical.encode()).digest()[:16]


@given(anything)
def test_exactly_what_can_be_fetched_has_a_form(url):
    try:
        fetched = parse(url).url
    except EntryRefused:
        fetched = None
    canonical = canonical_url(url)
    assert (canonical is None) == (fetched is None)
    assert canonical == canonical_url(fetched)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_a_segment_keeps_its_meaning(text):
    canonical = canonical_url(
        "http://a.example/x" + quote(text, safe="") + "?y" + quote(text, safe="")
    )
    assert canonical is not None
    path, _, query = canonical.removeprefix("http://a.example/x").partition("?y")
    assert unquote(path) == unquote(query) == text
    assert path.count("/") == 0


@given(st.lists(st.sampled_from([*sorted(TRACKING), *TRACKING_PREFIXES, "q", "id"]), max_size=8))
def test_only_tracking_parameters_go(names):
    canonical = canonical_url("http://a.example/?" + "&".join(f"{n}=1" for n in names))
    kept = "&".join(f"{n}=1" for n in names if n in ("q", "id"))
    assert canonical == "http://a.example/" + ("?" + kept if kept else "")


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "ä" * 8000 + "/",
        "http://" + "xn--" * 2000 + "/",
        "http://" + "a." * 4000 + "/",
        "http://a.example/" + "../" * 2700,
        "http://a.example/" + "%" * 2700,
        "http://a.example/?" + "&" * 8000,
        "http" + ":" * 8000,
        "http:" + "/" * 8000,
        "http://a.example/" + "a" * 10_000_000,
        "\x00" * 8000,
    ],
)
def test_nothing_takes_long(url):
    began = time.process_time()
    canonical_url(url)
    assert time.process_time() - began < 0.5  # measured: 0.02 s


def test_tracking_names_are_as_they_are_compared():
    assert all(name == name.lower() for name in [*TRACKING, *TRACKING_PREFIXES])
