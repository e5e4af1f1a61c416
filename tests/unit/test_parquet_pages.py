import io
import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.sources.entry import EntryRefused, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.interleaved import OBELICS
from jobs.sources.parquet_footer import Chunk, row_groups
from jobs.sources.parquet_pages import Pages, pages
from jobs.sources.place import Place

LIMITS = Limits(
    max_member_bytes=10_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)
LONG = "x" * 1_500_000  # its page declares sizes of four bytes in Thrift's compact protocol
MUCH = b"\xfe\xff\xff\x7f"  # the most that four bytes can say: 128 MiB
PLAIN_AT, STORED_AT = 3, 8  # in the header: 15 type 15 plain 15 stored
PEAK_BYTES = 32 * 2**20


def written(compression: str, column: str, **how: object) -> bytes:
    table = pa.table({"url": ["http://x/"], "text": ["words"], column: [LONG]})
    with io.BytesIO() as file:
        pq.write_table(table, file, compression=compression, **how)
        return file.getvalue()


def declaring_much(compression: str, at: int) -> bytes:
    """A table whose last column has one page, which says a size that is not true."""
    content = written(compression, "more", use_dictionary=False)
    start = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(2).data_page_offset
    assert content[start : start + 3] == b"\x15\x00\x15"
    assert content[start + 7] == 0x15
    return content[: start + at] + MUCH + content[start + at + 4 :]


def _peak(name: str, root: str, answer: "Queue[object]") -> None:
    pool = pa.default_memory_pool()
    found = FORMATS[name].read(Place(root, "a.parquet"), Reading(limits=LIMITS))
    classes = [entry.error_class for entry in found]
    answer.put((classes, pool.max_memory()))


@pytest.mark.parametrize("name", ["table", OBELICS])
@pytest.mark.parametrize(
    ("compression", "at", "error_class"),
    [
        ("none", STORED_AT, "damaged_record"),
        ("gzip", PLAIN_AT, "decompression_bomb"),
        ("zstd", PLAIN_AT, "decompression_bomb"),
    ],
)
def test_a_page_takes_no_memory_for_what_it_only_declares(
    tmp_path: Path, name: str, compression: str, at: int, error_class: str
) -> None:
    (tmp_path / "a.parquet").write_bytes(declaring_much(compression, at))
    # A process of its own: the peak of this one may lie far above already.
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak, args=(name, str(tmp_path), answer))
    process.start()
    classes, peak_bytes = answer.get(timeout=60)
    process.join()

    assert classes == [error_class]
    assert peak_bytes < PEAK_BYTES


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
def test_what_the_pages_declare_is_what_their_writer_counted(
    version: str, compression: str
) -> None:
    table = pa.table({"a": [f"{i % 10}" * 100 for i in range(10_000)], "b": range(10_000)})
    with io.BytesIO() as file:
        how = {"compression": compression, "data_page_version": version, "data_page_size": 5_000}
        pq.write_table(table, file, use_dictionary=["a"], **how)
        (group,) = row_groups(file, LIMITS)
        found = [pages(file, [chunk]) for chunk in group.chunks]

    assert [each.values for each in found] == [10_010, 10_000]
    for each, chunk in zip(found, group.chunks, strict=True):
        # The writer counts the headers too.
        assert 0.5 * chunk.plain_bytes < each.plain_bytes < chunk.plain_bytes


def test_a_long_header_is_read_whole() -> None:
    with io.BytesIO() as file:
        table = pa.table({"a": ["a" * 3_000, "b" * 3_000]})
        pq.write_table(table, file, use_dictionary=False, compression="none")
        (group,) = row_groups(file, LIMITS)

        assert pages(file, group.chunks).values == 2


def chunk(content: bytes, values: int = 10) -> tuple[io.BytesIO, list[Chunk]]:
    stored = Chunk(frozenset(), values, 0, len(content), 0)
    return io.BytesIO(content), [stored]


DATA = b"\x15\x00\x15\x08\x15\x00\x2c\x15\x14\x00\x00"  # ten values in four bytes


def test_pages_are_looked_at_until_the_values_are_there() -> None:
    assert pages(*chunk(DATA)) == Pages(10, 4)
    assert pages(*chunk(DATA * 3, 21)) == Pages(30, 12)
    assert pages(*chunk(DATA + b"\xff")) == Pages(10, 4)
    assert pages(*chunk(DATA, 0)) == Pages(0, 0)


def test_a_page_that_arrow_skips_counts_but_ends_nothing() -> None:
    skipped = b"\x15\x01" + DATA[2:]  # of type -1

    assert pages(*chunk(skipped + DATA)) == Pages(10, 8)


OTHERWISE = {
    "noise": b"\xff" * 40,
    "cut": DATA[:-2],
    "a byte too many": b"\x15\x00\x15\x08\x15\x02\x2c\x15\x14\x00\x00",
    "-1 bytes": b"\x15\x00\x15\x08\x15\x01\x2c\x15\x14\x00\x00",
    "no stored size": b"\x15\x00\x15\x08\x2c\x15\x14\x00\x00",
    "a size twice": DATA[:-1] + b"\x05\x04\x10\x00",
    "2^34 values": DATA[:8] + b"\x80\x80\x80\x80\x80\x01\x00\x00",
    "field 65,541, which Arrow takes for 5": DATA[:-1] + b"\x05\x8a\x80\x08\x02\x00",
    "2^63 booleans": DATA[:-1] + b"\x09\x02\xf1" + b"\xff" * 8 + b"\x7f\x00",
}


@pytest.mark.parametrize("content", OTHERWISE.values(), ids=OTHERWISE)
def test_a_header_that_arrow_might_read_otherwise_is_refused(content: bytes) -> None:
    with pytest.raises(EntryRefused) as refused:
        pages(*chunk(content))

    assert refused.value.error_class == "damaged_record"
