"""Measure the whole clip pass against a bare loop, and what it holds in memory, as JSON.

    .venv/bin/python tests/bench/bench_clips.py --video a.mp4 --minutes 30
    .venv/bin/python tests/bench/bench_clips.py --minutes 0 --hours 2 --videos 1000

`speed`: a 720p video is cut into clips, every default signal is measured on them and on their key
frames. Ours is what tasks do: a child process that hashes and decodes the file where it lies, key
frames as JPEGs, and a child that decodes those for the networks. The bare side is one loop by PyAV
and ONNX Runtime in one process that calls the same kernels on what lies in memory. `ratio` is bare
CPU seconds / ours; 1 would mean that isolation, files and JPEGs cost nothing.
`long`: a 1080p video of so many hours; `many`: so many videos of 4 s one after another. Both tell
the resident memory of the worker, and of its children, over time.
"""

import argparse
import hashlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import psutil
import pyarrow as pa
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from jobs import score_videos
from jobs.runtime import models
from jobs.runtime.config import Config, Dump
from tests.bench.bench_shots import long_video
from tests.bench.memory_over_time import MemoryOverTime
from tests.bench.process_kinds import cpu_s
from udfs import clip_bars, clip_hashes, clip_motion, clip_picture, clip_sound, isolation
from udfs.frame_selection import select
from udfs.image_codec import Decoded
from udfs.keyframes import features
from udfs.sharpness import sharpness
from udfs.shots import DETECTORS
from udfs.spans import SpanConfig, spans
from udfs.video_frames import SOUND_HZ
from udfs.video_signals import COLUMNS

HD: Final = (1920, 1080)
STEP_MS: Final = 500
NEW: Final = 0.9  # as udfs.keyframes
GAP_MS: Final = 5_000  # likewise
KEYFRAMES: Final = 3
STILL_PX: Final = 512


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of 720p; 0: no speed")
    parser.add_argument("--video", type=Path, help="a real video, repeated to so many minutes")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--hours", type=float, default=0.0, help="of 1080p; 0: no memory of it")
    parser.add_argument("--videos", type=int, default=0, help="short ones; 0: no memory of them")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.minutes:
            found["speed"] = speed(folder, options)
        if options.hours:
            found["long"] = held_by([still_hd(folder / "long.mp4", options.hours)])
        if options.videos:
            found["many"] = held_by(short_videos(folder, options.videos))
    print(json.dumps(found, indent=2))


def speed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turns over the same file."""
    path = folder / "video.mp4"
    seconds = long_video(path, options.minutes * 60, options.video)
    sides: dict[str, Callable[[Path], dict[str, int]]] = {"ours": ours, "bare": bare}
    for side in sides.values():  # warm: networks opened, code compiled
        side(short(folder / "warm.mp4", 0))
    turns: list[dict[str, Any]] = []
    for turn in range(options.repeats):
        entry: dict[str, Any] = {}
        for name in sorted(sides, reverse=bool(turn % 2)):
            cpu, wall = all_cpu_s(), time.monotonic()
            counts = sides[name](path)
            entry[name] = counts | {
                "cpu_s": round(all_cpu_s() - cpu, 1),
                "wall_s": round(time.monotonic() - wall, 1),
            }
        turns.append(entry)
    ratio = statistics.median(turn["bare"]["cpu_s"] / turn["ours"]["cpu_s"] for turn in turns)
    wall = statistics.median(turn["bare"]["wall_s"] / turn["ours"]["wall_s"] for turn in turns)
    return {
        "video_s": round(seconds),
        "turns": turns,
        "ratio": round(ratio, 3),
        "wall_ratio": round(wall, 3),
    }


def all_cpu_s() -> float:
    return sum(cpu_s(psutil.Process()).values())


def config() -> Config:
    return Config(warehouse="none", dumps=(Dump(name="none", path="none"),))


def row(path: Path) -> dict[str, Any]:
    """A video as `bronze.media` has it."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        size = {"header_width_px": video.width, "header_height_px": video.height}
        duration_s = (container.duration or 0) / 1e6
    known = {"media_sha256": sha256, "size_bytes": path.stat().st_size, "offset_bytes": 0}
    place = {"root": str(path.parent), "path": path.name, "duration_s": duration_s}
    return {name: (known | place | size)[name] for name in COLUMNS}


