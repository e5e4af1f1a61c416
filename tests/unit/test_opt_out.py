from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.fetch.opt_out import DEFAULT_DIRECTIVES, parse, refusal
from schemas.reject_reasons import REJECT_REASONS

AT = datetime(2026, 1, 1, tzinfo=UTC)


def refused(*headers: str, tdm: str | None = None, agent: str = "sluice") -> str | None:
    """The directive that refuses."""
    found = refusal(headers, tdm, agent, at=AT)
    if found is None:
        return None
    assert found[0] in REJECT_REASONS
    return found[1]


# Headers that a widely used downloader was seen to take the wrong way, and those it got right.
@pytest.mark.parametrize(
    ("header", "directive"),
    [
        ("noai", "noai"),
        ("NOAI", "noai"),
        ("noindex", "noindex"),
        ("noai, unavailable_after: 25 Jun 2030 15:00:00 PST", "noai"),
        ("otherbot: noai", None),
        ("sluice: noai", "noai"),
        ("googlebot: noindex, sluice: noai", "noai"),
        ("none", "none"),
        ("noml", "noml"),
    ],
)
def test_nine_headers_are_read_as_they_are_meant(header: str, directive: str | None) -> None:
    assert refused(header) == directive


@pytest.mark.parametrize(
    ("header", "directive"),
    [
        ("", None),
        (",, ,", None),
        ("all", None),
        ("nofollow, nosnippet, noarchive", None),
        ("max-snippet: 20, max-image-preview: large", None),
        (" noImageAI ", "noimageai"),
        ("noimageindex", "noimageindex"),
        ("nofollow,noai", "noai"),
        ("nofollow ; noai", "noai"),
        ("nofollow noai", "noai"),
        ("xnoai", None),
        ("noai-not", None),
        ("something-new, noai", "noai"),
        ("something: new, noai", "noai"),
        ("noai: true", "noai: true"),
        ("noai: noindex", "noai: noindex"),
        ("max-snippet: -1, noai", "noai"),
        ("*: noai", "noai"),
        ("Sluice: NoAI", "noai"),
        ("Sluice/1.0: noai", "noai"),
        ("sluicebot: noai", None),
        ("slu: noai", None),
        ("googlebot: noindex, noai", None),  # both are said to googlebot
        ("googlebot: nofollow noai", None),
        ("noai, googlebot: all", "noai"),
        ("googlebot: noindex, otherbot: noai", None),
        ("googlebot: noindex, *: noai", "noai"),
        ("sluice: nofollow, noai", "noai"),
        ("sluice: nofollow, googlebot: noai", None),
        ("googlebot:, noai", "noai"),
        ("360spider: noindex", None),
        ("noai, 360spider: noindex", "noai"),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST", None),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", "noai"),
        ("unavailable_after: Friday, 25-Jun-30 15:00:00 PST, noai", "noai"),
        ("unavailable_after: June 25, 2030 15:00, noai", "noai"),
        ("unavailable_after: Friday, 25-Jun-30 15:00:00 PST", None),
        ("unavailable_after: 2030-06-25T15:00:00+02:00", None),
        ("unavailable_after: 2030-06-25", None),
        ("unavailable_after: 25-Jun-2030", None),
        ("unavailable_after: 1 Jan 2026 00:00:01 GMT", None),
        ("unavailable_after: 31 Dec 2025 23:00:00 PST", None),  # is 2026 in UTC
        ("unavailable_after: some day", "unavailable_after: some day"),
        ("unavailable_after", "unavailable_after"),
        ("unavailable_after:", "unavailable_after: "),
        ("googlebot: unavailable_after: Wed, 1 Jan 2020 00:00:00 GMT", None),
        ("googlebot: unavailable_after: Wed, 1 Jan 2020 00:00:00 GMT, sluice: noai", "noai"),
    ],
)
def test_a_header_refuses_by_what_it_says_to_us(header: str, directive: str | None) -> None:
    assert refused(header) == directive


