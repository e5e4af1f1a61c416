import ctypes
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyspark import cloudpickle

from schemas.error_classes import ERROR_CLASSES
from udfs import isolation
from udfs.examine import Examine
from udfs.image_codec import ImageRefused
from udfs.image_signals import image_signals_udf
from udfs.isolation import IsolationBroken, Limits, Lost, isolated

LIMITS = Limits(deadline_s=60, memory_bytes=256 << 20)
HASTY = Limits(deadline_s=0.5, memory_bytes=256 << 20)
ENDS = {  # what an item does -> what is said of it
    b"abort": "decoder_crashed",
    b"exit": "decoder_crashed",
    b"fault": "decoder_crashed",
    b"hog": "decoder_memory",
    b"killed": "decoder_memory",
}


def misbehave(content: bytes):
    """A decoder's accidents, by name; the length of anything else."""
    match content:
        case b"abort":
            os.abort()
        case b"exit":
            os._exit(3)
        case b"fault":
            ctypes.string_at(1)
        case b"hog":
            return np.ones(1 << 30, np.uint8).sum()
        case b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"hang":
            time.sleep(600)
        case b"raise":
            raise ImageRefused("corrupt_image", "not so good")
        case b"unpicklable":
            return lambda: None
        case b"unpicklable error":
            raise ValueError(threading.Lock())
        case b"leave":
            raise SystemExit
        case b"pid":
            return os.getpid()
        case b"look":
            return (
                {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]},
                signal.getsignal(signal.SIGINT),
                Path("/proc/self/oom_score_adj").read_text().strip(),
            )
        case b"array":
            return np.arange(300_000, dtype=np.float32), np.ones((2, 3))[:, ::2]
        case b"print":
            print("said on stdout", flush=True)
    return len(content)


def classes(outcomes):
    return [outcome.error_class if isinstance(outcome, Lost) else outcome for outcome in outcomes]


def is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_warm():
    isolation.close_warm()  # what other tests have left
    others = set(psutil.Process().children(recursive=True))  # Spark's, if this process has it
    yield
    isolation.close_warm()
    assert wait_for(lambda: set(psutil.Process().children(recursive=True)) <= others)


@pytest.fixture
def cell():
    with isolated(misbehave, LIMITS) as lent:
        yield lent


@pytest.mark.parametrize(("content", "error_class"), ENDS.items())
def test_what_ends_a_child_costs_its_item_alone(cell, content, error_class) -> None:
    assert error_class in ERROR_CLASSES
    assert classes(cell([b"a", content, b"ccc"])) == [1, error_class, 3]
    assert cell([b"four"]) == [4]


def test_a_death_says_how_it_came(cell) -> None:
    details = [outcome.detail for outcome in cell([b"abort", b"exit", b"fault", b"hog", b"killed"])]
    assert details == [
        "died of a signal: Aborted",
        "exited with status 3",
        "died of a signal: Segmentation fault",
        "more than 256 MiB of memory asked for",
        "killed, as the kernel does when memory is short",
    ]
    assert classes(cell([b"leave"])) == ["decoder_crashed"]


def test_a_hang_ends_at_the_deadline() -> None:
    with isolated(misbehave, HASTY) as cell:
        cell([b"a"])  # the nursery's start is not timed
        started = time.monotonic()
        assert classes(cell([b"a", b"hang", b"ccc"])) == [1, "decoder_timeout", 3]
        assert time.monotonic() - started < 10
        assert cell([b"hang"])[0].detail == "no answer within 0.5 s"


def test_an_error_comes_back_as_it_was_raised(cell) -> None:
    good, error, other = cell([b"a", b"raise", b"ccc"])
    assert (good, other) == (1, 3)
    assert isinstance(error, ImageRefused)
    assert (error.error_class, error.detail) == ("corrupt_image", "not so good")


def test_what_cannot_be_pickled_is_an_error_of_its_item(cell) -> None:
    good, value, error, other = cell([b"a", b"unpicklable", b"unpicklable error", b"ccc"])
    assert (good, other) == (1, 3)
    assert isinstance(value, TypeError)
    assert isinstance(error, TypeError)
    assert str(value).startswith("function cannot be pickled")
    assert str(error).startswith("ValueError cannot be pickled")


class Particular(Exception):
    def __init__(self, one, other):
        super().__init__(one)
        self.other = other


def test_an_error_that_cannot_be_unpickled_is_one_that_can() -> None:
    outcomes = [1, Particular(1, 2), threading.Lock()]
    message = bytearray(b"".join(isolation._answer(outcomes)))
    good, error, value = isolation._unpack(message)
    assert good == 1
    assert str(error).startswith("Particular cannot be pickled")
    assert str(value).startswith("lock cannot be pickled")


