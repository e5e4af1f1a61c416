"""What each process of `bench_gpu.py` does; in a module of its own, for decoders import it too."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar

import numpy as np
import onnxruntime as ort
import psutil
import pyarrow as pa
from PIL import Image

from tests.bench import process_kinds
from udfs.clip import Clip, ClipImage, Preprocessing
from udfs.clip_tokenizer import Tokenizer, clip_bpe
from udfs.image_codec import Decoded
from udfs.image_signals import ImageSignal, image_signals_udf
from udfs.model_file import ModelFile
from udfs.onnx_session import CPU, CUDA, Placement, run_bound

_ARROW_ROWS: Final = 64  # as the session's
_MAX_PIXELS: Final = 1 << 24
_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        network: file of the vision tower.
        image_px: side of what goes in.
        dimension: of the embedding.
        device: where it runs; cuda is the first GPU.
        batch: images of one run.
        decoders: threads, or children, that decode.
    """

    network: Path
    image_px: int
    dimension: int
    device: Literal["cpu", "cuda"]
    batch: int
    decoders: int

    @property
    def preprocessing(self) -> Preprocessing:
        """CLIP's."""
        return Preprocessing(size_px=self.image_px)

    @property
    def provider(self) -> str:
        """That of the device."""
        return CUDA if self.device == "cuda" else CPU


@dataclass(frozen=True)
class _Cropped:
    """Decoding and cropping as CLIP does it, and nothing after it."""

    preprocessing: Preprocessing
    columns: ClassVar = ("clip_dimension",)
    version: ClassVar = "cropped"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Crop one picture."""
        return self.preprocessing.crop(decoded.image)

    def finish(self, crops: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        """The size of each."""
        return {"clip_dimension": [crop.size for crop in crops]}


def bare(job: Job, paths: Sequence[Path]) -> float:
    """Embed images by a plain loop, decoded ahead on threads; CPU seconds of this process."""
    before = _cpu_s()
    opened = _bare_network(job)
    crop = partial(_crop, job.preprocessing)
    with ThreadPoolExecutor(job.decoders) as pool:
        for crops in _chunks(_ahead(pool, crop, paths, 3 * job.batch), job.batch):
            opened.run(None, {"pixel_values": job.preprocessing.normalise(crops)})
    return _cpu_s() - before


def ours(job: Job, paths: Sequence[Path]) -> float:
    """The same by the stage's operator, decoders isolated; CPU seconds of all its processes."""
    sha256 = _sha256(job.network)
    file = ModelFile(sha256, partial(str, job.network.resolve()))
    tokenizer = Tokenizer("clip_bpe", clip_bpe())
    clip = Clip(file, file, tokenizer, job.preprocessing, job.dimension)
    return _operated(job, ClipImage(clip, Placement(job.device)), paths, provider=job.provider)


def decoding(job: Job, paths: Sequence[Path]) -> float:
    """The operator without a network, which no network makes faster; CPU seconds likewise."""
    return _operated(job, _Cropped(job.preprocessing), paths, provider=None)


def alone(job: Job, runs: int, how: Literal["plain", "bound"]) -> float:
    """The network on pixels that are ready, inputs and outputs in host memory; images a second."""
    opened = _bare_network(job)
    side = (job.batch, 3, job.image_px, job.image_px)
    feeds = {"pixel_values": np.random.default_rng(0).standard_normal(side, np.float32)}

    def run() -> None:
        if how == "plain":
            opened.run(["image_embeds"], feeds)
        else:
            run_bound(opened, feeds, ["image_embeds"], device=job.device)

    run()  # chooses its algorithms and takes its memory
    started = time.monotonic()
    for _ in range(runs):
        run()
    return runs * job.batch / (time.monotonic() - started)


def _operated(
    job: Job, signal: ImageSignal, paths: Sequence[Path], *, provider: str | None
) -> float:
    before = _cpu_s()
    operator = image_signals_udf(
        [signal], max_pixels=_MAX_PIXELS, batch_size=job.batch, decoders=job.decoders
    )
    scored = 0
    for rows in operator(_stored(paths)):
        told = set(zip(rows["status"].to_pylist(), rows["provider"].to_pylist(), strict=True))
        if told != {("ok", provider)}:
            raise SystemExit(f"status and provider got {told}; allowed ok and {provider}")
        scored += len(rows)
    if scored != len(paths):
        raise SystemExit(f"{scored} of {len(paths)} images scored")
    return _cpu_s() - before


def _stored(paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for some in _chunks(iter(paths), _ARROW_ROWS):
        rows = {"media_sha256": list(map(str, some)), "content": [p.read_bytes() for p in some]}
        yield pa.RecordBatch.from_pydict(rows)


def _crop(preprocessing: Preprocessing, path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return preprocessing.crop(image.convert("RGB"))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Path], _T], paths: Iterable[Path], most: int
) -> Iterator[_T]:
    """Results in order, so many being worked on."""
    pending = deque()
    for path in paths:
        pending.append(pool.submit(work, path))
        if len(pending) == most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _chunks(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while some := list(islice(items, size)):
        yield some


@cache
def _bare_network(job: Job) -> ort.InferenceSession:
    """One thread and the provider's defaults; an error where the provider is not to be had."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    ort.preload_dlls()
    opened = ort.InferenceSession(
        job.network,
        options,
        providers=list(dict.fromkeys([job.provider, CPU])),
        disabled_optimizers=["NchwcTransformer"],  # of float16 on a CPU: see udfs/onnx_session.py
        enable_fallback=False,
    )
    if opened.get_providers()[0] != job.provider:
        raise SystemExit(f"provider got {opened.get_providers()[0]}; allowed {job.provider}")
    return opened


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cpu_s() -> float:
    return sum(process_kinds.cpu_s(psutil.Process()).values())
