"""Measure our perceptual hash against ImageHash's, as JSON.

    .venv/bin/python -m tests.bench.bench_phash

Both get the same pictures, decoded already, in RGB; turn after turn, ours and theirs. Figures are
CPU time in microseconds a picture, and `ratio` is theirs over ours, the median of the pairs of
turns. `equal` is the share of hashes that are the same.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import imagehash
from PIL import Image

from tests.bench.jpegs import photograph
from udfs.phash import phash, to_hex

SIZES: Final = ((384, 288), (1024, 768))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    for width_px, height_px in SIZES:
        pictures = [decoded(i, width_px, height_px) for i in range(args.pictures)]
        same = [to_hex(phash(picture)) == str(imagehash.phash(picture)) for picture in pictures]
        turns = [
            [cpu_us(work, pictures) for work in (phash, imagehash.phash)]
            for _ in range(args.repeats)
        ]
        ours, theirs = (statistics.median(column) for column in zip(*turns, strict=True))
        figures = {
            "size_px": [width_px, height_px],
            "ours_us": round(ours, 1),
            "imagehash_us": round(theirs, 1),
            "ratio": round(statistics.median(b / a for a, b in turns), 2),
            "equal": sum(same) / len(same),
        }
        print(json.dumps(figures), flush=True)


def decoded(number: int, width_px: int, height_px: int) -> Image.Image:
    """A photograph."""
    with Image.open(io.BytesIO(photograph(number, width_px=width_px, height_px=height_px))) as file:
        return file.convert("RGB")


def cpu_us(work: Callable[[Image.Image], Any], pictures: Sequence[Image.Image]) -> float:
    """CPU time a picture."""
    start = time.process_time()
    for picture in pictures:
        work(picture)
    return 1e6 * (time.process_time() - start) / len(pictures)


if __name__ == "__main__":
    main()
