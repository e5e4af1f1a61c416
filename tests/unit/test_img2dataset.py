import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.img2dataset import FORMAT, MISSING_FROM, entries
from jobs.sources.place import Place, walk
from schemas.error_classes import ERROR_CLASSES

LEFT = Path(__file__).parent / "img2dataset"
FORMS = pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
LIMITS = Limits(
    max_member_bytes=1_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)
FAILED = {"000001", "000003", "000006"}


def wanted() -> dict[str, tuple[str, str]]:
    with (LEFT / "urls.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {f"{i:06}": (row["url"], row["caption"]) for i, row in enumerate(rows)}


WANTED = wanted()


@pytest.fixture
def left(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of what a form left, to be damaged."""

    def copied(form: str) -> Path:
        return Path(shutil.copytree(LEFT / form, tmp_path / form))

    return copied


def found_shards(root: Path) -> list[str]:
    shards = FORMATS[FORMAT].shards
    return [shard.path for shard in walk(str(root), shards)]


def read(root: Path) -> list[Entry]:
    """The entries of all shards that are found."""
    found = []
    for shard in found_shards(root):
        of_shard = list(FORMATS[FORMAT].read(Place(str(root), shard), Reading(limits=LIMITS)))
        assert [entry.position for entry in of_shard] == list(range(len(of_shard)))
        assert {entry.error_class for entry in of_shard} <= {None, *ERROR_CLASSES}
        found += of_shard
    return found


def accepted(found: list[Entry]) -> dict[str, Entry]:
    kept = [entry for entry in found if entry.error_class is None]
    by_key = {str(entry.sample_key): entry for entry in kept}
    assert len(by_key) == len(kept)
    return by_key


@FORMS
def test_each_form_is_one_shard(form: str) -> None:
    assert found_shards(LEFT / form) == ["00000.parquet"]


@FORMS
def test_every_url_is_met_once_with_its_picture_or_to_be_fetched(form: str) -> None:
    found = read(LEFT / form)

    by_key = accepted(found)
    assert len(found) == len(WANTED)
    assert {key: (e.url, e.caption) for key, e in by_key.items()} == WANTED
    assert {key for key, e in by_key.items() if e.content is None} == FAILED
    for key, entry in by_key.items():
        assert "exif" not in entry.extra
        assert MISSING_FROM not in entry.extra
        if key in FAILED:
            assert entry.extra["status"] == "failed_to_download"
            assert entry.extra["error_message"] == "HTTP Error 404: File not found"
        else:
            assert entry.member == f"{key}.jpg"
            assert (entry.mime, entry.is_extension_mismatch) == ("image/jpeg", False)
            assert (entry.header_width_px, entry.header_height_px) == (16, 16)
            assert entry.extra["status"] == "success"
            assert entry.shard_offset_bytes is None  # a tar beside the shard is not the shard


def test_the_three_forms_hold_the_same_pictures() -> None:
    pictures = [
        {key: e.media_sha256 for key, e in accepted(read(LEFT / form)).items()}
        for form in ("webdataset", "files", "parquet")
    ]
    assert pictures[0] == pictures[1] == pictures[2]
    (jpg, *_) = sorted((LEFT / "files" / "00000").glob("*.jpg"))
    assert pictures[0]["000000"] == hashlib.sha256(jpg.read_bytes()).hexdigest()


def test_of_a_tar_that_is_cut_what_is_gone_is_to_be_fetched(left) -> None:
    root = left("webdataset")
    tar = root / "00000.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[: content.index(b"000004.jpg") + 600])
    found = read(root)

    by_key = accepted(found)
    assert {key: (e.url, e.caption) for key, e in by_key.items()} == WANTED
    (refused,) = (e for e in found if e.error_class is not None)
    assert refused.error_class == "truncated_shard"
    lost = {key for key, e in by_key.items() if e.content is None} - FAILED
    assert "000004" in lost
    assert {key for key, e in by_key.items() if MISSING_FROM in e.extra} == lost
    assert by_key["000004"].extra[MISSING_FROM] == "00000.tar"
    assert by_key["000004"].extra["status"] == "success"


def test_a_tar_of_nothing_but_garbage_leaves_every_url_to_be_fetched(left) -> None:
    root = left("webdataset")
    (root / "00000.tar").write_bytes(b"x" * 5000)
    found = read(root)

    assert found[0].error_class == "unreadable_shard"
    assert set(accepted(found)) == set(WANTED)


def test_an_item_that_the_tar_delivered_damaged_is_not_met_again(left) -> None:
    root = left("webdataset")
    tar = root / "00000.tar"
    content = tar.read_bytes()
    picture = (LEFT / "files" / "00000" / "000002.jpg").read_bytes()
    assert picture in content
    tar.write_bytes(content.replace(picture, b"x" * len(picture)))
    found = read(root)

    assert [e.sample_key for e in found if e.error_class] == ["000002"]
    assert len(found) == len(WANTED)


def test_of_a_folder_what_is_gone_is_to_be_fetched(left) -> None:
    root = left("files")
    (root / "00000" / "000002.jpg").unlink()
    for path in (root / "00000").glob("000004.*"):
        path.unlink()
    (root / "00000" / "000005.txt").unlink()
    found = read(root)

    assert len(found) == len(WANTED)
    assert [(e.sample_key, e.error_class) for e in found if e.error_class] == [
        ("000002", "missing_image")
    ]
    by_key = accepted(found)
    assert by_key["000004"].extra[MISSING_FROM] == "00000"
    # The side-car holds the caption as well.
    assert (by_key["000005"].content is not None, by_key["000005"].caption) == (
        True,
        WANTED["000005"][1],
    )


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_a_run_that_was_killed_before_its_parquet_file_is_read(form: str, left) -> None:
    root = left(form)
    (root / "00000.parquet").unlink()
    (root / "00000_stats.json").unlink()

    assert found_shards(root) == [{"webdataset": "00000.tar", "files": "00000"}[form]]
    assert set(accepted(read(root))) == set(WANTED) - FAILED


@pytest.mark.parametrize("form", ["webdataset", "files"])
@pytest.mark.parametrize("kept_bytes", [0, 1000])
def test_a_torn_parquet_file_costs_what_only_it_knew(form: str, kept_bytes: int, left) -> None:
    root = left(form)
    torn = root / "00000.parquet"
    torn.write_bytes(torn.read_bytes()[:kept_bytes])
    found = read(root)

    assert set(accepted(found)) == set(WANTED) - FAILED
    assert [e.error_class for e in found if e.error_class] == ["unreadable_shard"]


def test_a_damaged_row_group_of_the_side_car_is_said(left) -> None:
    root = left("webdataset")
    path = root / "00000.parquet"
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(bytes(content))
    found = read(root)

    assert [e.error_class for e in found if e.error_class] == ["damaged_record"]
    assert set(accepted(found)) == set(WANTED) - FAILED


def test_a_success_of_the_parquet_form_without_bytes_is_to_be_fetched(left) -> None:
    root = left("parquet")
    path = root / "00000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("jpg")
    nothing = pa.nulls(len(table), pa.binary())
    pq.write_table(table.set_column(at, table.schema.field(at), nothing), path)
    by_key = accepted(read(root))

    assert set(by_key) == set(WANTED)
    assert {e.extra.get(MISSING_FROM) for k, e in by_key.items() if k not in FAILED} == {
        "00000.parquet"
    }


def test_links_out_of_a_dump_are_refused(left, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((LEFT / "files" / "00000" / "000000.jpg").read_bytes())
    root = left("files")
    (root / "00000" / "000000.jpg").unlink()
    (root / "00000" / "000000.jpg").symlink_to(outside)
    found = read(root)

    assert [(e.sample_key, e.error_class) for e in found if e.error_class] == [
        ("000000", "unsafe_member_type")
    ]
    assert len(found) == len(WANTED)


def test_a_link_in_the_place_of_a_tar_is_said(left, tmp_path: Path) -> None:
    shutil.copy(LEFT / "webdataset" / "00000.tar", tmp_path / "outside.tar")
    root = left("webdataset")
    (root / "00000.tar").unlink()
    (root / "00000.tar").symlink_to(tmp_path / "outside.tar")
    found = read(root)

    assert found[0].error_class == "unsafe_member_type"
    assert set(accepted(found)) == set(WANTED)


def test_a_file_over_the_limit_is_refused_unread(left) -> None:
    root = left("files")
    (root / "00000" / "000000.jpg").write_bytes(bytes(LIMITS.max_member_bytes + 1))

    assert [(e.sample_key, e.error_class) for e in read(root) if e.error_class] == [
        ("000000", "member_too_large")
    ]


def test_shards_in_numbered_folders_are_read_once(tmp_path: Path) -> None:
    shutil.copytree(LEFT / "webdataset", tmp_path / "00000")
    shutil.copytree(LEFT / "files", tmp_path / "1")
    shutil.copytree(LEFT / "files", tmp_path / "part-2")

    found = read(tmp_path)

    assert sum(e.error_class is None for e in found) == 3 * len(WANTED)
    assert len(found) == 3 * len(WANTED)


def test_a_tar_goes_with_the_parquet_file_before_a_folder_of_its_number(left) -> None:
    root = left("webdataset")
    shutil.copytree(LEFT / "files" / "00000", root / "00000")

    assert found_shards(root) == ["00000", "00000.parquet"]


def test_nothing_is_found_in_a_shard_that_is_gone(tmp_path: Path) -> None:
    for name in ("00000.parquet", "00000.tar"):
        (entry,) = entries(Place(str(tmp_path), name), Reading(limits=LIMITS))
        assert entry.error_class == "unreadable_shard"
        assert str(tmp_path) not in str(entry.detail)


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(max_size=40), place=st.floats(0, 1), is_tar=st.booleans())
def test_no_bytes_whatever_make_the_reader_fail(
    form: str, noise: bytes, place: float, is_tar: bool, tmp_path: Path
) -> None:
    shutil.copytree(LEFT / form, tmp_path, dirs_exist_ok=True)
    path = tmp_path / ("00000.tar" if is_tar and form == "webdataset" else "00000.parquet")
    content = path.read_bytes()
    at = int(place * len(content))
    for damaged in (content[:at] + noise + content[at + len(noise) :], content[:at]):
        path.write_bytes(damaged)
        read(tmp_path)
