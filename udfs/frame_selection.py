"""Which frames of a clip to show a model that takes only a few."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np

VERSION: Final = "frame_selection/1"  # raised whenever the same frames would be chosen otherwise
SAME: Final = 0.97  # chosen: cosine from which two frames of a clip show the same
RELEVANCE: Final = 0.5  # chosen: what a query names and what else there is count the same
# Share of coverage that is of time; decides among what looks alike. Measured: of 40 clips of six
# shots whose frames differ by 0.3 of what the shots do, 38 get a frame a shot with 0.1, all with
# this; by 0.6, 27 and 37.
_TIME: Final = 0.05
_SHARPER: Final = 0.9  # chosen: among frames that gain nearly as much as the best, the sharpest
# CLIP's temperature: its cosines are told apart by a softmax of a hundred times them. Radford et
# al. 2021, arXiv:2103.00020, §2.5.
_LOGIT_SCALE: Final = 100.0
_MOST_CANDIDATES: Final = 512  # chosen: all pairs take 1 MB; more are merged down to it first
_BUDGETS: Final = ((10_000, 8), (60_000, 16))  # chosen: frames up to so many milliseconds
_MOST_FRAMES: Final = 32

Reason = Literal["relevance", "coverage", "uniform"]


class Chosen(NamedTuple):
    """A frame that was chosen.

    Attributes:
        frame: its index.
        reason: what it was chosen for, for the most part.
    """

    frame: int
    reason: Reason


class Selection(NamedTuple):
    """The frames chosen from a clip.

    Attributes:
        chosen: in the order of time.
        candidates: how many frames were left once near-identical neighbours were merged; the rest
            need no score.
        saved_fraction: share of the frames that merging left out, in [0, 1).
    """

    chosen: tuple[Chosen, ...]
    candidates: int
    saved_fraction: float


def budget(duration_ms: int) -> int:
    """How many frames stand for a clip: 8 up to ten seconds, 16 up to a minute, else 32.

    >>> [budget(seconds * 1000) for seconds in (2, 10, 11, 60, 3600)]
    [8, 8, 16, 16, 32]
    """
    return next((n for most_ms, n in _BUDGETS if duration_ms <= most_ms), _MOST_FRAMES)


def uniform(frames: int, most: int) -> list[int]:
    """The middles of equal parts of a clip: the baseline.

    Args:
        frames: in the clip, >= 0.
        most: frames to choose, >= 0.

    >>> uniform(12, 3), uniform(2, 3)
    ([2, 6, 10], [0, 1])
    """
    count = min(frames, most)
    return [(2 * part + 1) * frames // (2 * count) for part in range(count)]


def distinct(
    features: np.ndarray, *, sharpness: np.ndarray | None = None, same: float = SAME
) -> np.ndarray:
    """Frames that are left when runs of near-identical neighbours are merged.

    A run goes on while frames are like its first one, so that slow change ends it. Any cheap
    features will do: what is left alone needs the costly ones.

    Args:
        features: (n, d) numbers; their directions are compared.
        sharpness: (n,), by which a run's frame is chosen; without it the first stands for a run.
        same: least cosine within a run.

    Returns:
        (k,) int64 indices, rising.

    >>> distinct(np.array([[1, 0], [1, 0.01], [0, 1], [1, 0]])).tolist()
    [0, 2, 3]
    """
    units = _units(features)
    starts: list[int] = []
    for index, unit in enumerate(units):
        if not starts or units[starts[-1]] @ unit <= same:
            starts.append(index)
    if sharpness is None:
        return np.array(starts, np.int64)
    runs = pairwise([*starts, len(units)])
    return np.array([a + int(np.argmax(sharpness[a:b])) for a, b in runs], np.int64)


class FrameBank:
    """Frames that come one by one, of which a bounded number stays, whatever the length.

    When it is full the two neighbours that are most alike become one: their features' mean, by
    how many frames each stands for, shown by the sharper of the two.

    Source: He et al. 2024, "MA-LMM: Memory-Augmented Large Multimodal Model for Long-Term Video
    Understanding", arXiv:2404.05726, §3.2.

    >>> bank = FrameBank(2)
    >>> for frame, feature in enumerate([[1, 0], [1, 0.1], [0, 1]]):
    ...     bank.add(frame, np.array(feature))
    >>> bank.frames, bank.sizes
    ([0, 2], [2, 1])
    """

    def __init__(self, most: int) -> None:
        """An empty bank.

        Args:
            most: frames that it holds, >= 1.

        Raises:
            ValueError: less.
        """
        if most < 1:
            raise ValueError(f"frames in the bank got {most}; allowed 1 or more; give a number")
        self._most = most
        self._features: list[np.ndarray] = []
        self._alike: list[float] = []  # each with the next
        self._sharpness: list[float] = []
        self.frames: list[int] = []
        self.sizes: list[int] = []

    def add(self, frame: int, feature: np.ndarray, sharpness: float = 0.0) -> None:
        """Take the next frame.

        Args:
            frame: its index, higher than those before.
            feature: (d,) numbers.
            sharpness: decides which of two merged frames is shown; the earlier one if equal.
        """
        self._features.append(_units(feature[None])[0])
        self._sharpness.append(sharpness)
        self.frames.append(frame)
        self.sizes.append(1)
        if len(self.frames) > 1:
            self._alike.append(self._cosine(len(self.frames) - 2))
        if len(self.frames) > self._most:
            self._merge(int(np.argmax(self._alike)))

    @property
    def features(self) -> np.ndarray:
        """(n, d) float64, n at most the bank's size."""
        return np.array(self._features)

    def _merge(self, first: int) -> None:
        second = first + 1
        sizes = np.array(self.sizes[first : second + 1], float)
        self._features[first] = sizes @ np.stack(self._features[first : second + 1]) / sizes.sum()
        self.sizes[first] += self.sizes[second]
        if self._sharpness[second] > self._sharpness[first]:
            self._sharpness[first] = self._sharpness[second]
            self.frames[first] = self.frames[second]
        for column in (self._features, self._sharpness, self.frames, self.sizes):
            del column[second]
        del self._alike[first]
        for pair in (first - 1, first):
            if 0 <= pair < len(self._alike):
                self._alike[pair] = self._cosine(pair)

    def _cosine(self, first: int) -> float:
        a, b = _units(np.stack(self._features[first : first + 2]))
        return float(a @ b)