def test_a_lack_of_memory_while_packing_is_not_hidden(monkeypatch) -> None:
    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr("pickle.dumps", short)
    with pytest.raises(MemoryError):
        isolation._answer([1])


@pytest.mark.parametrize("answer", [b"garbage", bytes(8), b"".join(isolation._pack([1, 2, 3]))])
def test_an_answer_without_sense_is_a_crash(monkeypatch, cell, answer) -> None:
    (pid,) = cell([b"pid"])
    with monkeypatch.context() as patch:
        patch.setattr(isolation._Child, "ask", lambda *_: bytearray(answer))
        (lost,) = cell([b"a"])
    assert lost.error_class == "decoder_crashed"
    assert "cannot be read" in lost.detail
    assert cell([b"pid"]) != [pid]


def test_arrays_of_any_layout_and_messages_of_any_size_pass(cell) -> None:
    (plain, strided), length, empty = cell([b"array", bytes(5 << 20), b""])
    assert plain.tolist() == list(range(300_000))
    assert strided.tolist() == [[1, 1], [1, 1]]
    assert (length, empty) == (5 << 20, 0)
    assert cell([]) == []
    assert cell([b"x"] * 3000) == [1] * 3000


def test_a_child_of_others_is_not_taken_for_a_witness(cell) -> None:
    (pid,) = cell([b"pid"])
    os.kill(pid, signal.SIGKILL)  # as the kernel would in need of memory
    (other,) = cell([b"pid"])
    assert other != pid
    assert cell([b"a"]) == [1]


def test_children_stay_between_loans() -> None:
    with isolated(misbehave, Limits(deadline_s=59)) as other:
        (pid,) = other([b"pid"])
    with isolated(misbehave, Limits(deadline_s=59)) as again:
        assert again([b"pid"]) == [pid]


def test_only_the_last_kinds_of_children_stay() -> None:
    pids = []
    for seconds in (51, 52, 53):
        with isolated(misbehave, Limits(deadline_s=seconds)) as cell:
            pids += cell([b"pid"])
    assert wait_for(lambda: not is_alive(pids[0]))
    assert is_alive(pids[2])


def test_two_loans_of_the_same_kind_do_not_share_children() -> None:
    with isolated(misbehave, LIMITS) as one, isolated(misbehave, LIMITS) as other:
        pids = one([b"pid"]) + other([b"pid"])
    assert pids[0] != pids[1]
    assert wait_for(lambda: sum(map(is_alive, pids)) == 1)


def test_a_child_holds_nothing_of_ours(tmp_path) -> None:
    with (tmp_path / "ours").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with isolated(misbehave, Limits(deadline_s=58)) as late:
            ((descriptors, on_interrupt, score),) = late([b"look"])
    assert descriptors.pop("0") == "/dev/null"
    assert {descriptors.pop("1"), descriptors.pop("2")} == {os.readlink("/proc/self/fd/2")}
    assert [name.partition(":")[0] for name in descriptors.values()] == ["socket"]
    assert on_interrupt == signal.SIG_IGN
    assert score == "1000"


def test_nothing_is_said_on_our_stdout(cell, capfd) -> None:
    assert cell([b"print"]) == [5]
    assert capfd.readouterr().out == ""


def test_a_nursery_that_dies_fails_the_loan_not_the_items() -> None:
    limits = Limits(deadline_s=57)
    with isolated(misbehave, limits) as cell:
        (pid,) = cell([b"pid"])
        psutil.Process(pid).parent().kill()
        assert wait_for(lambda: not is_alive(pid))
        with pytest.raises(IsolationBroken, match="ended"):
            cell([b"a"])
        with pytest.raises(IsolationBroken, match="before"):
            cell([b"a"])
    with isolated(misbehave, limits) as cell:
        assert cell([b"a"]) == [1]


class Unknown:
    def __reduce__(self):
        return __import__, ("no_such_module",)


def test_a_task_that_cannot_be_read_says_so() -> None:
    with (
        pytest.raises(IsolationBroken, match="no_such_module"),
        isolated(Unknown(), LIMITS) as cell,  # type: ignore[arg-type]
    ):
        cell([b"a"])


def test_an_interrupted_call_takes_its_child_along(monkeypatch, cell) -> None:
    (pid,) = cell([b"pid"])

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(isolation, "_receive", interrupted)
        patch.setattr(isolation.Isolated, "_end", lambda _, child: os.kill(child.pid, 9))
        with pytest.raises(KeyboardInterrupt):
            cell([b"a"])
    assert cell([b"a"]) == [1]
    assert cell([b"pid"]) != [pid]


