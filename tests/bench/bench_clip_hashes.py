"""Measure how copies of clips are found, and whether distinct clips are taken for copies, as JSON.

    .venv/bin/python tests/bench/bench_clip_hashes.py
    .venv/bin/python tests/bench/bench_clip_hashes.py --distinct 200 --copied 50

Distinct clips are rendered and encoded; one in twenty is black or plain, one in twenty begins with
the title that others begin with. Some are copied in every way by decoding and encoding again. All
are then searched at once as a corpus is: by keys within a radius, candidates verified. `recall` is
the share of copies that are found as such, `size` the copy's bytes over the original's, both by
kind of copy; `false_pairs` are pairs of distinct originals; `cpu_s` are seconds of one core.
Slides of one design are the hard case, and no part of the above: `slides_false_pairs` says how
many pairs of so many distinct clips of text are taken for copies.
"""

import argparse
import itertools
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.rendered_clips import copies, encoded, plain, rendered, sampled, slides, titled
from udfs.clip_hashes import RADIUS, ClipHashes, clip_hashes, keys
from udfs.clip_match import LEAST_SIMILARITY, similarity
from udfs.near_hashes import NearHashes


def original(seed: int) -> bytes:
    """A distinct clip as a file."""
    if seed % 20 == 18:
        return encoded(plain(seed // 20, 5))
    return encoded(titled(seed) if seed % 20 == 19 else rendered(seed, 5))


def candidates(clips: list[ClipHashes]) -> set[tuple[int, int]]:
    """Pairs of clips that share a key within the radius."""
    of_clip = [keys(clip) for clip in clips]
    hashes = np.concatenate(of_clip)
    ids = np.repeat(np.arange(len(clips)), [len(found) for found in of_clip])
    pairs: set[tuple[int, int]] = set()
    for found in NearHashes(hashes, ids, radius=RADIUS).near(hashes, ids):
        ahead = found.ids < found.others
        pairs.update(zip(found.ids[ahead].tolist(), found.others[ahead].tolist(), strict=True))
    return pairs


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distinct", type=int, default=2000)
    parser.add_argument("--copied", type=int, default=100)
    parser.add_argument("--slides", type=int, default=150)
    asked = parser.parse_args()
    clips: list[ClipHashes] = []
    copied: list[tuple[int, str]] = []  # of which original, how
    sizes = defaultdict(list)
    files: dict[int, bytes] = {}
    hashing_s = 0.0
    for seed in range(asked.distinct):
        file = original(seed)
        frames = sampled(file)
        start = time.process_time()
        clips.append(clip_hashes(frames))
        hashing_s += time.process_time() - start
        if len(files) < asked.copied and clips[-1].tells.any():
            files[seed] = file
    for seed, file in files.items():
        for kind, copy in copies(file, seed).items():
            copied.append((seed, kind))
            sizes[kind].append(len(copy) / len(file))
            clips.append(clip_hashes(sampled(copy)))
    start = time.process_time()
    near = candidates(clips)
    searched_s = time.process_time() - start
    start = time.process_time()
    scores = {pair: similarity(clips[pair[0]], clips[pair[1]]) for pair in near}
    verified_s = time.process_time() - start
    originals = [pair for pair in near if pair[1] < asked.distinct]
    found = defaultdict(list)
    for index, (seed, kind) in enumerate(copied, asked.distinct):
        found[kind].append(scores.get((seed, index), 0.0))
    lectures = [clip_hashes(sampled(encoded(slides(seed)))) for seed in range(asked.slides)]
    pairs = list(itertools.combinations(lectures, 2))
    print(
        json.dumps(
            {
                "distinct": asked.distinct,
                "that_say_nothing": sum(not clip.tells.any() for clip in clips[: asked.distinct]),
                "keys_a_clip": round(float(np.mean([len(keys(clip)) for clip in clips])), 2),
                "candidate_pairs_of_originals": len(originals),
                "false_pairs": sum(scores[pair] >= LEAST_SIMILARITY for pair in originals),
                "highest_of_originals": max((scores[pair] for pair in originals), default=0.0),
                "recall": {
                    kind: float(np.mean(np.array(values) >= LEAST_SIMILARITY))
                    for kind, values in found.items()
                },
                "least": {kind: round(min(values), 3) for kind, values in found.items()},
                "size": {kind: round(float(np.median(x)), 2) for kind, x in sizes.items()},
                "slides_pairs": len(pairs),
                "slides_false_pairs": sum(similarity(*pair) >= LEAST_SIMILARITY for pair in pairs),
                "cpu_s": {
                    "hashing_a_clip": round(hashing_s / asked.distinct, 5),
                    "searching": round(searched_s, 2),
                    "verifying_a_pair": round(verified_s / max(1, len(near)), 6),
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