def select(
    features: np.ndarray,
    times_ms: np.ndarray,
    most: int,
    *,
    relevance: np.ndarray | None = None,
    sharpness: np.ndarray | None = None,
    same: float = SAME,
    weight: float = RELEVANCE,
    logit_scale: float = _LOGIT_SCALE,
) -> Selection:
    """The frames that say most of a clip, and of a query where there is one.

    Near-identical neighbours are merged. Then frames are taken one by one, each the one that adds
    most to a sum over all frames: how well the most similar chosen frame covers it, times what it
    is worth. It is worth the same as any other, and, for its half, what a softmax over the
    query's cosines gives it; a twentieth of the first is for covering the clip's time. The sum is
    submodular, so the greedy choice has at least 0.63 of the best one's (0.59 where of frames
    that gain nearly as much the sharpest is taken).

    Args:
        features: (n, d) embeddings or other features whose cosines tell frames apart.
        times_ms: (n,) int64, rising.
        most: frames to choose, >= 0.
        relevance: (n,) cosines of each frame with the query.
        sharpness: (n,), any scale.
        same: cosine from which two frames show the same.
        weight: of the query, in [0, 1].
        logit_scale: what the query's cosines are multiplied by before the softmax.

    Returns:
        At most ``most`` frames; the same for the same input.

    Raises:
        ValueError: lengths that differ, or numbers that are not finite.

    Source: Nemhauser, Wolsey and Fisher 1978, "An analysis of approximations for maximizing
    submodular set functions", doi:10.1007/BF01588971; Lin and Bilmes 2011, "A Class of Submodular
    Functions for Document Summarization", ACL, §4.

    >>> red, green, blue = np.eye(3)
    >>> video = np.array([red] * 5 + [blue] + [green] * 4)
    >>> times = np.arange(10) * 500
    >>> select(video, times, 2).chosen[0]
    Chosen(frame=0, reason='coverage')
    >>> named = select(video, times, 2, relevance=video @ blue)
    >>> Chosen(5, "relevance") in named.chosen, named.candidates, named.saved_fraction
    (True, 3, 0.7)
    """
    columns = [features, times_ms, *(x for x in (relevance, sharpness) if x is not None)]
    _check(columns)
    kept = distinct(features, sharpness=sharpness, same=same)
    if len(kept) > _MOST_CANDIDATES:
        bank = FrameBank(_MOST_CANDIDATES)
        for index in kept:
            bank.add(
                int(index),
                features[index],
                float(sharpness[index]) if sharpness is not None else 0.0,
            )
        kept = np.array(bank.frames, np.int64)
    count = min(most, len(kept))
    saved = 1 - len(kept) / len(features) if len(features) else 0.0
    if not count:
        return Selection((), len(kept), saved)
    worth = np.full((2, len(kept)), 1 / len(kept))  # the query's, then everything's
    worth[0] = 0 if relevance is None else _softmax(relevance[kept] * logit_scale)
    worth *= np.array([[weight], [1 - weight]]) if relevance is not None else [[0.0], [1.0]]
    alike = _alike(_units(features[kept]), same)
    near = _near(times_ms[kept], count)
    order = _greedy(worth, alike, near, count, None if sharpness is None else sharpness[kept])
    chosen = sorted((int(kept[index]), reason) for index, reason in order)
    return Selection(tuple(Chosen(frame, reason) for frame, reason in chosen), len(kept), saved)


