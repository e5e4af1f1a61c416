"""Measure `score_images` on Spark against a bare loop over the same images, as JSON.

    make bench
    .venv/bin/python tests/bench/bench_score_images.py --images 4000 --repeats 1 --no-all-signals

Both sides decode, squash to 224 px, normalise and run one small network, warm, in turns in the
same run. The bare side is a loop in two processes with no engine around it: the limit. The Spark
side is the stage's own batch, from the Delta table of images to the committed Delta table of
signals. `ratio` is the median over the pairs of turns; 1 would mean that Spark costs nothing.
`backfill_of_half` is what a signal set costs of which half the rows are there, as a share of what
all of it costs: near a half. `all_signals` is a pass with every default signal against one with the
two that are dearest alone; `full_size` the pairs of turns with a ViT-B/32 of random weights.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import logging
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import psutil
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pyspark.sql import functions as F

from jobs import score_images
from jobs.demo import scenes
from jobs.runtime import models
from jobs.runtime.config import Config, Dump
from jobs.runtime.models import Side
from jobs.runtime.session import session
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse, conform, create_all
from schemas import image_signals, media
from tests import vision_tower
from tests.bench import peer, surroundings
from udfs.clip import Clip, ClipImage, Preprocessing, Tokenizer
from udfs.clip_tokenizer import clip_bpe
from udfs.examine import FACTS
from udfs.image_signals import image_signals_udf
from udfs.model_file import ModelFile

CACHE: Final = Path(".cache/bench")
DISTINCT: Final = 2_000  # images drawn; each serves under several keys, for no key is known twice
SIZE_PX: Final = (512, 384)  # chosen: what img2dataset leaves of a photograph at border 384
QUALITY: Final = 88  # chosen: common on the web
CONVOLUTIONS: Final = ((3, 16, 7, 4), (16, 32, 3, 2), (32, 64, 3, 2), (64, 128, 3, 2))
PREPROCESSING: Final = Preprocessing(
    resize="squash", interpolation="bilinear", size_px=peer.SIDE_PX, mean=peer.MEAN, std=peer.STD
)
FULL_SIZE_IMAGES: Final = 2_000  # chosen: two minutes on two cores drown what a batch costs
LIMIT_MEMORY_MB: Final = 2_500  # what driver, JVM and workers may take in all


def draw_images(folder: Path) -> list[Path]:
    """JPEGs of rendered scenes, drawn once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.jpg" for number in range(DISTINCT)]
    for number, path in enumerate(paths):
        if not path.is_file():
            rng = np.random.default_rng(number)
            scene = scenes.draw(rng, split="train")
            picture = scenes.render(scene, rng, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
            picture.save(path.with_suffix(".part"), "JPEG", quality=QUALITY)
            path.with_suffix(".part").rename(path)
    return paths


def write_network(path: Path) -> None:
    """A 0.6 MB embedder with random weights: (n, 3, 224, 224) -> (n, 512) of unit length."""
    rng = np.random.default_rng(0)
    nodes, weights, flow = [], [], "image"
    for number, (inputs, outputs, kernel, stride) in enumerate(CONVOLUTIONS):
        spread = np.sqrt(2 / (inputs * kernel**2))  # He et al. 2015, arXiv:1502.01852, eq. 10
        kernels = rng.normal(0, spread, (outputs, inputs, kernel, kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernels, f"kernels{number}"))
        nodes += [
            helper.make_node(
                "Conv",
                [flow, f"kernels{number}"],
                [f"conv{number}"],
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=[kernel // 2] * 4,
            ),
            helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"]),
        ]
        flow = f"relu{number}"
    projection = rng.normal(0, 0.1, (CONVOLUTIONS[-1][1], peer.DIMENSION)).astype(np.float32)
    weights.append(numpy_helper.from_array(projection, "projection"))
    nodes += [
        helper.make_node("GlobalAveragePool", [flow], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["projected"]),
        helper.make_node("LpNormalization", ["projected"], ["embedding"], axis=1, p=2),
    ]
    side = PREPROCESSING.size_px
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", peer.DIMENSION])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@cache
def bare_network(path: Path) -> Any:
    """The process's session."""
    return peer.opened(ort, str(path))


def bare_loop(network: Path, paths: Sequence[Path]) -> float:
    """Embed the images, no engine; the CPU seconds that this process spent on it."""
    started = time.process_time()
    size = (peer.SIDE_PX, peer.SIDE_PX)
    for start in range(0, len(paths), peer.BATCH):
        crops = [
            np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR))
            for path in paths[start : start + peer.BATCH]
        ]
        peer.embed(bare_network(network), np.stack(crops))
    return time.process_time() - started


