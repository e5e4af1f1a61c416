import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from udfs.keyframes import KeyframeBank, features
from udfs.spans import Span
from udfs.spool import Spool


def scene(seed):
    """A picture of large blocks, as sampled frames are."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((128, 72), Image.Resampling.NEAREST))


def frames(shown, step_ms=500):
    """Sampled frames, 15 frames apart."""
    for number, picture in enumerate(shown):
        yield (
            SimpleNamespace(
                index=15 * number,
                time_ms=step_ms * number,
                picture=lambda _, picture=picture: picture,
            ),
            picture,
        )


def kept(shown, *, step_ms=500, **settings):
    with Spool() as pictures:
        bank = KeyframeBank(pictures, **settings)
        for frame, picture in frames(shown, step_ms):
            bank.add(frame, picture)
        return [one.frame // 15 for one in bank._kept]


def test_a_frame_is_kept_when_it_shows_something_new() -> None:
    one, other = scene(1), scene(2)

    assert kept([one, one, one, other, other, one]) == [0, 3, 5]
    assert kept([one // 2, one // 2 + 60, one // 2 + 90]) == [0]  # exposure that drifts


def test_what_hardly_changes_is_kept_again_after_a_while() -> None:
    assert kept([scene(1)] * 25) == [0, 10, 20]
    assert kept([scene(1)] * 9, gap_ms=2_000) == [0, 4, 8]


def test_plain_frames_are_alike() -> None:
    plain = [np.full((72, 128, 3), level, np.uint8) for level in (0, 90, 255)]

    assert kept(plain) == [0]
    assert np.isfinite(features(plain[0])).all()


def test_frames_that_come_faster_than_two_a_second_are_not_all_kept() -> None:
    assert kept([scene(seed) for seed in range(9)], step_ms=100) == [0, 4, 8]


def test_a_clip_gets_the_frames_that_say_most_of_it() -> None:
    shown = [scene(1), scene(2), scene(3), scene(3), scene(4)]
    with Spool() as pictures:
        bank = KeyframeBank(pictures)
        for frame, picture in frames(shown):
            bank.add(frame, picture)
        first = bank.of(Span(0, 30, 0, 1_000), most=3)
        rest = bank.of(Span(30, 75, 1_000, 2_500), most=1)
        between = bank.of(Span(46, 60, 1_530, 2_000), most=3)
        read = [
            np.asarray(
                Image.open(io.BytesIO(pictures[one.offset_bytes :][: one.size_bytes].tobytes()))
            )
            for one in first
        ]

    assert [one.frame for one in first] == [0, 15]
    assert [(one.width_px, one.height_px, one.time_ms) for one in first] == [
        (128, 72, 0),
        (128, 72, 500),
    ]
    assert len(rest) == 1
    assert between == []
    for seed, picture in zip((1, 2), read, strict=True):
        assert features(picture) @ features(scene(seed)) > 0.99