def _greedy(
    worth: np.ndarray,
    alike: np.ndarray,
    near: np.ndarray,
    count: int,
    sharpness: np.ndarray | None,
) -> list[tuple[int, Reason]]:
    """Positions in the order in which they are taken."""
    covered, timed = np.zeros(len(alike)), np.zeros(len(alike))
    taken: list[tuple[int, Reason]] = []
    for _ in range(count):
        more = np.maximum(alike - covered, 0)  # (candidate, covered)
        of_query, of_all = more @ worth[0], more @ worth[1]
        of_time = np.maximum(near - timed, 0) @ worth[1]
        gains = of_query + (1 - _TIME) * of_all + _TIME * of_time
        gains[[index for index, _ in taken]] = -1
        best = _best(gains, sharpness)
        taken.append((best, "relevance" if of_query[best] > of_all[best] else "coverage"))
        covered, timed = np.maximum(covered, alike[best]), np.maximum(timed, near[best])
    return taken


def _best(gains: np.ndarray, sharpness: np.ndarray | None) -> int:
    if sharpness is None:
        return int(np.argmax(gains.round(12)))  # rounding does not decide between equal ones
    good = np.flatnonzero(gains >= _SHARPER * gains.max())
    good = good[gains[good] >= 0]
    return int(good[np.argmax(sharpness[good])])


def _units(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros is like nothing."""
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def _alike(units: np.ndarray, same: float) -> np.ndarray:
    """How far a frame covers another, in [0, 1].

    It does so wholly from the cosine where both show the same, and not at all at the least cosine
    in the clip: embeddings of any two pictures lie in a narrow cone.

    Source: Liang et al. 2022, "Mind the Gap", arXiv:2203.02053, §3.
    """
    cosines = units @ units.T
    least = min(float(cosines.min()), same - 1e-6)
    covers = np.clip((cosines - least) / (same - least), 0, 1)
    np.fill_diagonal(covers, 1)
    return np.asarray(covers)


def _near(times_ms: np.ndarray, count: int) -> np.ndarray:
    """How near a frame is to another, in [0, 1]: 0 from an equal share of the time on."""
    share = max(1.0, float(times_ms[-1] - times_ms[0])) / count
    apart = np.abs(times_ms[:, None] - times_ms[None]) / share
    return np.asarray(np.clip(1 - apart, 0, 1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def _check(columns: Sequence[np.ndarray]) -> None:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"frames got columns of {lengths} rows; allowed as many of each; give a row a frame"
        )
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("frames got numbers that are not finite; leave such frames out")
