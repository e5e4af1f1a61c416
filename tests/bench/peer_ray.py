"""Ray Data's side of `bench_engines`; the interpreter that has Ray runs it."""

import os

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

import numpy as np
import onnxruntime as ort
import peer
import ray
import ray.data
from PIL import Image

BLOCKS = 16  # chosen: several for each core, so that none waits for the last


def decode(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The images of a batch, squashed."""
    size = (peer.SIDE_PX, peer.SIDE_PX)
    images = [
        np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR))
        for path in rows["path"]
    ]
    return {"key": rows["key"], "image": np.stack(images)}


class Embedder:
    """The network, in an actor."""

    def __init__(self, path: str) -> None:
        self._network = peer.opened(ort, path)

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"key": rows["key"], "embedding": peer.embed(self._network, rows["image"])}


def main() -> None:
    """Serve."""
    asked = peer.asked(__doc__)
    ray.init(
        num_cpus=peer.PROCESSES,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )

    def run(listed: str, out: str) -> None:
        rows = ray.data.read_parquet(listed).repartition(BLOCKS)
        images = rows.map_batches(decode, batch_size=peer.BATCH)
        found = images.map_batches(
            Embedder,
            fn_constructor_args=(asked.network,),
            batch_size=peer.BATCH,
            concurrency=1,  # the other core decodes; two actors would leave no CPU for that
            num_cpus=1,
        )
        found.write_parquet(out)

    peer.serve(asked, run, ray.__version__)


if __name__ == "__main__":
    main()
