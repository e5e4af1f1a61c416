"""The spans of a video that become its clips: pieces that tile it, from boundaries and times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SpanConfig:
    """How long a clip is.

    Attributes:
        min_ms: a shorter piece joins one beside it.
        max_ms: a longer one is split evenly; at least twice ``min_ms``.
        stride_ms: of clips of fixed length.
    """

    min_ms: int = 2_000  # cosmos-curate's default
    max_ms: int = 60_000  # likewise
    stride_ms: int = 10_000  # likewise, of its fixed stride

    def __post_init__(self) -> None:
        """Refuse lengths that contradict each other."""
        if not 0 <= 2 * self.min_ms <= self.max_ms or self.max_ms < 1 or self.stride_ms < 1:
            raise ValueError(
                f"span lengths got min_ms {self.min_ms}, max_ms {self.max_ms}, stride_ms "
                f"{self.stride_ms}; allowed 0 <= 2 * min_ms <= max_ms and both others from 1; "
                "change them"
            )


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a video.

    Attributes:
        first: its first frame.
        end: the frame behind its last.
        start_ms: when its first frame is shown, from 0 at the video's first frame.
        end_ms: when its last frame is no longer shown.
    """

    first: int
    end: int
    start_ms: int
    end_ms: int


def spans(
    boundaries: Sequence[int],
    times_ms: Times,
    end_ms: int,
    *,
    is_key: npt.NDArray[np.bool_] | None = None,
    config: SpanConfig = SpanConfig(),
) -> list[Span]:
    """Pieces that tile the video: each frame and each millisecond is in exactly one.

    None is longer than ``max_ms`` but one without a place to split: a single frame, or a single
    group of pictures. None is shorter than ``min_ms`` but a video that is, and parts of what had to
    be split where frames (or keyframes) lie further apart than ``max_ms / 2 - min_ms``.

    Args:
        boundaries: the first frames of shots, ascending; 0 may be left out.
        times_ms: int64 (n,), when each frame is shown, from 0, ascending.
        end_ms: when the last is no longer shown.
        is_key: bool (n,): which frames a piece may begin with, so that it is cut without encoding
            anew; a boundary goes to the nearest. The first frame always may.
        config: how long the pieces are.

    >>> times = np.arange(250) * 40
    >>> [(span.start_ms, span.end_ms) for span in spans([100, 110], times, 10_000)]
    [(0, 4400), (4400, 10000)]
    """
    if not len(times_ms):
        return []
    places = np.arange(len(times_ms)) if is_key is None else np.flatnonzero(is_key)
    places = np.union1d(places, [0])
    wanted = [at for at in boundaries if 0 < at < len(times_ms)]
    starts = np.unique([0, *(_nearest(places, times_ms, at) for at in wanted)])
    edges = np.append(times_ms, end_ms)  # of each frame, and of what is behind the last
    kept = _merged([int(at) for at in starts], edges, config)
    return _split(kept, places, edges, config)


def strided(
    times_ms: Times,
    end_ms: int,
    *,
    is_key: npt.NDArray[np.bool_] | None = None,
    config: SpanConfig = SpanConfig(),
) -> list[Span]:
    """Pieces of ``stride_ms`` that tile the video, whatever its shots are.

    Each begins with the first frame that is not before its time; the rest, if shorter than
    ``min_ms``, joins the piece before it. Arguments as of ``spans``.

    >>> [(span.start_ms, span.end_ms) for span in strided(np.arange(300) * 40, 12_000)]
    [(0, 10000), (10000, 12000)]
    """
    marks = np.arange(config.stride_ms, max(end_ms, 1), config.stride_ms)
    starts = np.unique(np.searchsorted(times_ms, marks))
    return spans([int(at) for at in starts], times_ms, end_ms, is_key=is_key, config=config)


def _nearest(places: Times, times_ms: Times, at: int) -> int:
    """The place, in frames, whose time is nearest to that of a frame; of two the earlier."""
    after = int(np.searchsorted(places, at))
    around = places[max(0, after - 1) : after + 1]
    return int(around[np.argmin(np.abs(times_ms[around] - times_ms[at]))])


def _merged(starts: list[int], edges: Times, config: SpanConfig) -> list[int]:
    """The first frames of the pieces once each too short one has joined the shorter beside it."""
    ends = [*starts[1:], len(edges) - 1]
    kept: list[int] = []  # of the pieces that are closed; each is long enough
    first = 0  # of the piece that is open
    for n, end in enumerate(ends):
        length = edges[end] - edges[first]
        if length >= config.min_ms:
            kept.append(first)
        elif kept:
            before = edges[first] - edges[kept[-1]]
            is_last = n == len(ends) - 1
            if not is_last and edges[ends[n + 1]] - edges[end] < before:
                continue  # joins what comes
        elif n < len(ends) - 1:
            continue
        else:
            kept.append(first)
        first = end
    return kept


def _split(starts: list[int], places: Times, edges: Times, config: SpanConfig) -> list[Span]:
    result = []
    for first, end in zip(starts, [*starts[1:], len(edges) - 1], strict=True):
        at = first
        while edges[end] - edges[at] > config.max_ms:
            parts = -(-(edges[end] - edges[at]) // config.max_ms)
            aim = edges[at] + (edges[end] - edges[at]) // parts
            before = int(np.searchsorted(edges[places], aim, side="right")) - 1
            after = int(np.searchsorted(places, at, side="right"))
            cut = int(places[max(before, after)]) if after < len(places) else end
            if cut >= end:
                break
            result.append(Span(at, cut, int(edges[at]), int(edges[cut])))
            at = cut
        result.append(Span(at, end, int(edges[at]), int(edges[end])))
    return result
