import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.fetch.robots import MAX_BYTES, Robots


def robots(body: str | bytes, agent: str = "Sluice") -> Robots:
    return Robots.parse(200, body.encode() if isinstance(body, str) else body, agent)


def allowed(body: str | bytes, path: str, agent: str = "Sluice") -> bool:
    return robots(body, agent).allows(f"http://h{path}")


def group(*rules: str) -> str:
    return "\n".join(["User-agent: *", *rules, ""])


CLOSED = group("Disallow: /")


@pytest.mark.parametrize("status", [300, 307, 400, 401, 403, 404, 410, 451, 499])
def test_without_a_file_everything_is_allowed(status: int) -> None:
    found = Robots.parse(status, CLOSED.encode(), "Sluice")
    assert found.allows("http://h/a")
    assert (found.is_unavailable, found.crawl_delay_s) == (False, None)


@pytest.mark.parametrize("status", [None, 100, 429, 500, 503, 599, 999])
def test_while_the_file_cannot_be_had_nothing_is_allowed(status: int | None) -> None:
    found = Robots.parse(status, b"", "Sluice")
    assert found.is_unavailable
    assert not found.allows("http://h/a")


@pytest.mark.parametrize("status", [200, 203, 206])
def test_a_file_is_obeyed(status: int) -> None:
    found = Robots.parse(status, CLOSED.encode(), "Sluice")
    assert not found.is_unavailable
    assert not found.allows("http://h/a")


@pytest.mark.parametrize(
    ("named", "is_ours"),
    [
        ("Sluice", True),
        ("sluice", True),
        ("SLUICE", True),
        ("Sluice/1.0", True),
        ("Sluice (+https://example.com)", True),
        ("Sluice*", True),
        ("*", True),
        ("* # all", True),
        ("slu", False),
        ("sluicebot", False),
        ("sluice-images", False),
        ("my-sluice", False),
        ("bot", False),
        ("*bot", False),
        ("", False),
        ("/", False),
        ("\xff", False),
    ],
)
def test_a_group_is_ours_by_the_whole_product_token(named: str, is_ours: bool) -> None:
    # RFC 9309 §2.2.1: case-insensitive match of the product token
    assert allowed(f"User-agent: {named}\nDisallow: /", "/a") is not is_ours


def test_our_own_group_counts_instead_of_everybodys() -> None:
    body = "User-agent: *\nDisallow: /\n\nUser-agent: sluice\nDisallow: /b\n"
    assert [allowed(body, path) for path in ("/a", "/b")] == [True, False]
    assert not allowed(body, "/a", agent="other")


def test_groups_of_one_agent_are_one_group() -> None:
    body = "User-agent: sluice\nDisallow: /a\n\nUser-agent: x\nDisallow: /c\n\n"
    body += "User-agent: Sluice/2\nDisallow: /b\n"
    assert [allowed(body, path) for path in ("/a", "/b", "/c")] == [False, False, True]


def test_a_group_may_be_for_several_agents() -> None:
    body = "User-agent: x\nUser-agent: sluice\nUser-agent: y\nDisallow: /a\n"
    assert [allowed(body, path) for path in ("/a", "/b")] == [False, True]


@pytest.mark.parametrize("between", ["Crawl-delay: 3", "Sitemap: http://h/s", "Foo: 1", "", "# x"])
def test_other_records_end_no_group(between: str) -> None:
    # RFC 9309 §2.2.4
    assert not allowed(f"User-agent: sluice\n{between}\nUser-agent: x\nDisallow: /", "/a")
    assert not allowed(f"User-agent: sluice\nDisallow: /b\n{between}\nDisallow: /a", "/a")


def test_rules_before_any_agent_are_nobodys() -> None:
    assert allowed("Disallow: /\nUser-agent: *\nDisallow: /b", "/a")
    assert allowed("Disallow: /", "/a")


