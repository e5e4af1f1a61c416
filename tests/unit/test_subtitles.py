import hashlib
import io
import os
import time

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import captions
from tests.subtitled_video import Track, video
from udfs import subtitles
from udfs.clips import ClipPass
from udfs.refused import Refused
from udfs.spans import SpanConfig
from udfs.subtitles import plain
from udfs.video_frames import decoded

HALVES = [(0, 2000), (2000, 4000)]


def passed(content, clips, **how):
    """The texts of clips, and how much of them is damaged."""
    with decoded(
        io.BytesIO(content), size_bytes=len(content), **{"with_texts": True} | how
    ) as passing:
        assert len([None for _ in passing]) == passing.frames
        return passing.captions(clips), passing.damaged_subtitles


def found(content, **settings):
    video = {"media_sha256": "", "size_bytes": len(content), "duration_s": None}
    video["pictures"] = os.devnull
    return ClipPass(**settings)(io.BytesIO(content), video)


def said(content, clips=HALVES):
    """Of each clip annotator -> text."""
    return [{row["annotator"]: row["text"] for row in rows} for rows in passed(content, clips)[0]]


@pytest.mark.parametrize(
    ("container", "codec", "named"),
    [
        ("mp4", "mov_text", "mov_text"),
        ("mov", "mov_text", "mov_text"),
        ("matroska", "subrip", "subrip"),
        ("matroska", "webvtt", "webvtt"),
        ("matroska", "ass", "ass"),
        ("matroska", "ssa", "ass"),
        ("matroska", "text", "subrip"),
    ],
)
def test_clips_have_the_texts_of_their_time_without_markup(container, codec, named) -> None:
    cues = [
        (100, 900, r"{\an8}{\i1}Wer{\i0} <b>da?</b>"),
        (1000, 1900, r"Fisch &amp; Brot,\Nbitte."),
        (2500, 3500, "Zu spät"),
    ]
    first, second = passed(video(Track(codec, cues, "ger"), container=container), HALVES)[0]

    text = "Wer da?\nFisch & Brot, bitte."
    assert first == [
        {
            "annotator": "subtitle:1",
            "language": "ger",
            "text": text,
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "start_ms": 100,
            "end_ms": 1900,
            "provenance": named,
        }
    ]
    assert [row["text"] for row in second] == ["Zu spät"]
    assert set(first[0]) == set(captions.FOUND.names)


def test_every_stream_of_text_speaks_for_itself() -> None:
    content = video(
        Track("subrip", [(0, 1000, "one")], "eng"),
        Track("ass", [(0, 1000, "un")], "fre"),
        Track("subrip", [(0, 1000, "?")]),
        title=" Ein\n Titel ",
    )
    rows, after = passed(content, HALVES)[0]

    assert [(row["annotator"], row["language"], row["text"]) for row in rows] == [
        ("title", None, "Ein Titel"),
        ("subtitle:1", "eng", "one"),
        ("subtitle:2", "fre", "un"),
        ("subtitle:3", None, "?"),
    ]
    assert [(row["annotator"], row["start_ms"], row["end_ms"]) for row in after] == [
        ("title", 2000, 4000)
    ]


def test_pictures_of_text_are_none() -> None:
    content = video(Track("dvd_subtitle", [(0, 1000, b"\0" * 40)]), Track("ass", [(0, 1000, "b")]))

    assert passed(content, HALVES)[1] == 0
    assert said(content) == [{"subtitle:2": "b"}, {}]


def test_without_asking_nothing_is_read() -> None:
    content = video(Track("ass", [(0, 1000, "a")]), title="b")

    assert passed(content, HALVES, with_texts=False) == ([[], []], 0)


def test_a_cue_over_a_cut_is_where_it_can_be_read() -> None:
    cues = [(1000, 2100, "before"), (1500, 2500, "both"), (1800, 2900, "after"), (3000, 9000, "on")]

    assert said(video(Track("ass", cues))) == [
        {"subtitle:1": "before\nboth"},
        {"subtitle:1": "both\nafter\non"},
    ]


def test_a_cue_that_tells_no_end_lasts_until_the_next(monkeypatch) -> None:
    cues = [(0, 0, "a"), (1500, 1500, "b"), (1500, 1500, "c")]
    monkeypatch.setattr(subtitles, "_UNTOLD_MS", 1800)
    rows, after = passed(video(Track("ass", cues)), [(0, 1500), (1500, 4000)])[0]

    assert [(row["text"], row["start_ms"], row["end_ms"]) for row in rows] == [("a", 0, 1500)]
    assert [(row["text"], row["end_ms"]) for row in after] == [("b\nc", 3300)]


SPANS = st.lists(st.integers(1, 3000), min_size=1, max_size=12)
CUES = st.lists(st.tuples(st.integers(-900, 9000), st.integers(1, 4000)), max_size=12)


