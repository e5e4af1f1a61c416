"""A video's clips with all their signals, from one decoding of its frames and its sound."""

import uuid
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Final, NamedTuple, Self

import numpy as np
from PIL import Image

from udfs import (
    clip_bars,
    clip_hashes,
    clip_motion,
    clip_picture,
    clip_sound,
    frame_selection,
    keyframe_jpeg,
    keyframes,
    subtitles,
    video_frames,
)
from udfs import shots as shots_rule
from udfs.keyframes import LONGEST_GAP_MS, KeyframeBank
from udfs.refused import Refused
from udfs.shots import DETECTORS, ShotDetector
from udfs.spans import Span, SpanConfig, spans, strided
from udfs.speech import Speech
from udfs.spool import Spool
from udfs.transnetv2 import TransNetV2
from udfs.video_frames import SOUND_HZ, Frame, Sound, VideoPass, decoded
from udfs.video_pass import Limits

VERSION: Final = "clips/1"  # raised whenever the same frames would be put together otherwise
STRIDE: Final = "stride"  # clips of one length, whatever is seen
NETWORK: Final = "transnetv2"  # shots as a network sees them
_LENGTHS, _LIMITS = SpanConfig(), Limits()
# Chosen: signals are of frames of 72 px, twice those that shots are found on: the hashes of copies
# want 64 px (`udfs/clip_hashes.py`).
_TIMES: Final = 2
_FULL_SCALE: Final = 32767  # sound is kept as 16 bit, as most of it came
_BLOCK: Final = 60 * SOUND_HZ  # chosen: the sound that is read at a time


class Found(NamedTuple):
    """What one pass over a video finds.

    Attributes:
        facts: of the video, by column of ``schemas.video_signals``.
        clips: in order, by column of ``schemas.clips``; ``keyframes``, where they lie among
            the pictures; and ``captions``, rows of ``schemas.captions.FOUND``.
    """

    facts: dict[str, Any]
    clips: list[dict[str, Any]]