@pytest.mark.parametrize(
    ("rules", "path", "is_allowed"),
    [
        # The longest match counts, and Allow where they are equal: RFC 9309 §2.2.2.
        (["Disallow: /a", "Allow: /a/b"], "/a/b/c", True),
        (["Allow: /a/b", "Disallow: /a"], "/a/c", False),
        (["Disallow: /a", "Allow: /a"], "/a", True),
        (["Allow: /a", "Disallow: /a/*.gif$"], "/a/b.gif", False),
        (["Disallow: /", "Allow: /$"], "/", True),
        (["Disallow: /", "Allow: /$"], "/a", False),
        # None at all, or one without a path, forbids nothing.
        ([], "/a", True),
        (["Disallow:"], "/a", True),
        (["Allow:"], "/a", True),
        (["Disallow: # nothing"], "/a", True),
        # A path begins as the rule does, upper and lower case apart.
        (["Disallow: /a"], "/abc", False),
        (["Disallow: /a/"], "/a", True),
        (["Disallow: /A"], "/a", True),
        (["Disallow: a"], "/a", True),
        (["Disallow: /b"], "/a/b", True),
        (["Disallow: /a?b"], "/a?bc", False),
        (["Disallow: /a?b"], "/a", True),
        # * and $: RFC 9309 §2.2.3.
        (["Disallow: *.jpg"], "/a/b.jpg?c", False),
        (["Disallow: /*.jpg$"], "/a/b.jpg", False),
        (["Disallow: /*.jpg$"], "/a/b.jpg?c", True),
        (["Disallow: /a*"], "/a", False),
        (["Disallow: /a**b"], "/axxb", False),
        (["Disallow: /a$b"], "/a$bc", False),
        (["Disallow: /a%24"], "/a$b", False),
        (["Disallow: /a%2A"], "/a*b", False),
        (["Disallow: /a%2A"], "/ab", True),
        # Escapes and what they stand for are the same, but for those of delimiters.
        (["Disallow: /%61"], "/a", False),
        (["Disallow: /a"], "/%61", False),
        (["Disallow: /~a"], "/%7Ea", False),
        (["Disallow: /%c3%a9"], "/%C3%A9", False),
        (["Disallow: /é"], "/%C3%A9", False),
        (["Disallow: /a%2fb"], "/a/b", True),
        (["Disallow: /a%2fb"], "/a%2Fb", False),
        # What is written otherwise, but cannot be misunderstood.
        (["DISALLOW : /a"], "/a", False),
        (["  disallow:/a  "], "/a", False),
        (["\tDisallow\t:\t/a\t"], "/a", False),
        (["Disallow /a"], "/a", False),
        (["Dissallow: /a"], "/a", False),
        (["Disallow: /a # b"], "/a", False),
        (["Disallowed: /a"], "/a", True),
        (["Disallow: /a\x0bb"], "/a", True),
        (["Disallow: /a\u2028b"], "/a", True),
        (["Disallow: /a\u2028b"], "/a%E2%80%A8b", False),
        (["Disallow: /", "Allow: /index.html"], "/index.html", True),
        (["Disallow: /", "Allow: /index.html"], "/", False),
        (["Disallow: /", "Allow: /robots.txtx"], "/robots.txt", True),
    ],
)
def test_a_path_is_matched_as_the_standard_has_it(
    rules: list[str], path: str, is_allowed: bool
) -> None:
    assert allowed(group(*rules), path) is is_allowed


def test_the_file_itself_is_always_allowed() -> None:
    assert allowed(CLOSED, "/robots.txt")
    assert not allowed(CLOSED, "/a/robots.txt")


@pytest.mark.parametrize(
    "body",
    [
        CLOSED.encode(),
        b"\xef\xbb\xbf" + CLOSED.encode(),
        CLOSED.replace("\n", "\r\n").encode(),
        CLOSED.replace("\n", "\r").encode(),
        CLOSED.replace("\n", "\n\n").encode(),
        b"# \xff\xfe\n" + CLOSED.encode(),
        b"\xff\xfe: \x00\n" + CLOSED.encode(),
        b"User-agent: \xff\nUser-agent: *\nDisallow: /",
        b"useragent: *\nDisallow: /",
        b"User agent *\nDisallow: /",
    ],
)
def test_bytes_around_the_rules_do_not_hide_them(body: bytes) -> None:
    assert not allowed(body, "/a")


