"""Processes that score images as Spark's workers do, for as long as a turn takes.

Each has the operator of the run, with its nursery and the children that decode, and takes images
from a list again and again. A turn counts from the end of a first batch, when all that is read
ahead is in flight, to the end of a later one: how a pass of millions goes on, not how it begins.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from statistics import median
from typing import Any, Final

import psutil
import pyarrow as pa

from jobs.runtime.errors import ModelProblem
from jobs.runtime.profiles import Setting
from jobs.runtime.session import ARROW_ROWS
from jobs.tuning.search import Crew, Measure, Turn
from schemas.error_classes import OK
from udfs.image_signals import ImageSignal, image_signals_udf
from udfs.isolation import Limits, close_warm

_LEAST_BATCHES: Final = 2  # that count in a turn
_END_S: Final = 1.0  # chosen: one that is in a batch is killed
_WARM_S: Final = 0.3  # chosen: children are forked and memory is taken in the first batches
_MIB: Final = 2**20
# What a process takes with its children. Measured: 200 MB with demo-clip, 450 MB with all default
# signals. And of larger networks, chosen: their weights as they are read and as they are laid out.
_PROCESS_BYTES: Final = 400 * _MIB
_COPIES: Final = 2


@dataclass(frozen=True)
class Pass:
    """What is measured.

    Attributes:
        signals: of images.
        contents: bytes of images; taken again and again.
        max_pixels: largest accepted width x height.
        limits: what an image may take of the child that decodes it.
        network_bytes: of the files of all networks.
        deadline_s: the most that starting, or a batch, may take.
    """

    signals: Sequence[ImageSignal]
    contents: Sequence[bytes]
    max_pixels: int
    limits: Limits
    network_bytes: int
    deadline_s: float


@dataclass(frozen=True)
class _Share:
    """What one process gave in a turn; `busy_s` is what all cores of the machine worked."""

    images: int
    refused: int
    wall_s: float
    cpu_s: float
    busy_s: float
    memory_bytes: int
    provider: str | None


@contextlib.contextmanager
def crew(work: Pass, wanted: Crew) -> Iterator[Measure]:
    """Processes that are there until the block is left, and warm.

    Args:
        work: what they do.
        wanted: how many, and with how many threads.

    Raises:
        ModelProblem: there is no memory for so many, or one failed, ended or was not done in time.
    """
    _require_memory(work, wanted)
    # spawn, not fork: as Spark's workers they begin without our threads and networks
    context = multiprocessing.get_context("spawn")
    ours: list[tuple[BaseProcess, Connection]] = []
    threaded = replace(work, signals=[_threaded(s, wanted) for s in work.signals])
    try:
        for number in range(wanted.processes):
            here, there = context.Pipe()
            share = replace(threaded, contents=_share(work.contents, number, wanted.processes))
            child: BaseProcess = context.Process(target=_work, args=(there, share), daemon=True)
            child.start()
            there.close()
            ours.append((child, here))

        def measure(setting: Setting, turn_s: float) -> Turn:
            for _, line in ours:
                line.send((setting, turn_s))
            within_s = work.deadline_s + turn_s
            return _turn([_answer(child, line, within_s) for child, line in ours])

        measure(Setting(batch_size=8), _WARM_S)  # not counted
        yield measure
    finally:
        for _, line in ours:
            line.close()  # they end their nurseries, and themselves
        for child, _ in ours:
            child.join(_END_S)
            child.kill()
            child.join()


def _require_memory(work: Pass, wanted: Crew) -> None:
    needed = wanted.processes * (_PROCESS_BYTES + _COPIES * work.network_bytes)
    available = psutil.virtual_memory().available
    if needed > available:
        raise ModelProblem(
            f"{wanted.processes} processes take about {needed // _MIB} MiB; allowed the "
            f"{available // _MIB} MiB that are free"
        )


def _threaded(signal: ImageSignal, wanted: Crew) -> Any:
    """A signal, its network with so many threads."""
    placement = getattr(signal, "placement", None)
    if placement is None:
        return signal
    other: Any = signal
    return replace(other, placement=replace(placement, intra_op_threads=wanted.intra_op_threads))


def _share(contents: Sequence[bytes], number: int, processes: int) -> list[bytes]:
    """All images, in each process from another one on: what differs is when each has which."""
    start = number * len(contents) // processes
    return [*contents[start:], *contents[:start]]


def _turn(shares: Sequence[_Share]) -> Turn:
    images = sum(share.images for share in shares)
    ours = sum(share.cpu_s / share.wall_s for share in shares)
    all_ = median(share.busy_s / share.wall_s for share in shares)
    return Turn(
        images_per_s=sum(share.images / share.wall_s for share in shares),
        cpu_ms_per_image=1000 * sum(share.cpu_s for share in shares) / images,
        memory_mb=sum(share.memory_bytes for share in shares) / _MIB,
        others=max(0.0, all_ - ours) / len(os.sched_getaffinity(0)),
        images=images,
        refused=sum(share.refused for share in shares),
        provider=shares[0].provider,
    )


def _answer(child: BaseProcess, line: Connection, deadline_s: float) -> _Share:
    try:
        if not line.poll(deadline_s):
            raise ModelProblem(
                f"a process was not done within {deadline_s:g} s; allowed networks that answer; "
                "give them more time with --deadline"
            )
        answer = line.recv()
    except (EOFError, ConnectionError):
        child.join()
        raise ModelProblem(
            f"a process ended with code {child.exitcode}; allowed networks that load and run; "
            "see `sluice models check`, or give the machine more memory"
        ) from None
    if isinstance(answer, str):
        raise ModelProblem(answer)
    share: _Share = answer
    return share


def _work(line: Connection, work: Pass) -> None:
    """The life of a process: a turn whenever it is asked for."""
    while True:
        try:
            setting, turn_s = line.recv()
        except EOFError:
            close_warm()
            return
        try:
            line.send(_measured(work, setting, turn_s))
        except Exception as error:  # ONNX Runtime's own classes derive from Exception
            line.send(f"the pass got {type(error).__name__}: {error}; see `sluice models check`")


def _measured(work: Pass, setting: Setting, turn_s: float) -> _Share:
    operator = image_signals_udf(
        work.signals,
        max_pixels=work.max_pixels,
        batch_size=setting.batch_size,
        decoders=setting.decoders,
        isolation=work.limits,
    )
    scored = iter(operator(_batches(work.contents)))
    provider = next((row for row in next(scored)["provider"].to_pylist() if row), None)
    started, cpu_s, busy_s = time.monotonic(), _cpu_s(), _busy_s()
    images = refused = 0
    for batches, batch in enumerate(scored, 1):
        images += len(batch)
        refused += sum(status != OK for status in batch["status"].to_pylist())
        wall_s = time.monotonic() - started
        if wall_s >= turn_s and batches >= _LEAST_BATCHES:
            break
    cpu_s, busy_s = _cpu_s() - cpu_s, _busy_s() - busy_s
    memory_bytes = sum(process.memory_full_info().pss for process in _tree())
    scored.close()  # type: ignore[attr-defined]  # a generator: what is read ahead is dropped
    return _Share(images, refused, wall_s, cpu_s, busy_s, memory_bytes, provider)


def _batches(contents: Sequence[bytes]) -> Iterator[pa.RecordBatch]:
    """Images without end, as Spark brings them."""
    endless = cycle(contents)
    while True:
        some = list(islice(endless, ARROW_ROWS))
        keys = [str(n) for n in range(len(some))]
        yield pa.RecordBatch.from_pydict(
            {"media_sha256": keys, "content": pa.array(some, pa.binary())}
        )


def _tree() -> list[psutil.Process]:
    ours = psutil.Process()
    return [ours, *ours.children(recursive=True)]


def _cpu_s() -> float:
    """CPU seconds so far of this process, its nursery and its children; those live on."""
    times = [process.cpu_times() for process in _tree()]
    return sum(spent.user + spent.system for spent in times)


def _busy_s() -> float:
    """CPU seconds so far of everybody on the cores that are ours; what a hypervisor took, too."""
    every = psutil.cpu_times(percpu=True)
    ours = [every[n] for n in os.sched_getaffinity(0) if n < len(every)]
    return sum(sum(core) - core.idle - core.iowait - core.guest - core.guest_nice for core in ours)