@dataclass(frozen=True)
class ClipPass:
    """How a video is cut into clips, and what is measured on each.

    The video is decoded once, as a stream. What is needed of it once its shots are known lies in
    files without a name meanwhile: the frames that are sampled (55 kB a second at 16:9),
    of them those that show something new as JPEGs (about 100 kB each), and the sound (32 kB a
    second). Memory holds 17 bytes a frame, and one clip.

    Attributes:
        cut_by: a detector of shots in ``udfs.shots``, or ``STRIDE``, or ``NETWORK``.
        lengths: how long clips are.
        is_key_aligned: clips begin with key frames, so that they can be cut without encoding.
        sample_fps: sampled frames a second.
        keyframes: most frames of a clip that are kept as pictures.
        limits: what a video may take.
        speech: what hears speech; null: it is not measured.
        network: what sees shots, if ``cut_by`` says so.
    """

    cut_by: str = "robust"
    lengths: SpanConfig = _LENGTHS
    is_key_aligned: bool = False
    sample_fps: float = 2.0
    keyframes: int = 3
    limits: Limits = _LIMITS
    speech: Speech | None = None
    network: TransNetV2 | None = None

    def here(self) -> Self:
        """The same with its models found on this machine, for a child process that cannot look.

        Raises:
            ModelMismatch: one is not the file that its card describes.
        """
        speech, network = self.speech, self.network
        return replace(
            self,
            speech=speech and Speech(speech.model.here()),
            network=network and TransNetV2(network.model.here()),
        )

    @property
    def version(self) -> str:
        """What the values depend on; the limits decide only whether there are any."""
        parts = (
            video_frames,
            shots_rule,
            clip_motion,
            clip_picture,
            clip_bars,
            clip_sound,
            clip_hashes,
            keyframes,
            keyframe_jpeg,
            frame_selection,
            subtitles,
        )
        return " ".join(
            [
                VERSION,
                *(part.VERSION for part in parts),
                f"sample_fps:{self.sample_fps:g}",
                f"keyframes:{self.keyframes}",
                f"{self.cut_by}:{self.is_key_aligned}",
                *(f"{name}:{value}" for name, value in asdict(self.lengths).items()),
                *(model.version for model in (self.network, self.speech) if model is not None),
            ]
        )

    def __call__(self, stream: BinaryIO, video: Mapping[str, Any]) -> Found:
        """The clips of a video.

        Args:
            stream: its bytes, which can be sought.
            video: its ``media_sha256``, ``size_bytes`` and ``duration_s``, null if not told; and
                ``pictures``, the file that gets the key frames of all clips, one after another.

        Raises:
            Refused: it cannot be decoded to its end, or is more than the limits allow.
            OSError: what the stream itself raises.
        """
        with (
            decoded(
                stream, size_bytes=video["size_bytes"], limits=self.limits, with_texts=True
            ) as passing,
            Spool() as small,
            Spool() as sounds,
            Spool(video["pictures"]) as pictures,
        ):
            seen = _Seen(
                detector=self._detector(),
                sample_fps=self.sample_fps,
                keyframes=KeyframeBank(pictures, gap_ms=self._gap_ms()),
                small=small,
                sounds=sounds,
                max_seconds=self.limits.max_seconds,
            )
            for part in passing:
                seen.add(part)
            if passing.is_truncated:
                raise Refused(
                    "truncated_video", f"its end is missing after {passing.frames} frames"
                )
            clips = [
                _named(video["media_sha256"], passing, span)
                | {"clip_index": number, "begins_by": begins_by}
                | _measured(seen, span, self.sample_fps, self.speech)
                | {"keyframes": [one._asdict() for one in seen.keyframes.of(span, self.keyframes)]}
                for number, (span, begins_by) in enumerate(self._clips(seen, passing.end_ms))
            ]
            spans_ms = [(clip["start_ms"], clip["end_ms"]) for clip in clips]
            for clip, captions in zip(clips, passing.captions(spans_ms), strict=True):
                clip["captions"] = captions
            return Found(_facts(passing, video, seen), clips)

    def _gap_ms(self) -> int:
        """No longer than a clip that begins where nothing changes."""
        if self.cut_by == STRIDE:
            return min(LONGEST_GAP_MS, self.lengths.stride_ms)
        return min(LONGEST_GAP_MS, self.lengths.max_ms // 2)

    def _detector(self) -> ShotDetector | None:
        if self.cut_by == STRIDE:
            return None
        if self.cut_by != NETWORK:
            return DETECTORS[self.cut_by]()
        if self.network is None:
            raise ValueError(f"cut_by got {NETWORK} without a network; allowed with one; give it")
        return self.network.detector()

    def _clips(self, seen: "_Seen", end_ms: int) -> Iterator[tuple[Span, str]]:
        """Spans that tile the video, and what each begins with."""
        times_ms = np.array(seen.times_ms, np.int64)
        is_key = np.array(seen.keys, bool) if self.is_key_aligned else None
        if seen.detector is None:
            found, other = [], "stride"
            cut = strided(times_ms, end_ms, is_key=is_key, config=self.lengths)
        else:
            found, other = seen.detector.boundaries(), "key" if self.is_key_aligned else "split"
            cut = spans(found, times_ms, end_ms, is_key=is_key, config=self.lengths)
        kinds = {0: "start", **dict.fromkeys(found, "shot")}
        for span in cut:
            yield span, kinds.get(span.first, other)


class _Seen:
    """What stays of the frames and the sound that went by."""

    def __init__(
        self,
        *,
        detector: ShotDetector | None,
        sample_fps: float,
        keyframes: KeyframeBank,
        small: Spool,
        sounds: Spool,
        max_seconds: float,
    ) -> None:
        self.detector, self.keyframes = detector, keyframes
        self.times_ms, self.keys = array("q"), bytearray()
        self.sampled = array("q")  # indices of the frames that lie in the spool
        self.small, self.sounds = small, sounds
        self._step_ms = 1000 / sample_fps
        self._due_ms = 0.0
        self._most_sound = int(max_seconds * SOUND_HZ)

    def add(self, part: Frame | Sound) -> None:
        """Take what comes next."""
        if isinstance(part, Sound):
            self._hear(part)
            return
        self.times_ms.append(part.time_ms)
        self.keys.append(part.is_key)
        if self.detector is not None:
            self.detector.add(part.small)
        until_ms = part.time_ms + 1  # times are rounded
        if until_ms > self._due_ms:
            self.sampled.append(part.index)
            sampled = _sampled(part)
            self.small.extend(sampled[None])
            self.keyframes.add(part, sampled)
            self._due_ms = (until_ms // self._step_ms + 1) * self._step_ms

    def _hear(self, sound: Sound) -> None:
        """Keep sound in its place: what was heard before is dropped, a gap is silence."""
        known = len(self.sounds)
        gap = min(sound.start, self._most_sound) - known
        if gap > 0:
            self._silence(gap)
        samples = sound.samples[max(0, -gap) :][: max(0, self._most_sound - len(self.sounds))]
        level = np.clip(samples, -1, 1) * _FULL_SCALE
        self.sounds.extend(np.rint(level).astype(np.int16))

    def _silence(self, samples: int) -> None:
        while samples > 0:
            self.sounds.extend(np.zeros(min(samples, _BLOCK), np.int16))
            samples -= _BLOCK


def _sampled(frame: Frame) -> np.ndarray:
    """The frame at twice the size of the small one, which all of a video have alike."""
    height, width = (_TIMES * side for side in frame.small.shape[:2])
    picture = frame.picture(min(height, width))
    if picture.shape[:2] == (height, width):
        return picture
    # Less than that, longer than wide by a lot, or of another size than the frames before.
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def _facts(passing: VideoPass, video: Mapping[str, Any], seen: _Seen) -> dict[str, Any]:
    told_s = video["duration_s"]
    return {
        "width_px": passing.width_px,
        "height_px": passing.height_px,
        "frames": passing.frames,
        "key_frames": passing.keys,
        "fps": 1000 * passing.frames / passing.end_ms,
        "duration_ms": passing.end_ms,
        "decoded_fraction": passing.end_ms / (1000 * told_s) if told_s else None,
        "damaged_packets": passing.damaged_packets,
        "repaired_times": passing.repaired_times,
        "damaged_subtitles": passing.damaged_subtitles,
        "sampled_frames": len(seen.sampled),
        "distinct_frames": len(seen.keyframes),
        "has_audio": len(seen.sounds) > 0,
    }


def _named(media_sha256: str, passing: VideoPass, span: Span) -> dict[str, Any]:
    """What a clip is, before anything is measured."""
    frames = span.end - span.first
    return {
        "clip_id": clip_id(media_sha256, span.first, span.end),
        "start_ms": span.start_ms,
        "end_ms": span.end_ms,
        "start_frame": span.first,
        "end_frame": span.end,
        "frames": frames,
        "fps": 1000 * frames / (span.end_ms - span.start_ms),
        "width_px": passing.width_px,
        "height_px": passing.height_px,
    }


def _measured(seen: _Seen, span: Span, fps: float, speech: Speech | None) -> dict[str, Any]:
    """What a clip looks and sounds like; a span that no sampled frame lies in only sounds."""
    first, after = np.searchsorted(seen.sampled, [span.first, span.end])
    heard = _heard(seen.sounds, span, speech)
    if first == after:
        return {"sampled_frames": 0, **heard}
    frames = seen.small[first:after]
    moved = clip_motion.motion(frames, fps=fps)
    barred = clip_bars.bars(frames)
    hashed = clip_hashes.clip_hashes(frames)
    return {
        "sampled_frames": len(frames),
        "motion_score": moved.score,
        "motion_score_max": moved.score_max,
        "static_fraction": moved.static_fraction,
        "is_static": moved.is_static,
        **clip_picture.clip_picture(frames)._asdict(),
        "letterbox_fraction": barred.letterbox_fraction,
        "pillarbox_fraction": barred.pillarbox_fraction,
        "phash_runs": [
            dict(zip(("phash", "information", "frames"), run, strict=True))
            for run in zip(*(column.tolist() for column in hashed), strict=True)
        ],
        **heard,
    }


def _heard(sounds: Spool, span: Span, speech: Speech | None) -> dict[str, Any]:
    start, end = (ms * SOUND_HZ // 1000 for ms in (span.start_ms, span.end_ms))
    meter = clip_sound.SoundMeter()
    # A video without sound opens no network.
    of_speech = speech.meter() if speech is not None and start < len(sounds) else None
    for at in range(start, min(end, len(sounds)), _BLOCK):
        block = sounds[at : min(at + _BLOCK, end)].astype(np.float32) / _FULL_SCALE
        meter.add(block)
        if of_speech is not None:
            of_speech.add(block)
    spoken = {"speech_fraction": of_speech.fraction()} if of_speech is not None else {}
    return meter.measured()._asdict() | spoken


def clip_id(media_sha256: str, start_frame: int, end_frame: int) -> str:
    """Name of a span of a video: that of its bytes and its frames, wherever they lie.

    Source: NeMo Curator's clip ids, which are of a path and frames.

    >>> clip_id("0" * 64, 0, 48)
    'e8d02fb2-ef4a-507f-9603-fccd2481715a'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{media_sha256}_{start_frame}_{end_frame}"))
