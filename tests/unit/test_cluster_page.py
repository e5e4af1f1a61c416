"""The page of a cluster is whole, asks for nothing, and shows what differs, whatever texts say."""

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from selectolax.lexbor import LexborHTMLParser

from jobs.duplicate_clusters import Cluster, Member
from jobs.report.cluster_page import (
    LEAD_WORDS,
    MOST_WORDS,
    Section,
    Shown,
    difference,
    of_images,
    of_texts,
    render,
    similarity,
)
from jobs.report.contact_sheet import thumbnail

ASKED = "0f" * 16
HOSTILE = [
    '</figcaption><script>alert(1)</script><img src="http://evil.example/x" onerror=alert(2)>',
    "{{ 7 * 7 }}{% for x in y %}",
    '" onmouseover="alert(3)" style="background:url(//evil.example)',
    "<style>@import 'http://evil.example'</style><base href=http://evil.example>",
    "\u202eright\x00to\x1bleft\ufeff </bdi></mark></p>",
    "<" * 65_536,
    "]]>--></title></head><iframe src=//evil.example>",
    "javascript:alert(1)",
    "",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def member(text, place=0, **changes):
    fields = {
        "sample_id": f"{place:032x}",
        "is_duplicate": place > 0,
        "representative_id": f"{0:032x}",
        "similarity": 0.9,
        "text": text,
        "url": "http://a.example/",
        "media_sha256": "ab" * 32,
    }
    return Member(**{**fields, **changes})


def cluster(kind, *members):
    return Cluster(kind=kind, cluster_id="c", samples=len(members), members=members)


def picture():
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(encoded, "PNG")
    return thumbnail(encoded.getvalue(), is_blurred=False, max_pixels=100)


PICTURE = picture()


def pictured(kind, *members):
    whole = cluster(kind, *members)
    return Section(whole, of_images(whole, {"ab" * 32: (PICTURE, False)}))


def page(*texts):
    """Both kinds of section over the same hostile texts."""
    members = [
        replace(member(text, place), url=text, sample_id=ASKED if place == 1 else f"{place:032x}")
        for place, text in enumerate(texts)
    ]
    written = cluster("minhash", *members)
    return render(ASKED, [pictured("exact_url", *members), Section(written, of_texts(written))])


def text_of(parts):
    return " ".join(part.text for part in parts)


def assert_harmless(html):
    tree = LexborHTMLParser(html)
    allowed = {"html", "head", "meta", "title", "link", "style", "body", "header", "h1", "h2", "p"}
    allowed |= {"main", "div", "figure", "figcaption", "img", "span", "b", "br", "code", "bdi"}
    allowed |= {"mark"}
    assert {node.tag for node in tree.css("*")} <= allowed
    assert len(tree.css("style")) == len(tree.css("title")) == 1
    for node in tree.css("*"):
        for name, value in node.attributes.items():
            assert not name.startswith("on"), (node.tag, name)
            if name in ("src", "href"):
                assert value is not None
                assert value.startswith("data:")
    assert "url(" not in tree.css_first("style").text()
    assert "@import" not in tree.css_first("style").text()
    assert "default-src 'none'" in tree.css_first("meta[http-equiv]").attributes["content"]
    return tree


def test_hostile_texts_are_shown_and_do_nothing():
    tree = assert_harmless(page(*HOSTILE))
    assert len(tree.css("figure")) == len(tree.css(".pair")) == len(HOSTILE)
    said = tree.body.text()
    assert "<script>alert(1)</script>" in said
    assert "{{ 7 * 7 }}" in said
    for hidden in ("\u202e", "\x00", "\x1b", "\ufeff"):
        assert hidden not in said


@settings(max_examples=30, deadline=None)
@given(st.lists(texts, min_size=1, max_size=3))
def test_any_text_is_harmless(found):
    tree = assert_harmless(page(*found))
    assert len(tree.css("figure")) == len(found)


def test_the_survivor_is_first_and_the_one_asked_for_is_marked():
    html = page("a cat on a mat", "a cat on the mat", "a dog")
    tree = LexborHTMLParser(html)
    for section in (".sheet figure", ".pair"):
        nodes = tree.css(section)
        assert "survivor" in nodes[0].text()
        assert ["asked" in (node.attributes.get("class") or "") for node in nodes] == [
            False,
            True,
            False,
        ]
        assert "similarity 0.9" in nodes[1].text()
        assert ASKED in nodes[1].text()


def test_what_differs_is_marked_on_both_sides():
    tree = LexborHTMLParser(page("a cat on a mat", "a black cat on the mat"))
    left, right = tree.css(".pair")[1].css("p.text")
    assert [node.text() for node in left.css("mark")] == ["a"]
    assert [node.text() for node in right.css("mark")] == ["black", "the"]
    assert left.text().split() == ["a", "cat", "on", "a", "mat"]
    assert right.text().split() == ["a", "black", "cat", "on", "the", "mat"]


def test_a_url_is_shown_where_it_is_what_was_compared():
    one = member("a cat", url="http://a.example/?<b>")
    assert (
        "http://a.example/?<b>"
        in LexborHTMLParser(render(ASKED, [pictured("exact_url", one)])).body.text()
    )
    assert "a.example" not in render(ASKED, [pictured("phash", one)])


def test_a_blurred_image_is_not_described():
    one = member("a cat")
    shown = Shown(member=one, caption="a cat", image=PICTURE, is_blurred=True)
    html = render(ASKED, [Section(cluster("phash", one), (shown,))])
    assert 'alt="Blurred image"' in html


def test_a_cluster_that_was_cut_says_so():
    one = replace(cluster("minhash", member("a"), member("b", 1)), samples=1_000_000)
    html = render(ASKED, [Section(one, of_texts(one))])
    assert "1,000,000 samples" in html
    assert "2 in all" in html
    alone = cluster("minhash", member("a"))
    assert "unique" in render(ASKED, [Section(alone, of_texts(alone))])


@given(texts, texts)
def test_a_difference_holds_both_texts_and_marks_what_is_not_common(one, other):
    found = difference(member(one), member(other, 1))
    common = [
        text_of(p for p in side if not p.is_changed) for side in (found.survivor, found.other)
    ]
    assert common[0] == common[1]
    assert not any(part.is_changed for part in difference(member(one), member(one, 1)).other)


def test_a_difference_says_what_cannot_be_seen():
    survivor = member("a cat")
    assert difference(survivor, member("a cat", 1)).note == "the same text"
    unseen = difference(survivor, member("a \u200bcat\n", 1))
    assert "not seen" in unseen.note
    assert not any(part.is_changed for part in unseen.other)
    gone = difference(survivor, member(None, 1))
    assert gone.note == "no longer stored"
    assert "only the beginning" in difference(survivor, member("a", 1, is_cut=True)).note


def test_of_long_texts_the_first_difference_is_shown():
    words = [f"w{i}" for i in range(10 * MOST_WORDS)]
    changed = [*words]
    changed[5 * MOST_WORDS] = "other"
    found = difference(member(" ".join(words)), member(" ".join(changed), 1))
    marked = [part for part in found.other if part.is_changed]
    assert [part.text for part in marked] == ["other"]
    assert len(text_of(found.other).split()) == MOST_WORDS
    assert len(found.other[0].text.split()) == LEAD_WORDS
    assert f"{5 * MOST_WORDS - LEAD_WORDS:,} equal words before are left out" in found.note
    assert "cut after" in found.note
    same = difference(member(" ".join(words)), member(" ".join(words), 1))
    assert text_of(same.other) == " ".join(words[:MOST_WORDS])


def test_no_pair_of_texts_takes_long():
    # The cube of the length: every block is found again and again.
    one, other = "a b " * 10_000, "b a a " * 10_000
    began = time.process_time()
    difference(member(one), member(other, 1))
    assert time.process_time() - began < 5  # measured: 0.3 s


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (1.0, "1"), (0.5, "0.5"), (0.0, "0"), (0.9999, "0.999…"), (0.95, "0.95")],
)
def test_a_similarity_is_never_rounded_to_equal(value, said):
    assert similarity(value) == said
