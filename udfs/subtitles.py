"""What a video's own subtitles and its title say, clip by clip."""

import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
import numpy as np
from av.subtitles.subtitle import AssSubtitle

from udfs.video_container import codec_name, is_known

VERSION: Final = "subtitles/1"  # raised whenever the same bytes would give other texts
# FFmpeg's names of those that are text; others are pictures, or lie within the pictures.
CODECS: Final = frozenset({"mov_text", "subrip", "webvtt", "ass", "ssa", "text"})
TITLE: Final = "title"  # how the container itself is called as an annotator

# Files are hostile: what is beyond these is left out, and counted. All are chosen, because of
_MOST_STREAMS: Final = 64  # discs, that have up to 32;
_MOST_PACKET_BYTES: Final = 64 * 2**10  # drawings in ASS; a line of text has a hundred;
_MOST_CUES: Final = 200_000  # films, that have 2,000 in each language;
_MOST_CUE_CHARS: Final = 1_000  # two lines of 42: Netflix, "Timed Text Style Guide";
_MOST_CLIP_CHARS: Final = 10_000  # what is said in ten minutes, the longest clip;
_MOST_CHARS: Final = 4_000_000  # films, of 60,000 a language; of cues, and of all clips' texts.
_MOST_S: Final = 10**9  # beyond any video, and in ms well within an int64
_UNTOLD_MS: Final = 7_000  # the longest of Netflix's guide, for a cue that tells no end
_ENOUGH_MS: Final = 500  # chosen: half a second, one or two words

_OVERRIDE: Final = re.compile(r"(?<!\\)\{[^{}]*\}")  # of ASS: {\an8}, {\i1}, and comments
_DRAWING: Final = re.compile(r"\\p([0-9])")  # what follows is a shape, until {\p0}
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]*>|<[0-9:.]+>")  # of HTML, and WebVTT's times
_ESCAPE: Final = re.compile(r"\\([Nnh{}])")
_ESCAPED: Final = {"N": "\n", "n": "\n", "h": " ", "{": "{", "}": "}"}
# What is no character, and the word joiner by which FFmpeg keeps a backslash from being an escape.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u2060\ufeff]")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}")  # RFC 5646 §2.1, roughly


class _Cue(NamedTuple):
    start_ms: int
    end_ms: int
    text: str


@dataclass
class _Track:
    stream: Any
    language: str | None
    codec: str
    cues: list[_Cue] = field(default_factory=list)


