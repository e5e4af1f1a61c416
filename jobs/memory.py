"""How much memory a stage takes, from numbers alone; all of them are bytes.

Every figure is two. *Expected* is what a run over everyday items holds, rather less than more: what
that does not fit into, no run fits into, and it is refused. *At most* is every process at its limit
at once, which damaged or hostile items can bring about: where only that does not fit, it is told.

Measured: PSS, in which processes share what they share, of `sluice demo` on two cores; networks in
a process of their own, resident after against before, ONNX Runtime on a CPU. MB are 10^6 bytes.
"""

from dataclasses import dataclass
from typing import Final

MB: Final = 10**6


@dataclass(frozen=True)
class Bytes:
    """An amount of memory.

    Attributes:
        expected: with everyday items.
        at_most: with every process at its limit.
    """

    expected: int = 0
    at_most: int = 0

    def and_(self, *others: "Bytes") -> "Bytes":
        """Together with others.

        >>> Bytes(1, 2).and_(Bytes(3, 4))
        Bytes(expected=4, at_most=6)
        """
        every = (self, *others)
        return Bytes(sum(one.expected for one in every), sum(one.at_most for one in every))

    def times(self, count: int) -> "Bytes":
        """So many of it."""
        return Bytes(self.expected * count, self.at_most * count)


# At most is chosen, where nothing else is said: at least twice what was measured.
_DRIVER: Final = Bytes(380 * MB, 900 * MB)  # measured: 400 to 440 MB, Python's side
_DAEMON: Final = Bytes(38 * MB, 80 * MB)  # measured: 38 to 42 MB, what workers are forked from
_WORKER: Final = Bytes(120 * MB, 400 * MB)  # measured: 123 to 128 MB before it opens networks
_NURSERY: Final = Bytes(38 * MB, 230 * MB)  # measured: pictures 39 MB, videos 75; unshared 226
_CHILD: Final = Bytes(40 * MB, 80 * MB)  # measured: 41 to 47 MB, of small pictures
# A heap grows as it is used. Measured, a JVM with one of 1 GiB: 0.9 GB while images are scored, 1.2
# while duplicates are found, 1.4 in the end; `make bench-memory`: 0.9.
_HEAP: Final = 700 * MB
_BESIDE_HEAP: Final = Bytes(250 * MB, 600 * MB)  # code, classes, threads, buffers

# Measured, what an open network leaves resident: 22 MB of the runtime, and of float32 of 100 to
# 350 MB 1.7 to 2.0 times the file, of 22 MB 2.7; of float16 of 100 MB 2.5, and 3.6 while it opens.
_RUNTIME: Final = Bytes(20 * MB, 40 * MB)
_WEIGHTS: Final = Bytes(18, 40)  # tenths
# Measured, what a batch leaves, by the size of its input tensor, itself included: the demo's CLIP
# 4.4, ViT-B/32 5, Open NSFW 8, four layers of ViT-B/16 25, PP-OCR 28, six of ViT-L/14 43.
_ACTIVATIONS: Final = Bytes(5, 45)


@dataclass(frozen=True)
class Network:
    """A network that a process opens once and keeps.

    Attributes:
        file_bytes: of its weights.
        input_bytes: of the tensor of one batch.
        is_on_gpu: whether weights and batches go to a device, and only pass here.
    """

    file_bytes: int
    input_bytes: int = 0
    is_on_gpu: bool = False


@dataclass(frozen=True)
class Children:
    """What decodes for one task; it stays warm for the next.

    Attributes:
        at_a_time: processes, beside the one that forks them.
        item_bytes: what an everyday item takes while it is decoded.
        limit_bytes: what a process may allocate, its networks included.
        networks: that each opens.
    """

    at_a_time: int
    item_bytes: int
    limit_bytes: int
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Task:
    """What one task of a stage holds beside Spark.

    Attributes:
        networks: that its worker has opened, those of earlier stages too.
        in_flight: rows on their way to it, through it and out of it.
        children: that decode for it, and those that are kept from earlier stages.
    """

    networks: tuple[Network, ...] = ()
    in_flight: Bytes = Bytes()
    children: tuple[Children, ...] = ()


def jvm(heap_bytes: int) -> Bytes:
    """A JVM that Spark runs in.

    >>> jvm(4 << 30).expected == jvm(1 << 30).expected
    True
    """
    return _BESIDE_HEAP.and_(Bytes(min(heap_bytes, _HEAP), heap_bytes))


def session(of: Network) -> Bytes:
    """A network in memory that has seen a batch.

    >>> session(Network(file_bytes=100 * MB)).expected // MB
    200
    """
    weights = of.file_bytes * _WEIGHTS.expected // 10, of.file_bytes * _WEIGHTS.at_most // 10
    both = Bytes(*weights).and_(_ACTIVATIONS.times(of.input_bytes))
    return _RUNTIME.and_(Bytes(0, both.at_most) if of.is_on_gpu else both)


def worker(task: Task) -> Bytes:
    """The process of Python that works on a task, without those that decode for it."""
    return _WORKER.and_(task.in_flight, *map(session, task.networks))


def decoding(children: Children) -> Bytes:
    """The processes that decode for a task, and the one that forks them."""
    needed = Bytes(children.item_bytes).and_(*map(session, children.networks)).expected
    limit = children.limit_bytes
    child = _CHILD.and_(Bytes(min(needed, limit), limit))
    return _NURSERY.and_(child.times(children.at_a_time))


def of_task(task: Task) -> Bytes:
    """All that a task takes beside Spark."""
    return worker(task).and_(*map(decoding, task.children))


def of_machine(task: Task | None, tasks: int, heap_bytes: int, *, has_driver: bool) -> Bytes:
    """A machine, or an executor, that works on some tasks of a stage at a time.

    Args:
        task: null: the stage runs in the JVM alone.
        tasks: at a time.
        heap_bytes: of its JVM.
        has_driver: whether the driver is there too.
    """
    driver = (_DRIVER,) if has_driver else ()
    python = (_DAEMON, of_task(task).times(tasks)) if task else ()
    return jvm(heap_bytes).and_(*driver, *python)
