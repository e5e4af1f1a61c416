"""A clip as members of a WebDataset shard, with the columns that video2dataset writes.

Source: iejMac/video2dataset, ``data_writer.py``, ``subsamplers/clipping_subsampler.py`` and
``subsamplers/ffprobe_subsampler.py``: names, types and shapes.
"""

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from udfs.clip_cut import Clip

VERSION: Final = "clip_record/1"  # raised whenever the same clip would give another record
SUCCESS: Final = "success"
FAILED: Final = "failed_to_subsample"  # video2dataset's word for a clip that could not be cut
_KEY: Final = re.compile(r"[^./\\\0]+")  # a dot ends a key in a WebDataset, a slash begins a name
_FORMATS: Final = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "mkv": "matroska,webm"}  # ffprobe's names


class Member(NamedTuple):
    """A member of a tar.

    Attributes:
        name: the sample's key, a dot and the kind.
        content: its bytes, or a file at its begin.
        size_bytes: its size.
    """

    name: str
    content: bytes | BinaryIO
    size_bytes: int


def clip_key(key: str, clip_index: int) -> str:
    """The key of a clip: that of its video and its number, at least five digits.

    Raises:
        ValueError: the video's key has a dot or a slash, or is empty.

    >>> clip_key("000000012", 3)
    '000000012_00003'
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key got {key!r}; allowed no dot, no slash, not empty; change it")
    return f"{key}_{clip_index:05d}"


def record(
    clip: Clip,
    *,
    key: str,
    clip_index: int,
    caption: str | None = None,
    facts: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """The columns of a clip, all of which JSON can hold.

    ``clips`` is what the clip was asked to be, in seconds of its video, as video2dataset has it;
    ``contained_ms`` what the file has of it, which differs where packets were copied.
    ``video_metadata`` is of the clip's file, as ffprobe prints it.

    Args:
        clip: the clip.
        key: of its video.
        clip_index: of the clip in its video, from 0.
        caption: what is said of it.
        facts: more columns, as those of ``silver.clips``; none of them replaces one of these.

    Raises:
        ValueError: the key cannot be one.
    """
    span = clip.span
    return {name: _plain(value) for name, value in facts.items()} | {
        "key": clip_key(key, clip_index),
        "status": SUCCESS,
        "error_message": None,
        "caption": caption,
        "clips": [[span.start_ms / 1000, span.end_ms / 1000]],
        "contained_ms": [clip.start_ms, clip.end_ms],
        "keyframes_ms": [still.time_ms for still in clip.stills],
        "video_metadata": _probed(clip),
    }


def failed_record(
    *, key: str, clip_index: int, error_message: str, facts: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """The same columns of a clip that could not be cut."""
    return {name: _plain(value) for name, value in facts.items()} | {
        "key": clip_key(key, clip_index),
        "status": FAILED,
        "error_message": error_message,
        "caption": None,
        "clips": None,
        "contained_ms": None,
        "keyframes_ms": [],
        "video_metadata": None,
    }


def members(clip: Clip, columns: Mapping[str, Any]) -> list[Member]:
    """The members of a clip's sample, in the order in which they are written.

    The file, the columns as ``json``, the caption as ``txt`` if there is one, and the stills as
    ``jpg``, ``1.jpg``, ``2.jpg``, ... in their order.

    Args:
        clip: the clip; its file is handed on, not read.
        columns: of ``record``.
    """
    key, caption = columns["key"], columns["caption"]
    found = [Member(f"{key}.{clip.extension}", clip.file, clip.size_bytes), as_json(columns)]
    if caption is not None:
        found.append(_member(key, "txt", caption.encode()))
    kinds = ["jpg", *(f"{n}.jpg" for n in range(1, len(clip.stills)))]
    found += [
        _member(key, kind, still.content)
        for kind, still in zip(kinds, clip.stills, strict=False)  # no still, no kind
    ]
    return found


def as_json(columns: Mapping[str, Any]) -> Member:
    """The columns as a member; alone it is the sample of a clip that failed."""
    content = json.dumps(columns, indent=4, ensure_ascii=False, allow_nan=False)
    return _member(columns["key"], "json", content.encode())


def _member(key: str, kind: str, content: bytes) -> Member:
    return Member(f"{key}.{kind}", content, len(content))


def _probed(clip: Clip) -> dict[str, Any]:
    """What ffprobe prints of a file's streams and format; numbers that it quotes are quoted."""
    lasts_ms = clip.end_ms - clip.start_ms
    duration = f"{lasts_ms / 1000:.6f}"
    rate = Fraction(1000 * clip.frames, lasts_ms)
    streams: list[dict[str, Any]] = [
        {
            "index": 0,
            "codec_name": clip.video_codec,
            "codec_type": "video",
            "width": clip.width_px,
            "height": clip.height_px,
            "avg_frame_rate": f"{rate.numerator}/{rate.denominator}",
            "duration": duration,
            "nb_frames": str(clip.frames),
        }
    ]
    if clip.audio_codec is not None:
        streams.append({"index": 1, "codec_name": clip.audio_codec, "codec_type": "audio"})
    return {
        "streams": streams,
        "format": {
            "nb_streams": len(streams),
            "format_name": _FORMATS[clip.extension],
            "duration": duration,
            "size": str(clip.size_bytes),
        },
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: times as ISO 8601, numbers that are none as null.

    >>> _plain({"a": float("nan"), "b": (1, 2.5)})
    {'a': None, 'b': [1, 2.5]}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
