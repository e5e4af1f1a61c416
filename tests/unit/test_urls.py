import hashlib
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.fetch.urls import MAX_CHARS, Target, parse
from jobs.sources.entry import EntryRefused


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/A", "https://example.com/A"),
        ("http://example.com:80", "http://example.com/"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("http://example.com:/", "http://example.com/"),
        ("http://example.com:0080/", "http://example.com/"),
        ("http://example.com./a", "http://example.com/a"),
        ("http://example.com/a#b?c", "http://example.com/a"),
        ("http://example.com?a=b", "http://example.com/?a=b"),
        ("http://example.com#x", "http://example.com/"),
        ("http://example.com/a?#x", "http://example.com/a"),
        ("\x00 http://example.com/a b\x1f ", "http://example.com/a%20b"),
        ("ht\ntp://exa\tmple.com/a\r\nb", "http://example.com/ab"),
        ("http://example.com/a\x01b?c\x7fd e", "http://example.com/a%01b?c%7Fd%20e"),
        ("http://example.com/é?é", "http://example.com/%C3%A9?%C3%A9"),
        ("http://example.com/%e9%zz%", "http://example.com/%e9%zz%"),
        ("http://example.com/\"<>^`{}|'", "http://example.com/%22%3C%3E%5E%60%7B%7D|'"),
        ("http://example.com/?\"<>^`{}|'\\", "http://example.com/?%22%3C%3E^`{}|%27\\"),
        ("http:\\\\example.com\\a\\b?c\\d", "http://example.com/a/b?c\\d"),
        ("http:/example.com/", "http://example.com/"),
        ("http:example.com/", "http://example.com/"),
        ("http:////example.com//a//", "http://example.com//a//"),
        ("http://example.com/a/./b/../../c", "http://example.com/c"),
        ("http://example.com/../..", "http://example.com/"),
        ("http://example.com/a/%2e%2E/b/%2e", "http://example.com/b/"),
        ("http://example.com/a/.", "http://example.com/a/"),
        ("http://example.com/.../a", "http://example.com/.../a"),
        ("http://my_site.example.com/", "http://my_site.example.com/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
        ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("http://例え。テスト/", "http://xn--r8jz45g.xn--zckzah/"),
        ("http://example。com/", "http://example.com/"),
        ("http://%65xample.com/", "http://example.com/"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "http://127.0.0.1/"),
        ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1./", "http://127.0.0.1/"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://[2001:DB8:0::0:1]/", "http://[2001:db8::1]/"),
        ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("http://1.2.3.4.example/", "http://1.2.3.4.example/"),
        ("http://0x7f.example/", "http://0x7f.example/"),
    ],
)
def test_a_url_gets_its_one_form(url: str, normalised: str) -> None:
    assert parse(url).url == normalised


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "None",
        "example.com/a.jpg",
        "//example.com/a.jpg",
        "/a.jpg",
        "file:///etc/hostname",
        "data:image/png;base64,AAAA",
        "ftp://example.com/a",
        "javascript:alert(1)",
        "httpx://example.com/",
        "http:",
        "http://",
        "http:///",
        "http://?a",
        "http://:80/",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://@example.com/",
        "http://example.com@127.0.0.1/",
        "http://exa mple.com/",
        "http://exa\x00mple.com/",
        "http://exa%00mple.com/",
        "http://exa%0ample.com/",
        "http://example.com%2f@evil/",
        "http://a%2fb/",
        "http://a%3a80/",
        "http://a..b/",
        "http://.example.com/",
        "http://example.com../",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://*.example.com/",
        "http://a|b/",
        "http://\ud800/",
        "http://example.com/\udcff",
        "http://%ff/",
        "http://xn--\xfc/",
        "http://💩.example/",  # browsers take it, IDNA 2008 does not
        "http://\u00ad/",  # a soft hyphen: nothing is left
        "http://example.com:a/",
        "http://example.com:-1/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:80:80/",
        "http://example.com:٨٠/",
        "http://example.com:" + "9" * 5000 + "/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[]/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[1.2.3.4]/",
        "http://::1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0X7F.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://0/",
        "http://1.2.3.256/",
        "http://1.2.3.4.5/",
        "http://1.2.3.04/",
        "http://①②⑦.1/",
        "http://foo.0x/",
        "http://example.com/" + "a" * MAX_CHARS,
        "http://example.com/" + "é" * (MAX_CHARS // 4),
    ],
)
def test_what_is_no_url_of_the_web_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(EntryRefused) as refusal:
        parse(url)
    assert refusal.value.error_class == "invalid_url"
    assert "example" not in refusal.value.detail