def test_a_path_in_another_encoding_is_its_bytes() -> None:
    assert not allowed(b"User-agent: *\nDisallow: /caf\xe9", "/caf%E9/a")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 1000,
        b"<!doctype html><title>Not found</title>",
        "é".encode("utf-16"),
        b"\xff",
    ],
)
def test_what_holds_no_rules_allows_everything(body: bytes) -> None:
    assert allowed(body, "/a")


def test_only_so_much_is_parsed_and_no_line_that_is_cut() -> None:
    start = b"User-agent: *\nDisallow: /a\n"
    padding = b"#" * (MAX_BYTES - len(start) - len(b"\nAllow: /a"))
    cut = start + padding + b"\nAllow: /abc\nDisallow: /d\n"

    assert [allowed(cut, path) for path in ("/abc", "/a", "/d")] == [False, False, True]
    assert not allowed(start + padding, "/a")
    assert allowed(b"#" * MAX_BYTES + b"\n" + CLOSED.encode(), "/a")


@pytest.mark.parametrize(
    ("body", "delay_s"),
    [
        ("User-agent: *\nCrawl-delay: 2.5", 2.5),
        ("User-agent: *\nDisallow: /a\ncrawl-delay:10\n", 10.0),
        ("User-agent: *\nCrawl-delay: 9\n\nUser-agent: sluice\nCrawl-delay: 1", 1.0),
        ("User-agent: other\nCrawl-delay: 9\n\nUser-agent: *\nDisallow: /a", None),
        ("User-agent: *\nCrawl-delay: -1", None),
        ("User-agent: *\nCrawl-delay: inf", None),
        ("User-agent: *\nCrawl-delay: 1e999", None),
        ("User-agent: *\nCrawl-delay: nan", None),
        ("User-agent: *\nCrawl-delay: soon", None),
        ("User-agent: *\nCrawl-delay:", None),
        ("Crawl-delay: 5", None),
        ("", None),
    ],
)
def test_a_delay_is_told_in_seconds(body: str, delay_s: float | None) -> None:
    assert robots(body).crawl_delay_s == delay_s


@pytest.mark.parametrize("agent", ["", "Sluice/1.0", "a b", "*", "é"])
def test_our_agent_must_be_a_product_token(agent: str) -> None:
    with pytest.raises(ValueError, match="no product token"):
        Robots.parse(404, b"", agent)


HOSTILE = {
    "stars": group("Disallow: /" + "*a" * 200_000 + "$"),
    "many patterns": group(*["Disallow: /*a*b*c*d*e*f*g$"] * 20_000),
    "many agents": "".join(f"User-agent: a{i}\n" for i in range(30_000)) + "Disallow: /",
    "many groups": "".join(f"User-agent: a{i}\nDisallow: /\n" for i in range(15_000)),
    "many rules": group(*(f"Disallow: /{i}" for i in range(30_000))),
    "blanks": group("Disallow" + " " * 400_000 + "/"),
    "percents": group("Disallow: /" + "%" * 400_000),
    "line ends": "\r" * 500_000,
    "dollars": group("Disallow: /" + "$" * 400_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_cost_bounded_time(kind: str) -> None:
    start = time.process_time()
    found = robots(HOSTILE[kind])
    found.allows("http://h/" + "abcdefg" * 1000)
    assert time.process_time() - start < 3  # chosen: backtracking takes hours


@given(
    st.lists(
        st.sampled_from([b"User-agent:", b"*", b"sluice", b"Disallow:", b"Allow:", b"/a", b"$"])
        | st.sampled_from([b"\n", b"\r", b" ", b"#", b":", b"Crawl-delay:", b"1", b"%", b"%4"])
        | st.binary(max_size=3),
        max_size=30,
    ).map(b"".join)
)
def test_any_bytes_are_rules_or_nothing(body: bytes) -> None:
    found = robots(body)
    assert isinstance(found.allows("http://h/a/b?c"), bool)
    assert found.allows("http://h/robots.txt")
    # Rules for somebody else, wherever they stand, change nothing.
    more = robots(body + b"\nDisallow:\nUser-agent: x\nDisallow: /\nAllow: /a")
    assert more.allows("http://h/a/b?c") == found.allows("http://h/a/b?c")
