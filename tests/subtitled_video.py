"""Small videos with subtitles, of any codec that FFmpeg writes."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.subtitles.subtitle import SubtitleSet

from tests import rendered_sound

FPS: Final = rendered_sound.FPS
_TICK: Final = Fraction(1, 1000)
_STYLE: Final = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""

Cue = tuple[int, int, str | bytes]  # from, until, in ms; text as ASS has it, or a packet as it is


@dataclass(frozen=True)
class Track:
    """A stream of subtitles; cues in order."""

    codec: str
    cues: Sequence[Cue]
    language: str = "und"


def video(
    *tracks: Track, container: str = "matroska", begin_s: int = 0, title: str | None = None
) -> bytes:
    """Four seconds of pictures that move, with subtitles as tracks from 1 on."""
    with tempfile.NamedTemporaryFile() as file:
        # The index stands first, so that a file that is cut off still has it.
        options = {} if container == "matroska" else {"movflags": "faststart"}
        with av.open(file.name, "w", format=container, options=options) as output:
            if title is not None:
                output.metadata["title"] = title
            stream = output.add_stream("libx264", rate=FPS, options={"bf": "0"})
            stream.width, stream.height = rendered_sound.SIZE
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            packets = [packet for track in tracks for packet in _packets(output, track)]
            packets.sort(key=lambda packet: packet.pts)
            for number, pixels in enumerate(rendered_sound.frames(4 * FPS), begin_s * FPS):
                while packets and packets[0].pts * FPS <= 1000 * number:
                    output.mux(packets.pop(0))
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, FPS)
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
            for packet in packets:
                output.mux(packet)
        return Path(file.name).read_bytes()


def _packets(output: av.container.OutputContainer, track: Track) -> list[av.Packet]:
    stream = output.add_stream(track.codec)
    stream.metadata["language"] = track.language
    stream.time_base = stream.codec_context.time_base = _TICK
    stream.codec_context.subtitle_header = _STYLE
    made = []
    for number, (start_ms, end_ms, text) in enumerate(track.cues):
        if isinstance(text, bytes):
            packet = av.Packet(text)
        else:
            event = f"{number},0,Default,,0,0,0,,{text}".encode()
            packet = stream.codec_context.encode_subtitle(SubtitleSet.create(event, 0, 1))
        packet.pts = packet.dts = start_ms
        packet.duration, packet.time_base, packet.stream = end_ms - start_ms, _TICK, stream
        made.append(packet)
    return made