def test_credentials_are_refused_as_such() -> None:
    with pytest.raises(EntryRefused, match="credentials"):
        parse("http://user:80@example.com/")


def test_the_longest_url_is_taken() -> None:
    url = "http://example.com/".ljust(MAX_CHARS, "a")
    assert parse(url).url == url


def test_a_target_says_what_to_connect_to() -> None:
    name = parse("HTTPS://Example.com/a?b#c")
    assert (name.scheme, name.host, name.port) == ("https", "example.com", 443)
    assert (name.site, name.is_address) == ("https://example.com", False)

    address = parse("http://[::1]:8080/a")
    assert (address.scheme, address.host, address.port) == ("http", "::1", 8080)
    assert (address.site, address.is_address) == ("http://[::1]:8080", True)
    assert parse("http://10.0.0.1/").is_address


def test_the_hash_names_the_normalised_url() -> None:
    spellings = ["http://example.com/a", "HTTP://EXAMPLE.com:80/b/../a#top"]
    assert {parse(url).url_sha256 for url in spellings} == {
        hashlib.sha256(b"http://example.com/a").hexdigest()
    }


@pytest.mark.parametrize(
    ("relative", "joined"),
    [
        ("/c", "https://example.com/c"),
        ("c", "https://example.com/a/c"),
        ("../c?d", "https://example.com/c?d"),
        ("?d", "https://example.com/a/b?d"),
        ("//other.example/c", "https://other.example/c"),
        ("\\\\other.example\\c", "https://other.example/c"),
        ("///other.example/c", "https://other.example/c"),
        ("http://other.example", "http://other.example/"),
        (" /c d\n", "https://example.com/c%20d"),
        ("c:d/e", None),
        ("file:///etc/hostname", None),
        ("//user@other.example/", None),
        ("//[x/", None),
        ("//127.1/", None),
    ],
)
def test_a_redirect_is_taken_relative_to_where_it_came_from(
    relative: str, joined: str | None
) -> None:
    base = parse("https://example.com/a/b?x")
    if joined is None:
        with pytest.raises(EntryRefused):
            parse(relative, base)
    else:
        assert parse(relative, base).url == joined


def parsed(url: str, base: Target | None = None) -> Target | None:
    try:
        return parse(url, base)
    except EntryRefused:
        return None


PIECES = st.lists(
    st.sampled_from([*"/\\?#@:[]%.&;= \t\n\x00é", "http:", "//", "a", "127", "::1", "%2e", "%41"])
    | st.characters(),
    max_size=12,
).map("".join)


@given(PIECES.map("http://".__add__) | PIECES, st.booleans())
@example("//[", True)
@example("http://ⅷ.a/", False)
def test_any_text_is_refused_or_has_one_stable_form_that_others_read_alike(
    url: str, is_relative: bool
) -> None:
    target = parsed(url, parse("http://example.com/a/b") if is_relative else None)
    if target is None:
        return
    assert parse(target.url) == target
    assert target.url.isascii()
    assert target.url.isprintable()
    assert not set(" #") & set(target.url)
    # No reader of what is asked for may see another host than the one that was judged.
    by_yarl, by_urllib = yarl.URL(target.url, encoded=True), urlsplit(target.url)
    assert str(by_yarl) == target.url
    for read in ((by_yarl.raw_host, by_yarl.port), (by_urllib.hostname, by_urllib.port)):
        assert (read[0], read[1] or by_yarl.port) == (target.host, target.port)
