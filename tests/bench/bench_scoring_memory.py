"""Score 200,000 images in one batch, one of 200 megapixels among them; memory over time, as JSON.

    .venv/bin/python -m tests.bench.bench_scoring_memory
    .venv/bin/python -m tests.bench.bench_scoring_memory --images 4000 --batch-size 1024

The images are those of `make bench`, by its small network, from the Delta table of images to the
committed table of signals. `quarters` is the most resident memory of each kind of process in each
quarter of the time: flat where the last is no more than the first. What forked processes share
counts with each.
"""

import argparse
import dataclasses
import io
import json
import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from PIL import Image
from pyspark.sql import functions as F

from jobs.runtime.config import Config, Dump
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, conform, create_all
from schemas import image_signals, media
from tests.bench import surroundings
from tests.bench.bench_score_images import (
    CACHE,
    DISTINCT,
    Tree,
    draw_images,
    one_network,
    spark_turn,
    store_images,
    unseen,
    write_network,
)
from tests.bench.memory_over_time import Held, MemoryOverTime
from udfs.image_signals import BATCH_SIZE, image_signals_udf

GIANT_PX: Final = (20_000, 10_000)
GIANT: Final = "giant"  # its key


def store_giant(warehouse: Warehouse, among: int) -> None:
    """Add a JPEG of 200 megapixels to the images of a round."""
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize(GIANT_PX).convert("RGB").save(encoded, "JPEG", quality=90)
    some = warehouse.read(media.TABLE).where(F.col("batch") == f"bench-{among}").limit(1)
    row = some.withColumns(
        {
            "media_sha256": F.lit(GIANT),
            "size_bytes": F.lit(len(encoded.getvalue())),
            "header_width_px": F.lit(GIANT_PX[0]),
            "header_height_px": F.lit(GIANT_PX[1]),
            "content": F.lit(bytearray(encoded.getvalue())),
        }
    )
    path = warehouse.path(media.TABLE)
    conform(row, media.TABLE).write.format("delta").mode("append").save(path)


def quarters(series: Sequence[Held]) -> list[dict[str, int]]:
    """The most of each kind in each quarter of the time, in MB."""
    whole = series[-1].at_s
    parts: list[list[Held]] = [[], [], [], []]
    for held in series:
        parts[min(3, int(4 * held.at_s / whole))].append(held)
    return [
        {
            kind: max(held.mb.get(kind, 0) for held in part)
            for kind in sorted({kind for held in part for kind in held.mb})
        }
        for part in parts
    ]


def measured(images: int, batch_size: int) -> dict[str, Any]:
    """One pass over all of them."""
    draw_images(CACHE / "images")
    network = CACHE / "network.onnx"
    write_network(network)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        config = Config(warehouse=str(Path(folder).resolve()), dumps=(Dump(name="x", path="x"),))
        spark = session(config, app="bench")
        warehouse = Warehouse(spark, config.warehouse)
        create_all(warehouse, "default")
        store_images(warehouse, CACHE / "images", images)
        store_giant(warehouse, among=images // 2 // DISTINCT * DISTINCT)
        logging.info("stored")
        build = partial(
            image_signals_udf, max_pixels=GIANT_PX[0] * GIANT_PX[1], batch_size=batch_size
        )
        side = unseen(dataclasses.replace(one_network(network), build=build))
        with MemoryOverTime(psutil.Process()) as memory:
            turn = spark_turn(warehouse, side, Tree(set()), images + 1)
        rows = warehouse.read(image_signals.TABLE)
        of_giant = rows.where(F.col("media_sha256") == GIANT).select("status", "width_px").collect()
        spark.stop()
    return turn.figures() | {
        "images": turn.images,
        "batch_size": batch_size,
        "wall_s": round(turn.wall_s, 1),
        "quarters": quarters(memory.series),
        "largest_mb": memory.peak().largest_mb,
        "all_mb": memory.peak().all_mb,
        "giant": [list(row) for row in of_giant],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=200_000, help=f"a multiple of {DISTINCT:,}")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="of the network")
    args = parser.parse_args()
    surroundings.log()
    print(json.dumps(surroundings.machine() | measured(args.images, args.batch_size), indent=2))


if __name__ == "__main__":
    main()
