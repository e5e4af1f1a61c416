"""Measure the search for shots: its F1 on rendered videos and its speed on 720p, as JSON.

    .venv/bin/python tests/bench/bench_shots.py
    .venv/bin/python tests/bench/bench_shots.py --peer venv/bin/python --minutes 30 --video a.mp4

`f1` is of the changes that were rendered (`tests/rendered_scenes.py`), at one frame of tolerance: a
cut at its frame, a dissolve or fade anywhere within it. `found` counts hits, false alarms and
misses by kind of video. All sides read the same H.264 files. Speed is seconds of video a second of
CPU, of all threads, the median of turns taken in pairs; `decode` is PyAV's decoding alone, and the
most that can be had without skipping work. `rough` skips deblocking, which a search for shots can
do without. `--peer` is the interpreter of an environment with scenedetect 0.7 and OpenCV; without
it the peer is left out. `--video` is a real 720p video to repeat, in place of rendered scenes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests import rendered_scenes
from udfs.shots import DETECTORS
from udfs.video_frames import Frame, decoded

PEER: Final = """
import json, sys, time
from scenedetect import AdaptiveDetector, ContentDetector, detect
for line in sys.stdin:
    name, path = json.loads(line)
    detector = {"content": ContentDetector, "adaptive": AdaptiveDetector}[name]()
    begin = time.process_time()
    scenes = detect(path, detector)
    cpu_s = time.process_time() - begin
    print(json.dumps([[first.frame_num for first, _ in scenes[1:]], cpu_s]), flush=True)
"""
Found = tuple[list[int], float]  # boundaries, CPU seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=200, help="rendered; 0: no F1")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--video", type=Path, help="a real video, repeated to so many minutes")
    parser.add_argument("--sides", nargs="*", help="of `f1`, such as robust peer_content; or all")
    parser.add_argument("--peer", help="an interpreter that has scenedetect")
    options = parser.parse_args()
    sides: dict[str, Callable[[Path], Found]] = {
        name: lambda path, name=name: ours(path, name) for name in DETECTORS
    }
    if options.peer:
        with subprocess.Popen(
            [options.peer, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            for name in ("content", "adaptive"):
                sides[f"peer_{name}"] = lambda path, name=name: asked(process, name, path)
            print(json.dumps(figures(options, sides), indent=2))
            assert process.stdin
            process.stdin.close()
    else:
        print(json.dumps(figures(options, sides), indent=2))


def figures(options: argparse.Namespace, sides: dict[str, Callable[[Path], Found]]) -> Any:
    """F1 by side, and speed."""
    with tempfile.TemporaryDirectory() as folder:
        judged = {name: side for name, side in sides.items() if name in (options.sides or sides)}
        result: dict[str, Any] = {}
        if options.videos:
            result |= quality(options.videos, judged, Path(folder))
        path = Path(folder) / "long.mp4"
        seconds = long_video(path, options.minutes * 60, options.video)
        timed = {name: sides[name] for name in ("robust", "peer_content") if name in sides}
        timed["decode"] = lambda path: ([], decoding_s(path))
        timed["rough"] = lambda path: ours(path, "robust", is_rough=True)
        took = defaultdict(list)
        found = {}
        for _ in range(options.repeats):
            for name, side in timed.items():
                cuts, cpu_s = side(path)
                found[name] = len(cuts)
                took[name].append(seconds / cpu_s)
        result["speed"] = {
            "video_s": seconds,
            "boundaries": found,
            "video_s_per_cpu_s": {name: statistics.median(took[name]) for name in timed},
        }
        if "peer_content" in took:
            result["speed"]["over_peer"] = {
                name: statistics.median(
                    mine / peer for mine, peer in zip(took[name], took["peer_content"], strict=True)
                )
                for name in ("robust", "rough")
            }
    return result


def quality(videos: int, sides: dict[str, Callable[[Path], Found]], folder: Path) -> dict[str, Any]:
    """F1 of every side, and what it found by kind."""
    found: dict[str, dict[str, Any]] = {
        name: defaultdict(lambda: np.zeros(3, int)) for name in sides
    }
    for n in range(videos):
        kind = rendered_scenes.KINDS[n % len(rendered_scenes.KINDS)]
        rendered = rendered_scenes.scenes(kind, seed=n)
        path = folder / f"{n}.mp4"
        path.write_bytes(rendered_scenes.encoded(rendered.frames))
        for name, side in sides.items():
            found[name][kind] += rendered_scenes.score(side(path)[0], rendered.changes)
        path.unlink()
    return {
        "f1": {name: rendered_scenes.f1(*sum(kinds.values())) for name, kinds in found.items()},
        "found": {
            name: {kind: each.tolist() for kind, each in kinds.items()}
            for name, kinds in found.items()
        },
    }


def ours(path: Path, name: str, *, is_rough: bool = False) -> Found:
    """What a detector finds in a file."""
    begin = time.process_time()
    detector = DETECTORS[name]()
    with (
        path.open("rb") as file,
        decoded(file, size_bytes=path.stat().st_size, with_sound=False, is_rough=is_rough) as video,
    ):
        for part in video:
            if isinstance(part, Frame):
                detector.add(part.small)
    return detector.boundaries(), time.process_time() - begin


def asked(process: subprocess.Popen[str], name: str, path: Path) -> Found:
    """What the peer finds in a file."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([name, str(path)]) + "\n")
    process.stdin.flush()
    cuts, cpu_s = json.loads(process.stdout.readline())
    return cuts, cpu_s


def decoding_s(path: Path) -> float:
    """CPU seconds of decoding alone, on one thread."""
    begin = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - begin


def long_video(path: Path, seconds: float, real: Path | None) -> float:
    """Write a 720p video whose packets repeat; its length in seconds."""
    if real is None:
        scenes = [rendered_scenes.scenes("mixed", seed=n).frames for n in range(4)]
        frames = np.concatenate(scenes).repeat(4, axis=1).repeat(4, axis=2)
        real = path.with_name("once.mp4")
        real.write_bytes(rendered_scenes.encoded(frames))
    at = 0
    with av.open(str(real)) as source, av.open(str(path), "w") as output:
        video = source.streams.video[0]
        stream = output.add_stream_from_template(video)
        packets = [p for p in source.demux(video) if p.size]
        first = min(p.pts for p in packets)
        lasts = max(p.pts + p.duration for p in packets) - first
        while at * video.time_base < seconds:
            source.seek(0)
            for packet in source.demux(video):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + at, packet.dts + at
                    packet.stream = stream
                    output.mux(packet)
            at += lasts
        return float(at * video.time_base)


if __name__ == "__main__":
    main()