@dataclasses.dataclass
class Turn:
    """What one pass over the images took."""

    images: int
    wall_s: float
    cpu_s: float

    def figures(self) -> dict[str, float]:
        """The two rates that compare."""
        return {
            "images_per_s": round(self.images / self.wall_s, 1),
            "cpu_ms_per_image": round(1000 * self.cpu_s / self.images, 3),
        }


def bare_turn(pool: ProcessPoolExecutor, network: Path, paths: Sequence[Path]) -> Turn:
    """One pass of the bare loop in all processes of the pool."""
    started = time.monotonic()
    shares = [paths[n :: peer.PROCESSES] for n in range(peer.PROCESSES)]
    cpu_s = sum(pool.map(partial(bare_loop, network), shares))
    return Turn(len(paths), time.monotonic() - started, cpu_s)


class Tree:
    """CPU time and memory of a process and all below it: the JVM and Spark's workers, say.

    Processes end and take their CPU time with them, so all are looked at every second. Memory
    is proportional (PSS): what forked workers share counts once.
    """

    def __init__(self, others: set[int], root: psutil.Process | None = None) -> None:
        self._others = others
        self._root = root or psutil.Process()
        self._cpu_s: dict[int, float] = {}
        self.peak_memory_mb = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def cpu_s(self) -> float:
        """CPU seconds so far, of processes that have ended too."""
        self._look()
        return sum(self._cpu_s.values())

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(1)

    def _look(self) -> None:
        with self._lock:
            found, memory = [], 0
            with contextlib.suppress(psutil.NoSuchProcess):
                found = [self._root, *self._root.children(recursive=True)]
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.pid not in self._others:
                        spent = process.cpu_times()
                        self._cpu_s[process.pid] = spent.user + spent.system
                        memory += process.memory_full_info().pss
            self.peak_memory_mb = max(self.peak_memory_mb, memory >> 20)


def store_images(warehouse: Warehouse, folder: Path, count: int) -> None:
    """`bronze.media` with so many images, the drawn ones again and again under other keys."""
    drawn = warehouse.spark.read.format("binaryFile").load(str(folder.resolve()))
    for first in range(0, count, DISTINCT):
        rows = (
            drawn.orderBy("path")
            .limit(min(DISTINCT, count - first))
            .select(
                F.sha2(F.concat("path", F.lit(str(first))), 256).alias("media_sha256"),
                F.md5("content").alias("md5"),
                F.sha1("content").alias("sha1"),
                F.col("length").alias("size_bytes"),
                F.lit("image/jpeg").alias("mime"),
                F.lit(SIZE_PX[0]).alias("header_width_px"),
                F.lit(SIZE_PX[1]).alias("header_height_px"),
                "content",
                F.lit(f"bench-{first}").alias("batch"),
                F.lit("bench").alias("run_id"),
            )
            .withColumns(dict.fromkeys(("root", "path", "offset_bytes", "video"), F.lit(None)))
        )
        path = warehouse.path(media.TABLE)
        conform(rows, media.TABLE).write.format("delta").mode("append").save(path)


