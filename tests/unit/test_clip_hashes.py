from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.rendered_clips import copies, encoded, plain, rendered, sampled, titled
from udfs.clip_hashes import RADIUS, ClipHashes, clip_hashes, keys
from udfs.clip_match import LEAST_SIMILARITY, similarity
from udfs.near_hashes import NearHashes
from udfs.phash import hamming, phash

CLIPS = 6


def share_a_key(one: ClipHashes, other: ClipHashes) -> bool:
    """As an index of keys finds it."""
    ours, theirs = keys(one), keys(other)
    index = NearHashes(ours, np.zeros(len(ours), np.int64), radius=RADIUS)
    return any(len(found.ids) for found in index.near(theirs, np.ones(len(theirs), np.int64)))


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [encoded(rendered(seed, 5)) for seed in range(CLIPS)]


@pytest.fixture(scope="module")
def originals(files) -> list[ClipHashes]:
    return [clip_hashes(sampled(file)) for file in files]


def test_copies_are_found_by_a_key_and_verified(files, originals) -> None:
    for seed, (file, original) in enumerate(zip(files, originals, strict=True)):
        for kind, copy in copies(file, seed).items():
            hashes = clip_hashes(sampled(copy))
            assert share_a_key(original, hashes), (seed, kind)
            assert similarity(original, hashes) >= LEAST_SIMILARITY, (seed, kind)
            assert similarity(hashes, original) == similarity(original, hashes)


def test_distinct_clips_are_no_copies(originals) -> None:
    for one, other in combinations(originals, 2):
        assert similarity(one, other) < LEAST_SIMILARITY / 2
        assert not share_a_key(one, other)


def test_a_common_beginning_makes_no_copy() -> None:
    one, other = (clip_hashes(sampled(encoded(titled(seed)))) for seed in (50, 51))
    assert share_a_key(one, other)
    assert similarity(one, other) < LEAST_SIMILARITY


def test_black_and_plain_clips_say_nothing(originals) -> None:
    for seed in range(6):
        clip = clip_hashes(sampled(encoded(plain(seed, 2))))
        assert not clip.tells.any()
        assert len(keys(clip)) == 0
        assert similarity(clip, clip) == 0
        assert similarity(clip, originals[0]) == 0


def test_black_frames_between_change_nothing(photographs) -> None:
    frames = stills(photographs, 2)
    black = np.zeros_like(frames[:3])
    padded = np.concatenate([black, frames, black])
    assert similarity(clip_hashes(frames), clip_hashes(padded)) == 1
    assert keys(clip_hashes(padded)).tolist() == keys(clip_hashes(frames)).tolist()


def stills(photographs: list[Image.Image], each: int) -> np.ndarray:
    shown = [np.asarray(image.convert("RGB").resize((114, 64))) for image in photographs]
    return np.repeat(shown, each, axis=0)


def test_runs_of_like_frames_are_one(photographs) -> None:
    clip = clip_hashes(stills(photographs, 3))
    assert clip.frames.tolist() == [3] * len(photographs)
    expected = [phash(Image.fromarray(frame)) for frame in stills(photographs, 1)]
    assert clip.hashes.tolist() == expected
    assert (clip.information > 45).all()
    assert [column.dtype for column in clip] == [np.int64, np.uint8, np.int32]


@pytest.mark.parametrize("bars", [(12, 12, 0, 0), (0, 0, 20, 20), (12, 12, 20, 20)])
def test_bars_on_both_sides_are_left_out(photographs, bars) -> None:
    frames = stills(photographs[:3] + photographs[4:], 1)
    above, below, left, right = bars
    boxed = np.pad(frames, ((0, 0), (above, below), (left, right), (0, 0)))
    near = hamming(clip_hashes(frames).hashes, clip_hashes(boxed).hashes)
    assert (near <= 4).all()


@pytest.mark.parametrize("bar", [((30, 0), (0, 0)), ((0, 0), (0, 40))])
def test_a_bar_on_one_side_is_content(photographs, bar) -> None:
    frames = np.pad(stills(photographs, 1), ((0, 0), *bar, (0, 0)))
    assert clip_hashes(frames).hashes[0] == phash(Image.fromarray(frames[0]))


def of(*hashes: int, information: int = 64, frames: int = 1) -> ClipHashes:
    count = len(hashes)
    return ClipHashes(
        np.array(hashes, np.int64),
        np.full(count, information, np.uint8),
        np.full(count, frames, np.int32),
    )


RANDOM = np.random.default_rng(0).integers(-(2**63), 2**63, 40).tolist()


def test_order_counts() -> None:
    clip = of(*RANDOM[:10])
    assert similarity(clip, of(*RANDOM[9::-1])) == pytest.approx(0.1, abs=0.01)
    assert similarity(clip, of(*RANDOM[:5], *RANDOM[10:15])) == 0.5


def test_length_decides_whether_a_part_is_a_copy() -> None:
    assert similarity(of(*RANDOM[:10]), of(*RANDOM[2:8])) == 1
    assert similarity(of(*RANDOM[:10]), of(*RANDOM[2:6])) == 0
    assert similarity(of(*RANDOM[:10]), of(*RANDOM[2:6], frames=2)) == 1


@pytest.mark.parametrize(
    ("frames", "ladder"),
    [
        (1, [(0, 1), (10, 1), (14, 0.5), (18, 0), (30, 0)]),
        (3, [(0, 1), (3, 1), (5, 0.5), (7, 0), (30, 0)]),
    ],
)
def test_bits_that_differ_count_in_part_and_less_in_a_still_shot(frames, ladder) -> None:
    clip = of(*RANDOM[:4], frames=frames)
    for bits, expected in ladder:
        changed = of(*(value ^ ((1 << bits) - 1) for value in RANDOM[:4]), frames=frames)
        assert similarity(clip, changed) == expected


def test_a_still_copy_of_a_moving_frame_is_judged_as_moving() -> None:
    changed = of(*(value ^ 255 for value in RANDOM[:4]), frames=2)
    assert similarity(of(*RANDOM[:4], frames=3), changed) == 1


def test_a_run_counts_by_what_it_says() -> None:
    shown = of(*RANDOM[:4])
    vague = shown._replace(information=np.array([64, 64, 32, 31], np.uint8))
    other = of(RANDOM[0], RANDOM[1], RANDOM[20], RANDOM[21])
    assert similarity(vague, other) == pytest.approx(2 / 2.5)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=9),
    st.lists(st.integers(0, 7), min_size=1, max_size=9),
)
def test_the_alignment_is_the_best_that_keeps_the_order(first, second) -> None:
    one, other = of(*(RANDOM[n] for n in first)), of(*(RANDOM[n] for n in second))

    def laid(shorter: list[int], longer: list[int], start: int = 0) -> int:
        if not shorter:
            return 0
        here = [
            (n == shorter[0]) + laid(shorter[1:], longer, start + at)
            for at, n in enumerate(longer[start:])
        ]
        return max(here)

    short, long = (first, second) if len(first) <= len(second) else (second, first)
    best = laid(short, long)
    if len(first) == len(second):
        best = max(best, laid(long, short))
    expected = best / len(short) if len(short) >= len(long) / 2 else 0
    assert similarity(one, other) == pytest.approx(expected)
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_any_frames_have_hashes(count, height, width, seed) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    clip = clip_hashes(frames)
    assert clip.frames.sum() == count
    assert len(clip.hashes) == len(clip.information) == len(clip.frames)
    assert similarity(clip, clip) in (0, 1)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="frames got uint8 of shape"):
        clip_hashes(np.zeros((36, 64, 3), np.uint8))