@pytest.mark.parametrize(
    "date",
    [
        "31 Dec 2025 23:59:59 UTC",
        "Wednesday, 31-Dec-25 15:59:59 PST",
        "2025-12-31",
        "1 Jan 2026 00:00:00 GMT",
        "25 Jun 99999 00:00:00 GMT",
        "25 Jun 2030 00:00:00 +99999999",
        "never",
    ],
)
@pytest.mark.parametrize("before", ["", "sluice: ", "*:", "noarchive, "])
def test_a_date_that_has_passed_or_cannot_be_read_refuses(before: str, date: str) -> None:
    assert refused(f"{before}Unavailable_After: {date}") == f"unavailable_after: {date}"


def test_every_header_counts() -> None:
    assert refused("googlebot: noindex", "noai") == "noai"
    assert refused("noai", "all") == "noai"
    assert refused() is None


@pytest.mark.parametrize("directive", sorted(DEFAULT_DIRECTIVES))
def test_every_default_directive_refuses(directive: str) -> None:
    assert refusal([directive], None, "sluice") == ("opted_out", directive)
    assert refusal([directive], None, "sluice", disallowed=()) is None


def test_directives_may_be_configured() -> None:
    assert refusal(["notrain"], None, "sluice", {"notrain"}) == ("opted_out", "notrain")
    assert refusal(["sluice: notrain"], None, "sluice", {"notrain"}) == ("opted_out", "notrain")
    assert refusal(["noai"], None, "sluice", {"notrain"}) is None


def test_the_date_is_judged_by_now_unless_told() -> None:
    assert refusal(["unavailable_after: 1 Jan 2020 00:00:00 GMT"], None, "sluice") is not None
    assert refusal(["unavailable_after: 1 Jan 2999 00:00:00 GMT"], None, "sluice") is None


@pytest.mark.parametrize(
    ("value", "is_reserved"),
    [
        *((value, True) for value in ("1", " 1 ", "0, 1", "0\n1")),
        *((value, False) for value in ("0", "", "10", "true", None)),
    ],
)
def test_text_and_data_mining_may_be_reserved(value: str | None, is_reserved: bool) -> None:
    expected = ("tdm_reserved", "tdm-reservation: 1") if is_reserved else None
    assert refusal([], value, "sluice", at=AT) == expected


def test_a_directive_comes_before_the_reservation() -> None:
    assert refusal(["noai"], "1", "sluice") == ("opted_out", "noai")


def test_what_is_unknown_is_told_too() -> None:
    directives = parse(["something-new, Max-Snippet: 20, x: Y"], "sluice")
    assert list(map(str, directives)) == ["something-new", "max-snippet: 20", "x: Y"]


HEADERS = st.lists(
    st.lists(
        st.sampled_from(
            [
                *sorted(DEFAULT_DIRECTIVES),
                *("all", "nofollow", "x", "Sluice", "googlebot", "*", ":", ",", ", ", ";", " "),
                *("unavailable_after:", "25 Jun 2030 15:00:00 PST", "25-Jun-10"),
            ]
        )
        | st.text(max_size=3),
        max_size=8,
    ).map("".join),
    max_size=4,
)


@given(HEADERS, HEADERS, st.sampled_from([None, "0", "1"]))
@example(["noai"], ["sluice: all"], None)
@example(["noai"], ["googlebot: noindex"], None)
def test_a_header_more_never_turns_a_refusal_into_a_permission(
    headers: list[str], more: list[str], tdm: str | None
) -> None:
    if refused(*headers, tdm=tdm) is not None:
        assert refused(*headers, *more, tdm=tdm) is not None
        assert refused(*more, *headers, tdm=tdm) is not None
        assert refused(*headers, *more, tdm="1") is not None


@given(HEADERS)
def test_a_directive_of_its_own_is_never_lost(headers: list[str]) -> None:
    assert refused(*headers, "noai") is not None
    assert refused(*headers, "sluice: noai") is not None
    # Behind a comma it may be said to the agent before it, but not when all are named.
    for header in headers:
        assert refused(f"{header}, *: noai") is not None
        assert refused(f"noai, {header}") is not None


def test_a_long_header_takes_no_time() -> None:
    for header in ("," * 100_000, "unavailable_after:" * 5000, "a:" * 50_000, " " * 100_000):
        assert refused(header + ",*:noai") is not None