def one_network(path: Path) -> Side:
    """The small network and nothing else."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = ModelFile(sha256, partial(str, path.resolve()))
    clip = Clip(file, file, Tokenizer("clip_bpe", clip_bpe()), PREPROCESSING, peer.DIMENSION)
    return Side(
        table=image_signals.TABLE,
        key="media_sha256",
        signals={"clip": ClipImage(clip)},
        build=partial(image_signals_udf, max_pixels=SIZE_PX[0] * SIZE_PX[1]),
        facts=("provider", *FACTS),
        models={"clip_model": sha256, "nsfw_model": None},
    )


def unseen(side: Side) -> Side:
    """The same signals under a version that nothing has been computed by."""
    return dataclasses.replace(side, rules=(uuid.uuid4().hex,))


def spark_turn(warehouse: Warehouse, side: Side, tree: Tree, images: int) -> Turn:
    """The stage's batch over the first images that have no row of the set."""
    rounds = [f"bench-{first}" for first in range(0, images, DISTINCT)]
    keys = warehouse.read(media.TABLE).where(F.col("batch").isin(rounds))
    if images % DISTINCT:
        keys = keys.orderBy("media_sha256").limit(images)
    batch = Batch(
        warehouse=warehouse,
        stage=score_images.NAME,
        checkpoint=side.signal_set,
        generation=uuid.uuid4().hex,
        batch_id=0,
        run_id="bench",
        frame=keys.select("media_sha256", F.col("batch").alias("source_batch")),
    )
    started, cpu_s = time.monotonic(), tree.cpu_s()
    outcome = score_images.stage(side).process(batch)
    turn = Turn(outcome.rows_kept, time.monotonic() - started, tree.cpu_s() - cpu_s)
    if outcome.rows_kept != images:
        raise SystemExit(f"{outcome.rows_kept} of {images} images scored; see the warehouse's log")
    return turn


def backfill(
    warehouse: Warehouse, side: Side, tree: Tree, images: int, repeats: int
) -> dict[str, Any]:
    """What a set costs of which half the rows are there, against all of it, in turns."""
    pairs = []
    for _ in range(repeats):
        fresh = unseen(side)
        first = spark_turn(warehouse, fresh, tree, images // 2 // DISTINCT * DISTINCT)
        rest = spark_turn(warehouse, fresh, tree, images)
        whole = spark_turn(warehouse, unseen(side), tree, images)
        pairs.append((rest, whole))
        logging.info("backfill: %s", [turn.figures() for turn in (first, rest, whole)])
    return {
        "share_scored": images // 2 // DISTINCT * DISTINCT / images,
        "wall": round(statistics.median(r.wall_s / w.wall_s for r, w in pairs), 3),
        "cpu": round(statistics.median(r.cpu_s / w.cpu_s for r, w in pairs), 3),
    }


def every_signal(
    warehouse: Warehouse, default: Side, tree: Tree, images: int, repeats: int
) -> dict[str, Any]:
    """A pass with all signals of a side, against one with the two that are dearest alone."""

    def turn(names: Iterable[str]) -> Turn:
        side = dataclasses.replace(default, signals={n: default.signals[n] for n in names})
        return spark_turn(warehouse, unseen(side), tree, images)

    turn(default.signals)  # loads every network, and has the JVM compile
    alone = {name: turn([name]) for name in default.signals if name not in default.derived}
    dearest = sorted(alone, key=lambda name: alone[name].cpu_s)[-2:]
    pairs = [(turn(default.signals), turn(dearest)) for _ in range(repeats)]
    every = pairs[-1][0]
    return every.figures() | {
        "images": every.images,
        "alone_cpu_ms": {n: t.figures()["cpu_ms_per_image"] for n, t in alone.items()},
        "dearest": dearest,
        "of_dearest_wall": round(statistics.median(a.wall_s / two.wall_s for a, two in pairs), 3),
        "of_dearest_cpu": round(statistics.median(a.cpu_s / two.cpu_s for a, two in pairs), 3),
    }


@contextlib.contextmanager
def bare_pool() -> Iterator[ProcessPoolExecutor]:
    """The bare loop's processes, each started and idle."""
    with ProcessPoolExecutor(peer.PROCESSES, mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.5] * peer.PROCESSES))
        yield pool