@given(SPANS, CUES)
def test_who_shows_a_cue_is_as_the_rule_says(lengths, cues) -> None:
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    clips = list(zip([0, *ends], ends, strict=False))
    cues = sorted(subtitles._Cue(at, at + length, f"{at}") for at, length in cues)
    found = dict(subtitles._shown(cues, clips)) if cues else {}

    for number, (start, end) in enumerate(clips):
        expected = []
        for cue in cues:
            shared = min(cue.end_ms, end) - max(cue.start_ms, start)
            length = cue.end_ms - cue.start_ms
            if shared > 0 and (2 * shared >= length or shared >= 500 or shared == end - start):
                expected.append(cue)
        assert found.get(number, []) == expected
    for cue in cues:  # none of the video's is nowhere
        if cue.start_ms >= 0 and cue.end_ms <= ends[-1]:
            assert any(cue in shown for shown in found.values())


def test_what_cannot_be_read_costs_itself() -> None:
    cues = [
        (0, 500, b"good"),
        (600, 1000, b"\xff\xfe\xff bad"),
        (1100, 1500, b"x" * 70_000),
        (1600, 2000, b"good again"),
    ]
    content = video(Track("subrip", cues))
    facts, (clip,) = found(content, cut_by="stride")

    assert facts["damaged_subtitles"] == 2
    assert facts["damaged_packets"] == 0
    assert [row["text"] for row in clip["captions"]] == ["good\ngood again"]


@pytest.mark.parametrize(
    ("limit", "most", "kept", "damaged"),
    [
        ("_MOST_CUES", 2, "aaaa\nbbbb", 1),
        ("_MOST_CHARS", 8, None, 2),  # with the ends of lines a clip's text has more
        ("_MOST_CHARS", 9, "aaaa\nbbbb", 1),
        ("_MOST_CUE_CHARS", 3, "aaa\nbbb\nccc", 3),
        ("_MOST_CLIP_CHARS", 10, "aaaa\nbbbb", 1),
        ("_MOST_STREAMS", 0, None, 1),
    ],
)
def test_what_is_too_much_is_left_out_and_counted(monkeypatch, limit, most, kept, damaged) -> None:
    monkeypatch.setattr(subtitles, limit, most)
    cues = [(0, 500, "aaaa"), (500, 1000, "bbbb"), (1000, 1500, "cccc")]
    rows, counted = passed(video(Track("ass", cues)), HALVES)

    assert [row["text"] for row in rows[0]] == ([kept] if kept else [])
    assert counted == damaged


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("until_ms", [4_600, 60_000])
def test_subtitles_that_last_longer_condemn_no_video(container, until_ms) -> None:
    codec = "mov_text" if container == "mp4" else "subrip"
    content = video(Track(codec, [(0, until_ms, "for long")]), container=container)

    clips = found(content, cut_by="stride", lengths=SpanConfig(stride_ms=2_000)).clips
    assert [[row["text"] for row in clip["captions"]] for clip in clips] == [["for long"]] * 2


def test_a_film_that_is_cut_off_is_one_still() -> None:
    """Its subtitles, which say that they last to the end, change nothing."""
    track = Track("mov_text", [(0, 4000, "to the end")])
    content = video(track, container="mp4")
    with av.open(io.BytesIO(content)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    with pytest.raises(Refused) as refusal:
        found(content[: sorted(places)[-20]])  # between two frames

    assert refusal.value.error_class == "truncated_video"


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_time_runs_from_the_first_picture(container) -> None:
    codec = "mov_text" if container == "mp4" else "subrip"
    track = Track(codec, [(500, 1500, "before"), (5500, 6400, "within")])
    rows = passed(video(track, container=container, begin_s=5), HALVES)[0]

    assert [[(row["text"], row["start_ms"]) for row in clip] for clip in rows] == [
        [("within", 500)],
        [],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a{\p1}m 0 0 l 100 0{\p0}b", "ab"),
        (r"{\p1}m 0 0 l 100 0", ""),
        (r"{\pos(1,2)}here{\pbo5}", "here"),
        (r"{a comment}\h\N\n", ""),
        (r"a \{b\} c", "a {b} c"),
        ("<v Ann>Hi <00:00:01.500>there</v>", "Hi there"),
        ("I <3 you, 1 < 2 > 0", "I <3 you, 1 < 2 > 0"),
        ("&lt;b&gt;", "<b>"),
        ("\x00\x1b[31m\u2060a\r\nb\t c", "[31ma b c"),
        ("&#" + "9" * 60_000 + ";", ";"),
    ],
)
def test_markup(text, expected) -> None:
    assert plain(text) == expected


@given(st.text(st.sampled_from("{}\\pN01<>&#x;/a \n\x00"), max_size=60))
def test_any_text_becomes_a_line(text) -> None:
    line = plain(text)

    assert line == line.strip()
    assert not set("\n\x00") & set(line)


@pytest.mark.parametrize("piece", ["{", "{\\p1", "<a", "<1", "&#", "&", "\\", "{\\p1}{", "<a{"])
def test_hostile_text_takes_no_time(piece) -> None:
    begun = time.perf_counter()
    plain(piece * (65_536 // len(piece)))

    assert time.perf_counter() - begun < 1  # the square would take minutes


@pytest.mark.parametrize(
    ("told", "language"),
    [("ger", "ger"), ("pt-BR", "pt-BR"), ("und", None), ("", None), ("<script>", None)],
)
def test_a_language_is_a_tag_or_none(told, language) -> None:
    assert subtitles._language({"LANGUAGE": told}) == language
