"""Small videos of every container, by FFmpeg's own writers."""

import io
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

WIDTH: Final = 64
HEIGHT: Final = 48
FRAMES: Final = 10
FPS: Final = 25  # as MPEG-2 has it too
PLACE: Final = "+48.8577+002.2950/"
MADE: Final = "2021-03-04T05:06:07.000000Z"
_STYLES: Final = b"[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\n[Events]\n"
KINDS: Final = {  # by name: the container, the codecs of the pictures and of the sound
    "mp4": ("mp4", "libx264", "aac"),
    "mp4_part2": ("mp4", "mpeg4", "aac"),
    "mp4_vp9": ("mp4", "libvpx-vp9", None),
    "3gp": ("3gp", "mpeg4", None),
    "3g2": ("3g2", "mpeg4", None),
    "mov": ("mov", "libx264", "pcm_s16le"),
    "mkv": ("matroska", "libx264", "libopus"),
    "webm": ("webm", "libvpx-vp9", "libopus"),
    "webm_vp8": ("webm", "libvpx", None),
    "avi": ("avi", "mpeg4", "mp2"),
    "ts": ("mpegts", "libx264", "aac"),
    "m2ts": ("mpegts", "mpeg2video", "mp2"),
    "mpg": ("mpeg", "mpeg2video", "mp2"),
}


def video(
    kind: str = "mp4",
    *,
    rotation: float | None = None,
    times: range | list[int] = range(FRAMES),
    tags: Mapping[str, str] = {},
    of_stream: Mapping[str, str] = {},
    options: Mapping[str, str] = {},
    subtitles: str | None = None,
    audios: int = 1,
) -> bytes:
    """A video of noise, so that it cannot be smaller than it looks.

    Args:
        kind: of ``KINDS``.
        rotation: of its display matrix, counter-clockwise, in degrees.
        times: of the frames, in frames.
        tags: of the file.
        of_stream: tags of the video stream.
        options: of the container's writer.
        subtitles: codec of a stream of them, which is empty.
        audios: how many streams of sound, if it has sound.
    """
    container, codec, sound = KINDS[kind]
    options = dict(options)
    if kind == "m2ts":
        options["mpegts_m2ts_mode"] = "1"
    noise = np.random.default_rng(0)
    with tempfile.NamedTemporaryFile() as file:  # which some writers read again
        with av.open(file.name, "w", format=container, options=options) as output:
            output.metadata.update(tags)
            stream = output.add_stream(codec, rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.thread_count = 1
            stream.metadata.update(of_stream)
            if rotation is not None:
                stream.set_display_rotation(rotation)
            sounds = [output.add_stream(sound, rate=48_000) for _ in range(audios if sound else 0)]
            if subtitles:
                output.add_stream(subtitles).codec_context.subtitle_header = _STYLES
            for time in times:
                pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts, picture.time_base = time, Fraction(1, FPS)
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
            for each in sounds:
                silence = np.zeros((1, 2 * 48_000 * FRAMES // FPS), np.int16)
                heard = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
                heard.sample_rate, heard.pts = 48_000, 0
                output.mux(each.encode(heard))
                output.mux(each.encode())
        return Path(file.name).read_bytes()


def song(*, cover: bool) -> bytes:
    """An MP4 of sound alone, with or without a cover."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="mp4") as output:
            sound = output.add_stream("aac", rate=48_000)
            picture = output.add_stream("mjpeg", rate=1) if cover else None
            if picture is not None:
                picture.width, picture.height, picture.pix_fmt = 16, 16, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
                red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
                output.mux(picture.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
                output.mux(picture.encode())
            silence = np.zeros((1, 2 * 48_000), np.int16)
            heard = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
            heard.sample_rate, heard.pts = 48_000, 0
            output.mux(sound.encode(heard))
            output.mux(sound.encode())
        return file.getvalue()