ORPHANS = """
import sys, time
from udfs.isolation import Limits, isolated

def task(content):
    import os, time
    if content == b"pid":
        return os.getpid(), os.getppid()
    time.sleep(600)

with isolated(task, Limits()) as cell:
    print(*cell([b"pid"])[0], flush=True)
    cell([b"hang"])
"""


def test_a_killed_worker_leaves_no_orphan() -> None:
    worker = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    with worker:
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert all(map(is_alive, pids))
        time.sleep(0.2)
        worker.kill()
        assert wait_for(lambda: not any(map(is_alive, pids)))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from([b"", b"a", b"raise", *ENDS]), max_size=12))
def test_any_order_of_good_and_bad_has_each_its_outcome(contents) -> None:
    with isolated(misbehave, LIMITS) as cell:
        found = cell(contents)
    expected = [ENDS.get(content, len(content)) for content in contents]
    given_back = [
        5 if isinstance(one, ImageRefused) else one for one in classes(found)
    ]  # len(b"raise")
    assert given_back == expected


def test_the_same_signals_are_the_same_task_wherever_they_come_from(tiny_clip) -> None:
    from udfs.clip import ClipImage
    from udfs.phash import PHash

    sent = cloudpickle.dumps(Examine((ClipImage(tiny_clip), PHash()), 10**7))
    first, second = (cloudpickle.dumps(cloudpickle.loads(sent)) for _ in "ab")
    assert first == second


# The operator on pictures, some of which end their decoder.


class Trap:
    """The grey level as sharpness; a picture of level n > 250 does the n-th bad thing."""

    columns = ("sharpness",)
    version = "trap/1"

    def load(self):
        return None

    def prepare(self, decoded):
        level = decoded.image.getpixel((0, 0))[0]
        if level > 250:
            misbehave([b"abort", b"exit", b"fault", b"hog", b"hang"][level - 251])
        return level

    def finish(self, prepared):
        return {"sharpness": [float(level) for level in prepared]}


SAID = ("decoder_crashed",) * 3 + ("decoder_memory", "decoder_timeout")


def grey(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def transported(contents):
    for start in range(0, len(contents), 64):
        part = contents[start : start + 64]
        keys = [f"k{start + n}" for n in range(len(part))]
        yield pa.RecordBatch.from_pydict(
            {"media_sha256": keys, "content": pa.array(part, pa.binary())}
        )


def scored(contents, limits):
    score = image_signals_udf([Trap()], max_pixels=100, isolation=limits)
    return [row for batch in score(transported(contents)) for row in batch.to_pylist()]


def test_twenty_that_end_their_decoder_cost_twenty_of_two_thousand() -> None:
    drawn = [grey(level) for level in range(256)]
    chance = random.Random(7)
    levels = [n % 250 for n in range(2000)]
    for n, place in enumerate(sorted(chance.sample(range(2000), 20))):
        levels[place] = 251 + n % 5
    limits = Limits(deadline_s=1, memory_bytes=256 << 20)
    scored([grey(1)], limits)  # the nursery's start is not timed
    started = time.monotonic()
    rows = scored([drawn[level] for level in levels], limits)
    assert time.monotonic() - started < 60
    plain = scored([drawn[min(level, 250)] for level in levels], None)

    assert [row["media_sha256"] for row in rows] == [f"k{n}" for n in range(2000)]
    for level, row, expected in zip(levels, rows, plain, strict=True):
        if level > 250:
            assert row["status"] == SAID[level - 251]
            assert row["detail"]
            assert row["sharpness"] is None
        else:
            assert row == expected
    assert sum(row["status"] != "ok" for row in rows) == 20


def test_a_run_left_midway_leaves_clean_children() -> None:
    score = image_signals_udf([Trap()], max_pixels=100, batch_size=2, isolation=LIMITS)
    run = score(transported([grey(level) for level in range(200)]))
    next(run)
    run.close()
    rows = scored([grey(level) for level in range(100, 150)], LIMITS)
    assert [row["sharpness"] for row in rows] == list(range(100, 150))


@pytest.mark.parametrize("limits", [LIMITS, None])
def test_no_rows_and_rows_without_content(limits) -> None:
    assert scored([], limits) == []
    statuses = [row["status"] for row in scored([None, grey(1), None], limits)]
    assert statuses == ["media_gone", "ok", "media_gone"]


def test_without_isolation_a_lack_of_memory_has_its_class(monkeypatch) -> None:
    def short(_):
        raise MemoryError

    content = grey(1)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", short)
    (row,) = scored([content], None)
    assert row["status"] == "decoder_memory"
