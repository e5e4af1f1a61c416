"""What all sides of `bench_engines` share but ours: needs the standard library and NumPy alone."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROCESSES = 2  # of each side
BATCH = 64  # chosen: images for one run of the network
SIDE_PX = 224  # as ViT-B/32 sees
DIMENSION = 512  # of the embedding, as ViT-B/32 has it
MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP
STD = (0.26862954, 0.26130258, 0.27577711)


def asked(description: str | None) -> argparse.Namespace:
    """The command line of a peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("warm", help="Parquet of key and path: a pass that is not measured")
    parser.add_argument("listed", help="Parquet of key and path: the measured one")
    parser.add_argument("network", help="ONNX: (n, 3, 224, 224) -> (n, 512)")
    parser.add_argument("out", help="folder for Parquet, made here")
    return parser.parse_args()


def opened(runtime: Any, path: str) -> Any:
    """A session of one thread.

    Args:
        runtime: the module `onnxruntime`.
        path: of the network.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def embed(network: Any, images: np.ndarray) -> np.ndarray:
    """Embeddings of images.

    Args:
        network: that of `opened`.
        images: (n, 224, 224, 3) uint8.

    Returns:
        (n, 512) float32.
    """
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    pixels = images.astype(np.float32).transpose(0, 3, 1, 2) / 255
    pixels = np.ascontiguousarray((pixels - mean) / std)
    found: np.ndarray = network.run(None, {network.get_inputs()[0].name: pixels})[0]
    return found


def serve(given: argparse.Namespace, run: Callable[[str, str], None], version: str) -> None:
    """Warm up, say so, wait for a line, run, and say how long it took."""
    run(given.warm, str(Path(given.out) / "warm"))
    print(json.dumps({"version": version}), flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    run(given.listed, str(Path(given.out) / "run"))
    print(json.dumps({"wall_s": time.monotonic() - started}), flush=True)
    sys.stdin.readline()  # to be looked at before its processes end