def in_turns(
    bare: Callable[[], Turn], ours: Callable[[], Turn], repeats: int
) -> list[tuple[Turn, Turn]]:
    """Pairs of turns; a first one warms both sides, the JVM's compiler above all."""
    pairs = []
    for number in range(repeats + 1):
        pair = bare(), ours()
        logging.info("turn %d of %d: %s", number, repeats, [turn.figures() for turn in pair])
        pairs.append(pair)
    return pairs[1:]


def compare(images: int, repeats: int, *, all_signals: bool, full_size: bool) -> dict[str, Any]:
    """Run both sides in turns after a pass of each that does not count."""
    drawn = draw_images(CACHE / "images")
    network = CACHE / "network.onnx"
    write_network(network)
    paths = (drawn * (images // DISTINCT + 1))[:images]
    with bare_pool() as pool, tempfile.TemporaryDirectory(dir=CACHE) as folder:
        tree = Tree({child.pid for child in psutil.Process().children()})
        config = Config(warehouse=str(Path(folder).resolve()), dumps=(Dump(name="x", path="x"),))
        spark = session(config, app="bench")
        warehouse = Warehouse(spark, config.warehouse)
        create_all(warehouse, "default")
        store_images(warehouse, CACHE / "images", images)
        small = one_network(network)

        def pairs(path: Path, side: Side, count: int) -> dict[str, Any]:
            turns = in_turns(
                lambda: bare_turn(pool, path, paths[:count]),
                lambda: spark_turn(warehouse, unseen(side), tree, count),
                repeats,
            )
            return summary(turns)

        result = pairs(network, small, images)
        result["backfill_of_half"] = backfill(warehouse, small, tree, images, repeats)
        if all_signals:
            default = models.scoring(config, spark).images
            few = min(images, DISTINCT)
            result["all_signals"] = every_signal(warehouse, default, tree, few, repeats)
        memory = {"peak_memory_mb": tree.peak_memory_mb, "limit_memory_mb": LIMIT_MEMORY_MB}
        if full_size:  # a network of 350 MB, which counts for no limit
            tower = CACHE / "vit-b-32.onnx"
            if not tower.is_file():
                vision_tower.write(vision_tower.VIT_B_32, tower, np.float32)
            result["full_size"] = pairs(tower, one_network(tower), FULL_SIZE_IMAGES)
        spark.stop()
        return result | memory


def summary(pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    """Medians of each side and of the ratios within the pairs."""
    sides = dict(zip(("bare", "spark"), zip(*pairs, strict=True), strict=True))
    rates = {side: [turn.figures() for turn in turns] for side, turns in sides.items()}
    medians = {
        side: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for side, turns in rates.items()
    }
    ratio = {
        "wall": statistics.median(bare.wall_s / spark.wall_s for bare, spark in pairs),
        "cpu": statistics.median(bare.cpu_s / spark.cpu_s for bare, spark in pairs),
    }
    return medians | {"ratio": {name: round(value, 3) for name, value in ratio.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000, help=f"a multiple of {DISTINCT:,}")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of turns")
    parser.add_argument(
        "--all-signals",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"also {DISTINCT:,} images with every default signal",
    )
    parser.add_argument(
        "--full-size",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"also {FULL_SIZE_IMAGES:,} images with a ViT-B/32",
    )
    args = parser.parse_args(argv)
    if args.images % DISTINCT or args.images < 2 * DISTINCT:  # a half is scored before the rest
        allowed = f"allowed a multiple of {DISTINCT:,} from {2 * DISTINCT:,}"
        parser.error(f"--images got {args.images:,}; {allowed}")
    surroundings.log()
    facts = surroundings.machine() | {"images": args.images, "repeats": args.repeats}
    figures = compare(
        args.images, args.repeats, all_signals=args.all_signals, full_size=args.full_size
    )
    print(json.dumps(facts | figures, indent=2))


if __name__ == "__main__":
    main()