def ours(path: Path) -> dict[str, int]:
    """What the tasks of score_videos and score_keyframes do."""
    side = score_videos.side(config())
    batch = pa.RecordBatch.from_pylist([row(path)])
    shown: list[pa.RecordBatch] = []
    clips = 0
    for emitted in side.operator([batch]):
        for clip in emitted["clip"].to_pylist():
            if clip:
                clips += 1
                shown.append(pa.RecordBatch.from_pylist(_contents(clip["keyframes"])))
    scored = sum(b.num_rows for b in images().operator(b for b in shown if b.num_rows))
    return {"clips": clips, "keyframes": scored}


def _contents(keyframes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one[name] for name in ("media_sha256", "content")} for one in keyframes]


def images() -> models.Side:
    return models.scoring(config()).images


def bare(path: Path) -> dict[str, int]:
    """The same work in one loop, all in memory."""
    signals = list(images().signals.values())
    detector, times_ms = DETECTORS["robust"](), []
    sampled: list[tuple[int, np.ndarray]] = []
    kept: list[tuple[int, int, np.ndarray, float, np.ndarray]] = []
    sounds: list[np.ndarray] = []
    due = 0.0
    for frame in _decoded(path, sounds):
        times_ms.append(frame.time_ms)
        detector.add(frame.scaled((64, 36)))
        if frame.time_ms >= due:
            due = (frame.time_ms // STEP_MS + 1) * STEP_MS
            small = frame.scaled((128, 72))
            sampled.append((len(times_ms) - 1, small))
            feature = features(small)
            if (
                not kept
                or float(kept[-1][2] @ feature) < NEW
                or frame.time_ms - kept[-1][1] >= GAP_MS
            ):
                width = round(STILL_PX * frame.picture.width / frame.picture.height)
                still = frame.scaled((width, STILL_PX))
                sharp = sharpness(Image.fromarray(small))
                kept.append((len(times_ms) - 1, frame.time_ms, feature, sharp, still))
    times = np.array(times_ms, np.int64)
    cut = spans(detector.boundaries(), times, int(times[-1]) + 40, is_key=None, config=SpanConfig())
    sound = np.concatenate(sounds) if sounds else np.zeros(0, np.float32)
    chosen: list[np.ndarray] = []
    clips = 0
    for span in cut:
        clips += 1
        frames = np.array([one for index, one in sampled if span.first <= index < span.end])
        if len(frames):
            clip_motion.motion(frames, fps=2.0)
            clip_picture.clip_picture(frames)
            clip_bars.bars(frames)
            clip_hashes.clip_hashes(frames)
        meter = clip_sound.SoundMeter()
        meter.add(sound[span.start_ms * SOUND_HZ // 1000 : span.end_ms * SOUND_HZ // 1000])
        meter.measured()
        here = [one for one in kept if span.first <= one[0] < span.end]
        if here:
            found = select(
                np.array([one[2] for one in here]),
                np.array([one[1] for one in here]),
                KEYFRAMES,
                sharpness=np.array([one[3] for one in here]),
            )
            chosen += [here[one.frame][4] for one in found.chosen]
    for batch in _batched(chosen):
        decoded = [_as_decoded(picture) for picture in batch]
        for signal in signals:
            signal.finish([signal.prepare(one) for one in decoded])
    return {"clips": clips, "keyframes": len(chosen)}


def _batched(items: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(items), 32):
        yield items[start : start + 32]


def _as_decoded(picture: np.ndarray) -> Decoded:
    height, width, _ = picture.shape
    return Decoded(Image.fromarray(picture), "JPEG", "RGB", width, height, 1, False, False, 1)


class _Bare:
    """A frame as PyAV has it."""

    def __init__(self, picture: av.VideoFrame, time_ms: int, scaler: VideoReformatter) -> None:
        self.picture, self.time_ms, self._scaler = picture, time_ms, scaler

    def scaled(self, size: tuple[int, int]) -> np.ndarray:
        picture = self.picture
        if size[0] <= 64:  # the mean of 4 x 2 picked pixels, as ours
            picture = self._scaler.reformat(
                picture, 256, 72, "yuv420p", interpolation=Interpolation.POINT, threads=1
            )
        scaled = VideoReformatter() if size[0] > 64 else _SMALL
        return scaled.reformat(
            picture, *size, "rgb24", interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()


_SMALL: Final = VideoReformatter()


def _decoded(path: Path, sounds: list[np.ndarray]) -> Iterator[_Bare]:
    scaler = VideoReformatter()
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        audio = container.streams.audio[0] if container.streams.audio else None
        resampler = av.AudioResampler(format="fltp", rate=SOUND_HZ)
        for packet in container.demux([one for one in (video, audio) if one]):
            for part in packet.decode():
                if isinstance(part, av.VideoFrame):
                    yield _Bare(part, round(1000 * part.pts * part.time_base), scaler)
                else:
                    sounds += [one.to_ndarray().mean(0) for one in resampler.resample(part)]


def held_by(paths: "Iterator[Path] | list[Path]") -> dict[str, Any]:
    """Resident memory while videos go through one worker's operator."""
    side = score_videos.side(config())
    batches = (pa.RecordBatch.from_pylist([row(path)]) for path in paths)
    worker, children, clips, videos = [], [], 0, 0
    begun = time.monotonic()
    with MemoryOverTime(psutil.Process(), every_s=5.0) as watched:
        for emitted in side.operator(batches):
            videos += emitted["clip"].null_count
            clips += emitted.num_rows - emitted["clip"].null_count
    for held in watched.series:
        worker.append(held.largest_mb.get("python_driver", 0))
        children.append(held.all_mb)
    isolation.close_warm()
    fifth = max(1, len(children) // 5)
    return {
        "videos": videos,
        "clips": clips,
        "wall_s": round(time.monotonic() - begun),
        "largest_process_mb": max(worker),
        "all_processes_mb": max(children),
        "all_mb_first_fifth": max(children[:fifth]),
        "all_mb_last_fifth": max(children[-fifth:]),
    }


def short(path: Path, seed: int, seconds: int = 4) -> Path:
    """A rendered 320 x 180 video that nothing else equals."""
    rng = np.random.default_rng(seed)
    content = io.BytesIO()
    with av.open(content, "w", "mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        scene = rng.integers(0, 256, (2, 9, 16, 3)).astype(np.uint8)
        for n in range(25 * seconds):
            pixels = np.roll(scene[n * 2 // (25 * seconds)], n // 3, axis=1)
            picture = Image.fromarray(pixels).resize((320, 180), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    path.write_bytes(content.getvalue())
    return path


def short_videos(folder: Path, count: int) -> Iterator[Path]:
    """One at a time, deleted when the next is asked for."""
    for seed in range(count):
        path = short(folder / f"{seed}.mp4", seed)
        yield path
        path.unlink()


def still_hd(path: Path, hours: float) -> Path:
    """1080p whose ten seconds of scenes repeat."""
    rng = np.random.default_rng(0)
    once = path.with_name("once.mp4")
    with av.open(str(once), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *HD, "yuv420p"
        stream.time_base = Fraction(1, 25)
        for number in range(3):
            scene = Image.fromarray(rng.integers(0, 256, (9, 16, 3)).astype(np.uint8))
            wide = np.asarray(scene.resize((HD[0] + 400, HD[1]), Image.Resampling.BICUBIC))
            for n in range(80 + 10 * number):
                pixels = np.ascontiguousarray(wide[:, 2 * n : 2 * n + HD[0]])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    long_video(path, hours * 3600, once)
    return path


if __name__ == "__main__":
    main()
