"""Work on untrusted bytes in child processes: a crash, a hang or a blow-up costs one item.

A *nursery* is a fresh, single-threaded interpreter that has read the task and its modules; it
forks children on demand. The process that scores cannot do so itself: by then it has threads,
networks and Spark's sockets, none of which survive a fork well. A child answers one item after
another. It guards against accidents in decoders, not against an attacker who takes one over.
"""

import atexit
import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf
from typing import Any, Final, NoReturn

from udfs.image_codec import said
from udfs.refused import Refused

BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; from udfs import isolation; isolation.nurse()"
)
_ONE_THREAD: Final = {  # a fork copies one thread; OpenBLAS would start others while it loads
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_START_S: Final = 60.0  # chosen: importing the signals takes 1 s on an idle core
_WARM: Final = 2  # chosen: nurseries kept between tasks, one each for pictures and for frames
_NUMBER: Final = struct.Struct("<q")
_FORK: Final = 0  # asked in place of the pid of a child to end
_MOST_PARTS: Final = 1024  # IOV_MAX of Linux, limits.h
_OUT_OF_MEMORY: Final = 77  # chosen: how a child that met MemoryError exits
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

Part = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Limits:
    """What one item may take.

    Attributes:
        deadline_s: seconds from the sending of an item to the end of its answer.
        memory_bytes: what a child may allocate beyond what it was forked with.
    """

    # Measured, pictures of 89 megapixels on a busy core: JPEG 4 to 8 s, PNG with transparency 11 s
    deadline_s: float = 60.0
    # Measured, the same: JPEG below 0.75 GiB, PNG with transparency 1.5 GiB, TIFF of floats 2 GiB.
    memory_bytes: int = 2 << 30


class Lost(Refused):
    """An item that cost a child its life; the detail says how it ended."""


class IsolationBroken(RuntimeError):
    """No child can be had; that is no item's fault."""


@dataclass(frozen=True)
class _Child:
    pid: int
    line: socket.socket

    def ask(self, contents: Sequence[bytes], deadline_s: float) -> bytearray:
        until = time.monotonic() + deadline_s
        _send(
            self.line, *_pack([pickle.PickleBuffer(content) for content in contents]), until=until
        )
        return _receive(self.line, until)


class Isolated:
    """A task that runs in child processes; any number of threads may call it, a child for each.

    Children are forked when they are needed and stay. Each answers before it is asked again, so
    that none holds an item that is not being worked on, nor an answer that nobody awaits.
    """

    def __init__(self, task: bytes, limits: Limits) -> None:
        """Start the nursery of a pickled task; it gets ready in the background."""
        self._limits = limits
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._is_ready = False
        self.is_broken = False
        self._control, theirs = socket.socketpair()
        with theirs:
            self._nursery = subprocess.Popen(  # closes all other descriptors
                [sys.executable, "-c", BOOT, *sys.path],
                stdin=theirs.fileno(),
                stdout=2,  # Spark may read our stdout
                env=os.environ | _ONE_THREAD,
            )
        self._control.settimeout(_START_S)
        with contextlib.suppress(OSError):  # the first answer, missing, says it better
            _send(self._control, pickle.dumps((task, limits.memory_bytes)))

    def __call__(self, contents: Sequence[bytes], deadline_s: float | None = None) -> list[Any]:
        """What the task makes of each of the bytes: its value, or the error it raised.

        Several go to a child in one message; if they end it, each is worked on alone. If an item
        alone ends a child that has seen others, it gets a new one: what they left behind, or the
        kernel in need of memory, is not put down to it.

        Args:
            contents: the items.
            deadline_s: for these, in place of that of the limits.

        Returns:
            One outcome an item, in order; ``Lost`` for one whose child crashed, or took too much
            time or memory.

        Raises:
            IsolationBroken: no child can be had.
        """
        within_s = self._limits.deadline_s if deadline_s is None else deadline_s
        if len(contents) == 1:
            return [self._alone(contents[0], within_s)]
        outcomes = self._outcomes(self._idle_child(), contents, within_s)
        if not isinstance(outcomes, Lost):
            return outcomes
        return [self._alone(content, within_s) for content in contents]

    def _alone(self, content: bytes, deadline_s: float) -> Any:
        outcomes = self._outcomes(self._idle_child(), [content], deadline_s)
        if isinstance(outcomes, Lost) and outcomes.error_class != "decoder_timeout":  # once is dear
            outcomes = self._outcomes(self._fork(), [content], deadline_s)
        return outcomes if isinstance(outcomes, Lost) else outcomes[0]

    def close(self) -> None:
        """End the nursery, and with it the children, whatever they are doing."""
        self._control.close()
        for child in self._idle:
            child.line.close()
        self._nursery.kill()
        self._nursery.wait()

    def _idle_child(self) -> _Child:
        try:
            return self._idle.pop()
        except IndexError:
            return self._fork()

    def _outcomes(
        self, child: _Child, contents: Sequence[bytes], deadline_s: float
    ) -> list[Any] | Lost:
        try:
            outcomes = _unpack(child.ask(contents, deadline_s))
            if len(outcomes) != len(contents):
                raise ValueError(f"{len(outcomes)} answers to {len(contents)} items")
        except TimeoutError:
            self._end(child)
            return Lost("decoder_timeout", f"no answer within {deadline_s:g} s")
        except (OSError, EOFError):
            return self._verdict(self._end(child))
        except Exception as error:  # whatever a child with damaged memory writes
            self._end(child)
            return Lost("decoder_crashed", f"its answer cannot be read: {said(error)}")
        except BaseException:
            self._end(child)
            raise
        self._idle.append(child)
        return outcomes

    def _verdict(self, exit_code: int) -> Lost:
        if exit_code == _OUT_OF_MEMORY:
            limit = f"more than {self._limits.memory_bytes >> 20} MiB of memory asked for"
            return Lost("decoder_memory", limit)
        if exit_code == -signal.SIGKILL:  # by nobody but the kernel: a child offers itself first
            return Lost("decoder_memory", "killed, as the kernel does when memory is short")
        if exit_code < 0:
            return Lost("decoder_crashed", f"died of a signal: {signal.strsignal(-exit_code)}")
        return Lost("decoder_crashed", f"exited with status {exit_code}")

    def _fork(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            return _Child(self._ask_nursery(_FORK, theirs.fileno()), ours)

    def _end(self, child: _Child) -> int:
        """Kill a child, if it still lives; its exit code, as subprocess gives it."""
        child.line.close()
        return self._ask_nursery(child.pid)

    def _ask_nursery(self, number: int, *fds: int) -> int:
        with self._lock:
            if self.is_broken:
                raise IsolationBroken("the nursery of the decoders has failed before")
            self.is_broken = True  # until it has answered
            try:
                if not self._is_ready and (problem := _receive(self._control)):
                    raise IsolationBroken(
                        f"decoders got no task: {problem.decode()}; its modules must be"
                        " importable on the worker; ship them with the job"
                    )
                socket.send_fds(self._control, [_NUMBER.pack(number)], fds)
                (answer,) = _NUMBER.unpack(_receive(self._control))
            except (OSError, EOFError) as error:
                raise IsolationBroken(
                    f"the nursery of the decoders ended: {said(error)}; it lives as long as its"
                    " worker; see the worker's stderr, then run again"
                ) from error
            self._is_ready, self.is_broken = True, False
            return int(answer)


_warm: Final[dict[tuple[int, bytes, Limits], Isolated]] = {}


@contextlib.contextmanager
def isolated(task: Callable[[bytes], Any], limits: Limits) -> Iterator[Isolated]:
    """Lend children that run a task; they stay warm for the next that asks for the same.

    All calls must have returned when the loan ends.

    Args:
        task: pickled by value where its module cannot be imported.
        limits: what one item may take.
    """
    from pyspark import cloudpickle  # not above: children need no Spark

    pickled: bytes = cloudpickle.dumps(task)  # type: ignore[no-untyped-call]
    key = (os.getpid(), pickled, limits)  # a forked process has no children of ours
    lent = _warm.pop(key, None) or Isolated(pickled, limits)
    try:
        yield lent
    finally:
        surplus = [_warm.pop(key, None)]  # of another loan of the same kind
        if lent.is_broken:
            surplus.append(lent)
        else:
            _warm[key] = lent
        if len(_warm) > _WARM:
            surplus.append(_warm.pop(next(iter(_warm))))
        for nursery in filter(None, surplus):
            nursery.close()


@atexit.register
def close_warm() -> None:
    """End what is kept warm; a worker that is killed takes it along all the same."""
    while _warm:
        _warm.popitem()[1].close()


def nurse() -> NoReturn:  # pragma: no cover: no test runs in a nursery
    """The life of a nursery: fork and end children as the worker asks, until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # may be ignored above us; we want exit codes
    control = socket.socket(fileno=0)
    try:
        pickled, memory_bytes = pickle.loads(_receive(control))
        task = pickle.loads(pickled)
    except Exception as error:
        _send(control, said(error).encode())
        os._exit(1)
    gc.freeze()  # what is there stays shared with the children
    _send(control, b"")
    nursery = os.getpid()
    while True:
        request, fds, *_ = socket.recv_fds(control, _NUMBER.size, 1)
        if not request:
            os._exit(0)  # children die with us
        (number,) = _NUMBER.unpack(request)
        if number != _FORK:
            os.kill(number, signal.SIGKILL)  # does nothing to one that is dead; nor is its pid free
            answer = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        elif (answer := os.fork()) == 0:
            control.detach()
            _serve(socket.socket(fileno=fds[0]), task, memory_bytes, nursery)
        else:
            os.close(fds[0])
        _send(control, _NUMBER.pack(answer))


def _serve(
    line: socket.socket, task: Callable[[bytes], Any], memory_bytes: int, nursery: int
) -> NoReturn:  # pragma: no cover: the same
    """The life of a child: answer items, until nobody asks."""
    try:
        _bind(memory_bytes, nursery)
        while True:
            outcomes = each(task, _unpack(_receive(line)))
            if any(isinstance(outcome, MemoryError) for outcome in outcomes):
                os._exit(_OUT_OF_MEMORY)  # what filled this child is not to meet the next item
            _send(line, *_answer(outcomes))
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except (OSError, EOFError):
        os._exit(0)
    finally:
        os._exit(1)


def _bind(memory_bytes: int, nursery: int) -> None:  # pragma: no cover: no test runs in a nursery
    """Tie a child to its nursery and its limits."""
    os.close(0)  # the nursery's line to the worker
    os.open(os.devnull, os.O_RDWR)  # takes its number: none is lower
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:  # it died before that
        os._exit(0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # memory short, the kernel takes us, not the worker (proc(5): highest)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[5]) * resource.getpagesize()  # proc(5): data + stack
    # DATA counts what is allocated alone (setrlimit(2)); AS would count mapped libraries too.
    resource.setrlimit(resource.RLIMIT_DATA, (held + memory_bytes, held + memory_bytes))


def each(task: Callable[[bytes], Any], contents: Iterable[Part]) -> list[Any]:
    """What a task makes of each of the bytes: its value, or the error it raised."""
    outcomes: list[Any] = []
    for content in contents:
        try:
            outcomes.append(task(bytes(content)))
        except Exception as error:  # whatever one item does to a decoder
            outcomes.append(error)
    return outcomes


def _answer(outcomes: list[Any]) -> list[Part]:
    """Outcomes packed; an error stands in for one that cannot be pickled."""
    try:
        return _pack([_portable(one) if isinstance(one, Exception) else one for one in outcomes])
    except MemoryError:
        raise
    except Exception:
        return _pack([_portable(one) for one in outcomes])


def _portable(outcome: Any) -> Any:
    try:
        pickle.loads(pickle.dumps(outcome))  # errors with arguments of their own fail to load
    except Exception as error:
        name = type(outcome).__name__
        return TypeError(f"{name} cannot be pickled, as leaving its process asks: {said(error)}")
    return outcome


def _pack(value: list[Any]) -> list[Part]:
    """A pickle as the parts of a message: sizes, then arrays as they lie in memory, then the rest.

    Source: PEP 574, out-of-band buffers.
    """
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, 5, buffer_callback=buffers.append)
    parts = [*(buffer.raw() for buffer in buffers), memoryview(rest)]
    sizes = [len(part) for part in parts]
    return [struct.pack(f"<{1 + len(parts)}q", len(parts), *sizes), *parts]


def _unpack(message: bytearray) -> list[Any]:
    """The value of a message; its arrays lie in the message's memory."""
    (count,) = _NUMBER.unpack_from(message)
    sizes = struct.unpack_from(f"<{count}q", message, _NUMBER.size)
    ends = list(accumulate(sizes, initial=_NUMBER.size * (1 + count)))
    *buffers, rest = (memoryview(message)[start:end] for start, end in pairwise(ends))
    value: list[Any] = pickle.loads(rest, buffers=buffers)
    return value


def _send(line: socket.socket, *parts: Part, until: float = inf) -> None:
    """One message, by a point in monotonic time.

    Raises:
        TimeoutError: it was not taken in time.
    """
    size = _NUMBER.pack(sum(len(part) for part in parts))
    rest = [memoryview(part) for part in (size, *parts)]
    while rest:
        _wait_until(line, until)
        sent = line.sendmsg(rest[:_MOST_PARTS])
        while rest and sent >= len(rest[0]):
            sent -= len(rest.pop(0))
        if sent:
            rest[0] = rest[0][sent:]


def _receive(line: socket.socket, until: float = inf) -> bytearray:
    """The next message whole, by a point in monotonic time.

    Raises:
        EOFError: the other side hung up.
        TimeoutError: it did not come in time.
    """
    (size,) = _NUMBER.unpack(_exactly(line, _NUMBER.size, until))
    return _exactly(line, size, until)


def _exactly(line: socket.socket, size: int, until: float) -> bytearray:
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        _wait_until(line, until)
        got = line.recv_into(rest)
        if got == 0:
            raise EOFError("the other side hung up")
        rest = rest[got:]
    return content


def _wait_until(line: socket.socket, until: float) -> None:
    if until < inf:
        line.settimeout(max(until - time.monotonic(), 1e-3))  # 0 would mean: do not wait
