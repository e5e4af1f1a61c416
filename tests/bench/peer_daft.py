"""Daft's side of `bench_engines`; the interpreter that has Daft runs it."""

import os

os.environ |= {"DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0"}

import daft
import numpy as np
import onnxruntime as ort
import peer

daft.set_runner_native()
ASKED = peer.asked(__doc__)


@daft.cls(max_concurrency=peer.PROCESSES, use_process=True)
class Embedder:
    """The network, in processes of its own, as Daft has for what holds Python's lock."""

    def __init__(self) -> None:
        self._network = peer.opened(ort, ASKED.network)

    @daft.method.batch(
        return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), peer.DIMENSION),
        batch_size=peer.BATCH,
    )
    def __call__(self, images: daft.Series) -> np.ndarray:
        if not len(images):
            return np.empty((0, peer.DIMENSION), np.float32)
        return peer.embed(self._network, np.stack(images.to_pylist()))


def run(listed: str, out: str) -> None:
    """Read, decode, squash, embed and write."""
    rgb = daft.ImageMode.RGB
    frame = daft.read_parquet(listed)
    frame = frame.with_column("image", daft.col("path").download().decode_image(mode=rgb))
    frame = frame.with_column("image", daft.col("image").resize(peer.SIDE_PX, peer.SIDE_PX))
    frame = frame.with_column("embedding", Embedder()(daft.col("image")))
    frame.select("key", "embedding").write_parquet(out)


if __name__ == "__main__":
    peer.serve(ASKED, run, daft.__version__)