class Subtitles:
    """Takes the packets of a container's text streams, and then says what clips say.

    Whatever such a stream holds, it costs its own texts alone.

    Attributes:
        damaged: packets that could not be read, and texts of packets and of clips of which not all
            was kept.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        """Look what a container has.

        Args:
            container: its header read.
        """
        self.damaged = 0
        self._title = _cut(_spaced(_named(container.metadata).get("title", "")))
        wanted = [
            stream
            for stream in container.streams.subtitles
            if is_known(stream) and codec_name(stream) in CODECS
        ]
        self.damaged += max(0, len(wanted) - _MOST_STREAMS)
        self._tracks = {
            stream.index: _Track(stream, _language(stream.metadata), codec_name(stream))
            for stream in wanted[:_MOST_STREAMS]
        }
        self._cues, self._chars = 0, 0

    @property
    def streams(self) -> list[Any]:
        """Those whose packets are wanted."""
        return [track.stream for track in self._tracks.values()]

    def add(self, packet: "av.Packet[Any]") -> None:
        """Take a packet of one of the streams."""
        track = self._tracks[packet.stream.index]
        if not packet.size:  # the last one
            return
        if packet.size > _MOST_PACKET_BYTES or packet.pts is None or packet.is_corrupt:
            self.damaged += 1
            return
        try:
            parts = packet.decode()
        except Exception:  # FFmpeg's errors are of a dozen types
            self.damaged += 1
            return
        tick_s = packet.time_base or Fraction(1, 1000)
        start_ms = _ms(packet.pts * tick_s)
        end_ms = start_ms + max(0, _ms((packet.duration or 0) * tick_s))
        for part in parts:
            if not isinstance(part, AssSubtitle):
                continue
            # FFmpeg makes events of ASS of all text; their last field of nine is the text.
            text = plain(part.ass.decode(errors="replace").split(",", 8)[-1])
            if text and self._is_room(text):
                track.cues.append(_Cue(start_ms, end_ms, _cut(text)))

    def _is_room(self, text: str) -> bool:
        """Whether a cue is kept; what is cut of it, or left out, is counted."""
        is_cut = len(text) > _MOST_CUE_CHARS
        self._cues += 1
        self._chars += min(len(text), _MOST_CUE_CHARS)
        is_room = self._cues <= _MOST_CUES and self._chars <= _MOST_CHARS
        self.damaged += is_cut or not is_room
        return is_room

    def captions(
        self, clips: Sequence[tuple[int, int]], begin_s: Fraction = Fraction(0)
    ) -> list[list[dict[str, Any]]]:
        """The texts of clips; to be asked for once.

        A cue belongs to every clip that shows half of it, or half a second of it, or nothing else:
        chosen, so that one that runs over a cut is where it can be read, and none of the video's is
        nowhere. Those of a clip are joined as they begin, a line each. The title is a text of
        every clip.

        Args:
            clips: when each begins and is over, in ms after the first frame, ascending.
            begin_s: the time of the first frame by the container's clock.

        Returns:
            Of each clip its rows of ``schemas.captions.FOUND``.
        """
        chars = 0
        found: list[list[dict[str, Any]]] = [[] for _ in clips]
        if self._title:
            for row, (start_ms, end_ms) in zip(found, clips, strict=True):
                row.append(_row(TITLE, None, self._title, start_ms, end_ms, "container"))
        for index, track in self._tracks.items():
            for number, cues in _shown(_settled(track.cues, _ms(begin_s)), clips):
                said = _first(cues, _MOST_CLIP_CHARS)
                self.damaged += len(said) < len(cues)
                text = "\n".join(cue.text for cue in said)
                chars += len(text)
                if chars > _MOST_CHARS:
                    self.damaged += 1
                    continue
                start_ms, end_ms = max(0, said[0].start_ms), max(cue.end_ms for cue in said)
                annotator = f"subtitle:{index}"
                found[number].append(
                    _row(annotator, track.language, text, start_ms, end_ms, track.codec)
                )
        return found


def plain(text: str) -> str:
    r"""The text of an event of ASS without markup: override tags, drawings, tags, entities.

    >>> plain(r"{\an8}<i>Fish &amp; chips</i>,\N1 < 2")
    'Fish & chips, 1 < 2'
    """
    text = _TAG.sub("", _without_overrides(text))
    text = _ESCAPE.sub(lambda found: _ESCAPED[found[1]], text)
    # A number of thousands of digits is none; Python refuses to read it.
    text = re.sub(r"&#[0-9a-zA-Z]{9,}", "", text)
    return _spaced(html.unescape(text))


def _without_overrides(text: str) -> str:
    parts, at, is_drawing = [], 0, False
    for block in _OVERRIDE.finditer(text):
        parts += [] if is_drawing else [text[at : block.start()]]
        modes = _DRAWING.findall(block[0])
        is_drawing = modes[-1] != "0" if modes else is_drawing
        at = block.end()
    parts += [] if is_drawing else [text[at:]]
    return "".join(parts)


def _spaced(text: str) -> str:
    """One line, with single spaces."""
    return " ".join(_CONTROL.sub("", text).split())


def _cut(text: str) -> str:
    return text[:_MOST_CUE_CHARS].rstrip()


def _ms(seconds: Fraction) -> int:
    return round(1000 * min(max(seconds, Fraction(-_MOST_S)), Fraction(_MOST_S)))


def _settled(cues: Sequence[_Cue], begin_ms: int) -> list[_Cue]:
    """Cues as they begin, after the first frame; one that tells no end lasts until the next."""
    settled: list[_Cue] = []
    later_ms = next_ms = 2 * 1000 * _MOST_S  # the next beginning, and one that is later still
    for cue in reversed(sorted(cues, key=lambda cue: cue.start_ms)):
        if cue.start_ms < next_ms:
            later_ms, next_ms = next_ms, cue.start_ms
        end_ms = cue.end_ms
        if end_ms == cue.start_ms:
            end_ms = min(later_ms, cue.start_ms + _UNTOLD_MS)
        settled.append(_Cue(cue.start_ms - begin_ms, end_ms - begin_ms, cue.text))
    return settled[::-1]


def _shown(
    cues: Sequence[_Cue], clips: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, list[_Cue]]]:
    """The number of each clip in which there are cues, and those."""
    starts = np.array([cue.start_ms for cue in cues], np.int64)
    ends = np.array([cue.end_ms for cue in cues], np.int64)
    enough = np.minimum((ends - starts + 1) // 2, _ENOUGH_MS)
    reached = np.maximum.accumulate(ends)  # ascending, so that what is over is passed over
    for number, (start_ms, end_ms) in enumerate(clips):
        first = int(np.searchsorted(reached, start_ms, "right"))
        after = int(np.searchsorted(starts, end_ms, "left"))
        shared = np.minimum(ends[first:after], end_ms) - np.maximum(starts[first:after], start_ms)
        is_shown = shared >= np.minimum(enough[first:after], end_ms - start_ms)
        if is_shown.any():
            yield number, [cues[first + int(at)] for at in np.flatnonzero(is_shown)]


def _first(cues: Sequence[_Cue], most_chars: int) -> list[_Cue]:
    lengths = np.cumsum([len(cue.text) + 1 for cue in cues])
    return list(cues[: int(np.searchsorted(lengths, most_chars, "right"))])


def _named(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in metadata.items()}


def _language(metadata: Mapping[str, str]) -> str | None:
    """What a stream says, unless it is "undetermined" or no language at all."""
    told = _named(metadata).get("language", "")
    return told if _LANGUAGE.fullmatch(told) and told != "und" else None  # und: ISO 639-2


def _row(
    annotator: str, language: str | None, text: str, start_ms: int, end_ms: int, provenance: str
) -> dict[str, Any]:
    return {
        "annotator": annotator,
        "language": language,
        "text": text,
        "text_sha256": hashlib.sha256(text.encode(errors="replace")).hexdigest(),
        "start_ms": start_ms,
        "end_ms": end_ms,
        "provenance": provenance,
    }
