"""Measure scoring on a GPU against a bare ONNX Runtime loop and the decode limit, as JSON.

    make bench-gpu
    .venv/bin/python -m tests.bench.bench_gpu --provider cpu --small

CLIP's vision towers ViT-B/32 and ViT-L/14 in float16, of random weights, with 1, 2 and 4 processes
on the first GPU. All decode with as many threads or children: the cores, shared out.

- `bare`: each process decodes on threads, ahead, and runs the network. No engine, no isolation.
- `ours`: each process runs the stage's operator, as a task of Spark does.
- `decode`: the operator without a network: what no GPU can better.
- `ratio`: images a second of ours over bare, the median over pairs of turns (goal: 0.9).
- `of_decode`: images a second of ours over those of `decode`.
- `network_alone`: one process, pixels at hand, by a plain run and by one bound to the device.

Without a device it says so and ends; on the CPU, and small, it shows that its own code runs.
"""

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort

from tests import gpu_device, vision_tower
from tests.bench import gpu_workers, jpegs, surroundings
from tests.bench.gpu_workers import Job
from tests.gpu_device import Utilisation
from tests.vision_tower import Tower

CACHE: Final = Path(".cache/bench")
SIDES_PX: Final = (384, 288)  # chosen: img2dataset's border, at which it stores by default ratio
TOWERS: Final = {"vit_b_32": vision_tower.VIT_B_32, "vit_l_14": vision_tower.VIT_L_14}
RUNS: Final = 50  # of the network alone

Work = Callable[[Job, Sequence[Path]], float]


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
        device: where networks run.
        towers: name -> sizes.
        workers: processes on the device, one count after the other.
        images: of one turn, at least one a worker.
        batch: images of one run of the network.
        repeats: pairs of turns that count.
        runs: of the network alone.
        cache: folder for images and networks.
    """

    device: Literal["cpu", "cuda"] = "cuda"
    towers: Sequence[str] = tuple(TOWERS)
    workers: Sequence[int] = (1, 2, 4)
    images: int = 8_000
    batch: int = 32
    repeats: int = 3
    runs: int = RUNS
    cache: Path = CACHE


@dataclass
class Turn:
    """What one pass over the images took."""

    images: int
    wall_s: float
    cpu_s: float
    busy: float | None

    def figures(self) -> dict[str, float | None]:
        """What is printed of it."""
        return {
            "images_per_s": round(self.images / self.wall_s, 1),
            "cpu_ms_per_image": round(1000 * self.cpu_s / self.images, 3),
            "gpu_utilisation_percent": self.busy,
        }


@contextmanager
def processes(count: int) -> Iterator[list[ProcessPoolExecutor]]:
    """So many processes, each behind a queue of its own: none takes another's share."""
    with ExitStack() as started:
        yield [
            started.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            for _ in range(count)
        ]


def turn(pools: Sequence[ProcessPoolExecutor], work: Work, job: Job, paths: Sequence[Path]) -> Turn:
    """One pass of all processes over a share of the images each."""
    sampled = gpu_device.utilisation() if job.device == "cuda" else nullcontext(Utilisation())
    with sampled as busy:
        started = time.monotonic()
        shares = [paths[number :: len(pools)] for number in range(len(pools))]
        asked = [pool.submit(work, job, share) for pool, share in zip(pools, shares, strict=True)]
        cpu_s = sum(one.result() for one in asked)
        return Turn(len(paths), time.monotonic() - started, cpu_s, busy.mean)


def shared(asked: Asked, job: Job, workers: int, paths: Sequence[Path]) -> dict[str, Any]:
    """Bare and ours in turns, so many processes on the device, and the decoding alone."""
    job = replace(job, decoders=max(1, (os.cpu_count() or 1) // workers))
    with processes(workers) as pools:
        for work in (gpu_workers.bare, gpu_workers.ours, gpu_workers.decoding):
            turn(pools, work, job, paths[: 4 * workers * job.batch])  # opens and warms all
        pairs = []
        for number in range(asked.repeats):
            pair = tuple(
                turn(pools, work, job, paths) for work in (gpu_workers.bare, gpu_workers.ours)
            )
            logging.info("%d workers, %d: %s", workers, number, [one.figures() for one in pair])
            pairs.append(pair)
        decode = turn(pools, gpu_workers.decoding, job, paths)
    bare, ours = (_medians(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(bare.wall_s / ours.wall_s for bare, ours in pairs)
    of_decode = statistics.median(decode.wall_s / ours.wall_s for _, ours in pairs)
    return {
        "decoders_a_worker": job.decoders,
        "bare": bare,
        "ours": ours,
        "decode": decode.figures(),
        "ratio": round(ratio, 3),
        "of_decode": round(of_decode, 3),
    }


def _medians(turns: Sequence[Turn]) -> dict[str, float | None]:
    figures = [one.figures() for one in turns]
    columns = {name: [f[name] for f in figures if f[name] is not None] for name in figures[0]}
    return {name: statistics.median(told) if told else None for name, told in columns.items()}


def measure(asked: Asked) -> dict[str, Any]:
    """All towers."""
    width_px, height_px = SIDES_PX
    folder = asked.cache / f"photographs-{width_px}"
    paths = jpegs.draw(folder, asked.images, width_px=width_px, height_px=height_px)
    found: dict[str, Any] = {}
    for name in asked.towers:
        tower = _tower(name)
        job = Job(
            network=_network(asked.cache, name, tower),
            image_px=tower.image_px,
            dimension=tower.dimension,
            device=asked.device,
            batch=asked.batch,
            decoders=1,
        )
        with processes(1) as (pool,):
            alone = {
                how: round(pool.submit(gpu_workers.alone, job, asked.runs, how).result(), 1)
                for how in ("plain", "bound")
            }
        logging.info("%s, the network alone: %s images a second", name, alone)
        found[name] = {
            "network_alone_images_per_s": alone,
            "workers": {n: shared(asked, job, n, paths) for n in asked.workers},
        }
    return found


def _tower(name: str) -> Tower:
    return vision_tower.SMALL if name == "small" else TOWERS[name]


def _network(cache: Path, name: str, tower: Tower) -> Path:
    path = cache / f"{name}-float16.onnx"
    if not path.is_file():
        logging.info("writing %s", path)
        vision_tower.write(tower, path, np.float16)
    return path


def machine(device: str) -> dict[str, Any]:
    """What the figures hold for."""
    described = gpu_device.described() if device == "cuda" else "cpu"
    return surroundings.machine() | {"device": described, "onnxruntime": ort.__version__}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    few = Asked()
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny tower and few images")
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=[*few.towers])
    parser.add_argument("--workers", nargs="+", type=int, default=[*few.workers])
    parser.add_argument("--images", type=int, default=few.images, help="of one turn")
    parser.add_argument("--batch", type=int, default=few.batch, help="images of one run")
    parser.add_argument("--repeats", type=int, default=few.repeats, help="pairs of turns")
    parser.add_argument("--cache", type=Path, default=few.cache, help="for images and networks")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    problem = gpu_device.missing() if args.provider == "cuda" else None
    if problem:
        print(json.dumps({"skipped": problem}))
        return
    asked = Asked(
        device=args.provider,
        towers=["small"] if args.small else args.towers,
        workers=args.workers,
        images=64 if args.small else args.images,
        batch=args.batch,
        repeats=1 if args.small else args.repeats,
        runs=2 if args.small else RUNS,
        cache=args.cache,
    )
    facts = machine(asked.device) | {"images": asked.images, "batch": asked.batch}
    print(json.dumps(facts | {"towers": measure(asked)}, indent=2))


if __name__ == "__main__":
    main()
