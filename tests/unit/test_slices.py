"""A shard that is read in parts gives what it gives as a whole."""

import io
import tarfile
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.guard import Guard
from jobs.runtime.staging import FOLDER, Staging
from jobs.sources.entry import Reading
from jobs.sources.formats import FORMATS
from jobs.sources.place import Place, walk
from jobs.staged import CONTINUED, Portion, reader
from tests import manifest
from tests.fuzz_seeds import SEEDS
from tests.loose_files import LIMITS, fill

ALL = 1 << 40
# What tells the parts of a reading from the whole: revisions name them, and quarantined inputs.
OF_PARTS = ("attempt", "first_position", "input_id", "media_file")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_read_from_any_item_on(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(SEEDS[name].make()):
        root = tmp_path / str(number)
        fill(root, dict(seed.files))
        place = Place(str(root), seed.shard)
        whole = list(FORMATS[name].read(place, Reading(limits=LIMITS, options=seed.options)))
        for first in range(len(whole) + 1):
            reading = Reading(limits=LIMITS, options=seed.options, first=first)
            wanted = [e for e in FORMATS[name].read(place, reading) if e.position >= first]
            assert wanted == whole[first:]


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """Twenty items: one without a caption, keys that come again, a damaged tail."""
    root = tmp_path / "dump"
    root.mkdir()
    with tarfile.open(root / "0.tar", "w") as tar:
        for number in range(20):
            key = "same" if number in (4, 11, 17) else str(number)
            files = {f"{key}.png": png(number), f"{key}.txt": b"a"}
            if number == 8:
                del files[f"{key}.txt"]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    content = (root / "0.tar").read_bytes().rstrip(b"\0")
    (root / "0.tar").write_bytes(content + bytes(-len(content) % 512) + b"damage" * 200)
    return root


def parts(dump: Path, portion: Portion) -> list[list[dict[str, Any]]]:
    """The staged rows of each batch until nothing is left, the bytes of media in place."""
    (file,) = walk(str(dump), FORMATS["webdataset"].shards)
    found, first = [], 0
    for revision in count():
        staging = dump.parent / f"staging{portion.slice_items}.{portion.slice_bytes}.{revision}"
        row = manifest.shard(file, dump, revision=revision, first_position=first, shard_ordinal=3)
        batches = reader(
            LIMITS, Guard(), Staging(folder=str(staging), batch="b", run_id="r"), portion
        )([pa.RecordBatch.from_pylist([row])])
        rows = [staged for batch in batches for staged in batch.to_pylist()]
        media = {
            held["media_sha256"]: held["content"]
            for path in (staging / FOLDER).glob("*")
            for held in pq.read_table(path).to_pylist()
        }
        entries = [staged for staged in rows if staged["fate"] != CONTINUED]
        found.append(
            [staged | {"content": media.get(staged["media_sha256"])} for staged in entries]
        )
        stops = [staged["position"] for staged in rows if staged["fate"] == CONTINUED]
        if not stops:
            return found
        (first,) = stops
        assert rows[-1]["fate"] == CONTINUED
        assert rows[-1]["attempt"] == revision
    raise AssertionError


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in OF_PARTS} for row in rows]


WHOLE = Portion(slice_bytes=ALL, slice_items=ALL, max_inline_bytes=ALL)


@pytest.mark.parametrize(
    "portion",
    [
        *(Portion(slice_bytes=ALL, slice_items=n, max_inline_bytes=ALL) for n in (1, 7, 20, 21)),
        *(Portion(slice_bytes=n, slice_items=ALL, max_inline_bytes=ALL) for n in (1, 300)),
    ],
)
def test_parts_of_a_shard_are_together_the_whole(dump: Path, portion: Portion) -> None:
    (whole,) = parts(dump, WHOLE)
    found = parts(dump, portion)

    assert {row["error_class"] for row in whole} == {
        None,
        "missing_caption",
        "duplicate_key",
        "truncated_shard",
    }
    assert len(whole) == 21
    assert comparable([row for rows in found for row in rows]) == comparable(whole)
    # None is empty but of an empty shard: nobody is sent to read what is not there.
    assert all(found)
    for rows, later in pairwise(found):
        assert rows[-1]["position"] + 1 == later[0]["first_position"] == later[0]["position"]


def test_a_part_ends_with_the_item_that_passes_its_bytes(dump: Path) -> None:
    size_bytes = len(png(0))
    portion = Portion(slice_bytes=2 * size_bytes, slice_items=ALL, max_inline_bytes=ALL)
    sizes = [sum(row["content"] is not None for row in rows) for rows in parts(dump, portion)]

    assert set(sizes[:-1]) <= {1, 2}
