import io
import multiprocessing
import resource
import tarfile
from pathlib import Path

import pyarrow as pa
from PIL import Image

from jobs import ingest
from jobs.demo import trouble
from jobs.demo.trouble import File
from jobs.sources.entry import Limits

LIMITS = Limits(
    max_member_bytes=1 << 30,
    max_pixels=89_478_485,
    max_decompression_ratio=100,
    max_decompressed_bytes=1 << 36,
)
PICTURE = Image.new("RGB", (64, 64), "red")


def shard(folder: Path, name: str, *images: File) -> dict[str, object]:
    """A row of the manifest, and the tar that it is about."""
    path = folder / name
    with tarfile.open(path, "w") as tar:
        for number, image in enumerate(images):
            for member in (image, File("txt", b"a red square")):
                info = tarfile.TarInfo(f"{number}.{member.extension}")
                info.size = len(member.content)
                tar.addfile(info, io.BytesIO(member.content))
    return {"dump": "d", "shard": name, "uri": str(path), "shard_ordinal": 0}


def read(row: dict[str, object]) -> list[dict[str, object]]:
    batches = ingest.reader(LIMITS)([pa.RecordBatch.from_pylist([row])])
    return [staged for batch in batches for staged in batch.to_pylist()]


def _peaks(small: dict[str, object], giant: dict[str, object], answer) -> None:
    peaks = []
    for row in (small, giant):
        found = [staged["error_class"] for staged in read(row)]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    answer.put((found, peaks))


def test_an_image_of_900_megapixels_is_refused_in_less_than_100_megabytes(tmp_path):
    rows = (
        shard(tmp_path, "small.tar", trouble.encode(PICTURE, "png")),
        shard(tmp_path, "giant.tar", trouble.giant_png(PICTURE)),
    )
    # A process of its own: the peak of this one may lie far above already.
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peaks, args=(*rows, answer))
    process.start()
    found, (before_kib, after_kib) = answer.get(timeout=60)
    process.join()

    assert found == ["too_many_pixels"]
    assert after_kib - before_kib < 100_000


def test_a_member_that_climbs_out_of_the_shard_writes_nothing(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    row = shard(inner, "x.tar")
    with tarfile.open(inner / "x.tar", "w") as tar:
        for name in ("../../x.png", "../../x.txt", "/tmp/sluice-was-here.png"):
            tar.addfile(tarfile.TarInfo(name))

    assert {staged["error_class"] for staged in read(row)} == {"unsafe_member_name"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "x.tar"]
    assert not Path("/tmp/sluice-was-here.png").exists()


def test_a_shard_that_is_gone_is_one_refused_entry(tmp_path):
    row = shard(tmp_path, "x.tar") | {"uri": str(tmp_path / "gone.tar")}
    (staged,) = read(row)
    assert staged["error_class"] == "unreadable_shard"
