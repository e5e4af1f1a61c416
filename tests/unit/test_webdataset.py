import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import base_plus_ext

from jobs.sources.entry import Entry, Limits
from jobs.sources.webdataset import entries, key_and_kind
from schemas.error_classes import ERROR_CLASSES

LIMITS = Limits(
    max_member_bytes=1_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)


def picture(seed: int = 0, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()


def tar(members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    archive.addfile(member)
                    continue
                name, content = member
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return file.getvalue()


def items(count: int) -> list[tuple[str, bytes]]:
    """Members that do not shrink."""
    return [
        (f"{i}.{kind}", picture(i) if kind == "png" else b"some words")
        for i in range(count)
        for kind in ("png", "txt")
    ]


def read(content: bytes, limits: Limits = LIMITS) -> list[Entry]:
    return list(entries(io.BytesIO(content), limits))


def fates(content: bytes, limits: Limits = LIMITS) -> list[tuple[str | None, str | None]]:
    return [(entry.sample_key, entry.error_class) for entry in read(content, limits)]


PAIR = [("a.png", picture()), ("a.txt", b"a red circle")]


def test_members_of_one_key_make_one_item() -> None:
    (entry,) = read(tar([*PAIR, ("a.json", json.dumps({"url": "http://x/y", "n": 1}).encode())]))

    assert entry.error_class is None
    assert (entry.sample_key, entry.member, entry.caption) == ("a", "a.png", "a red circle")
    assert (entry.url, entry.extra) == ("http://x/y", {"n": "1"})
    assert (entry.mime, entry.header_width_px, entry.header_height_px) == ("image/png", 30, 20)


def test_the_offset_leads_to_the_bytes_of_the_media() -> None:
    content = tar([("0.txt", b"before"), ("0.png", picture(1)), *PAIR])
    for entry in read(content):
        start = entry.shard_offset_bytes
        assert content[start : start + entry.size_bytes] == entry.content


def test_the_caption_may_stand_in_the_side_car_but_camera_facts_are_not_kept() -> None:
    side_car = json.dumps({"caption": "a blue square", "exif": "{GPS}"}).encode()
    (entry,) = read(tar([("a.png", picture()), ("a.json", side_car)]))

    assert entry.caption == "a blue square"
    assert entry.extra == {}


def test_a_side_car_that_is_no_json_costs_only_its_facts() -> None:
    (entry,) = read(tar([*PAIR, ("a.json", b"{")]))

    assert entry.error_class is None
    assert entry.extra == {"json_error": "JSONDecodeError"}


@pytest.mark.parametrize(
    ("members", "error_class"),
    [
        ([("a.txt", b"alone")], "missing_image"),
        ([("a.npy", b"neither")], "missing_image"),
        ([("a.png", picture())], "missing_caption"),
        ([("a.png", picture()), ("a.txt", b"\xff\xfe")], "caption_not_utf8"),
        ([("a.png", b""), ("a.txt", b"empty")], "empty_media"),
        ([("a.png", b"<svg/>"), ("a.txt", b"no image")], "not_an_image"),
        ([("../../x.png", picture()), ("../../x.txt", b"climbs")], "unsafe_member_name"),
        ([("/x.png", picture()), ("/x.txt", b"absolute")], "unsafe_member_name"),
    ],
)
def test_a_bad_item_is_refused_under_its_class_and_its_neighbours_stay(
    members: list[tuple[str, bytes]], error_class: str
) -> None:
    content = tar(
        [
            ("0.png", picture(1)),
            ("0.txt", b"first"),
            *members,
            *((name.replace("a", "z"), data) for name, data in PAIR),
        ]
    )

    found = [fate for _, fate in fates(content)]

    assert found == [None, error_class, None]
    assert error_class in ERROR_CLASSES


def test_a_link_is_refused_and_never_followed() -> None:
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"

    assert fates(tar([link, ("a.txt", b"a link")])) == [("a", "unsafe_member_type")]


def test_a_member_over_the_limit_is_refused_unread() -> None:
    small = replace(LIMITS, max_member_bytes=100)

    assert fates(tar(PAIR), small) == [("a", "member_too_large")]


def test_more_pixels_than_allowed_are_refused_by_the_header() -> None:
    few = replace(LIMITS, max_pixels=599)

    assert fates(tar(PAIR), few) == [("a", "too_many_pixels")]


def test_a_key_that_comes_again_is_a_duplicate_with_its_own_occurrence() -> None:
    again = [("a.png", picture(2)), ("a.txt", b"another")]
    found = read(tar([*PAIR, ("b.png", picture(1)), ("b.txt", b"between"), *again, *again]))

    assert [(e.sample_key, e.occurrence, e.error_class) for e in found] == [
        ("a", 0, None),
        ("b", 0, None),
        ("a", 1, "duplicate_key"),
        ("a", 2, "duplicate_key"),
    ]


def test_folders_are_no_items() -> None:
    folder = tarfile.TarInfo("f")
    folder.type = tarfile.DIRTYPE

    assert fates(tar([folder, ("f/a.png", picture()), ("f/a.txt", b"inside")])) == [("f/a", None)]


def test_bytes_that_are_no_tar_are_one_unreadable_shard() -> None:
    assert fates(b"x" * 5000) == [(None, "unreadable_shard")]
    assert fates(b"") == [(None, "unreadable_shard")]


def test_garbage_between_members_is_said_and_not_taken_for_the_end() -> None:
    whole = tar([*PAIR, ("b.png", picture(1)), ("b.txt", b"after")])
    position = whole.index(b"b.png")
    broken = whole[:position] + b"\xff" * 512 + whole[position + 512 :]

    assert fates(broken) == [("a", None), (None, "truncated_shard")]


def test_an_archive_without_its_end_marker_is_said() -> None:
    whole = tar(PAIR)
    end = whole.index(b"a red circle") + 512

    assert fates(whole[:end]) == [("a", None), (None, "truncated_shard")]


@given(st.integers(min_value=1, max_value=20_000))
def test_wherever_a_shard_is_cut_what_came_before_is_kept_and_the_tail_is_one_entry(
    cut: int,
) -> None:
    whole = tar(items(4))
    ends = [whole.index(f"{i}.txt".encode()) + 1024 for i in range(4)]
    cut = min(cut, len(whole) - 1)

    found = fates(whole[:cut])

    complete = sum(end <= cut for end in ends)
    assert [key for key, error in found if error is None][:complete] == [
        str(i) for i in range(complete)
    ]
    refused = [error for _, error in found if error is not None]
    assert len(refused) <= 1
    assert set(refused) <= {"truncated_shard", "unreadable_shard"}


@given(st.binary(max_size=3000), st.integers(0, 2500))
def test_no_bytes_whatever_make_the_reader_fail(noise: bytes, at: int) -> None:
    whole = tar(PAIR)
    found = read(whole[:at] + noise + whole[at + len(noise) :])

    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}


def test_names_that_are_not_unicode_can_be_stored() -> None:
    (entry,) = read(tar([("\udcff.png", picture()), ("\udcff.txt", b"odd name")]))

    entry.sample_key.encode("utf-8")


@given(st.text(alphabet=st.sampled_from("aB1./_ é"), min_size=1, max_size=12))
@example("a/b.c/d.left.JPG")
@example("./a.png")
@example("a..png")
def test_whatever_name_webdataset_can_split_is_split_alike(name: str) -> None:
    key, kind = base_plus_ext(name)
    # It passes over names without a dot, and takes the folder for the key of ".x.png".
    if key is not None and not name.rpartition("/")[2].startswith("."):
        assert key_and_kind(name) == (key, kind.lower())


def packed(content: bytes, codec: str) -> bytes:
    if codec == "gzip":
        return gzip.compress(content, mtime=0)
    return pa.compress(content, codec, asbytes=True)


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"any"  # RFC 8878 §3.1.2
CODECS = pytest.mark.parametrize("codec", ["gzip", "zstd"])
# Past the floor below which no ratio is asked, and zeros shrink a thousandfold.
BOMB = [("z.png", bytes(40_000_000)), ("z.txt", b"after the bomb")]


@CODECS
def test_a_compressed_shard_gives_the_same_entries_without_offsets(codec: str) -> None:
    plain = tar([*PAIR, ("b.txt", b"alone"), ("c.png", picture(2)), ("c.txt", b"third")])
    expected = [replace(entry, shard_offset_bytes=None) for entry in read(plain)]

    assert read(packed(plain, codec)) == expected
    assert [entry.error_class for entry in expected] == [None, "missing_image", None]


def test_a_shard_that_was_compressed_in_parts_is_read_to_its_end() -> None:
    plain = tar([*PAIR, ("b.png", picture(1)), ("b.txt", b"second")])
    half = len(plain) // 2

    for codec in ("gzip", "zstd"):
        parts = packed(plain[:half], codec) + packed(plain[half:], codec)
        assert fates(parts) == [("a", None), ("b", None)]
    assert fates(SKIPPABLE + packed(plain, "zstd")) == [("a", None), ("b", None)]


@CODECS
def test_compressed_bytes_that_are_no_tar_are_one_unreadable_shard(codec: str) -> None:
    assert fates(packed(b"x" * 5000, codec)) == [(None, "unreadable_shard")]


@CODECS
@given(data=st.data())
def test_wherever_a_compressed_shard_is_cut_what_came_before_is_kept(codec: str, data) -> None:
    content = packed(tar(items(4)), codec)
    cut = data.draw(st.integers(4, len(content) - 1))

    *kept, tail = fates(content[:cut])

    assert kept == [(str(i), None) for i in range(len(kept))]
    assert tail[1] == "truncated_shard"


def test_a_cut_loses_no_block_that_could_be_decompressed() -> None:
    first = tar(PAIR)
    first = first[: first.index(b"a red circle") + 512]
    second = tar([("b.png", picture(1)), ("b.txt", b"second")])
    # The first frame is whole; of the second, nothing can be had.
    content = packed(first, "zstd") + packed(second, "zstd")[:10]

    assert fates(content) == [("a", None), (None, "truncated_shard")]


def test_a_checksum_that_does_not_fit_is_said_after_the_items() -> None:
    content = bytearray(packed(tar(items(60)), "gzip"))
    content[-8] ^= 1  # RFC 1952 §2.3: CRC32, then the size, end the file

    *kept, tail = fates(bytes(content))

    # What the last feed of 4 KiB gave went with the checksum.
    assert kept == [(str(i), None) for i in range(len(kept))]
    assert len(kept) >= 57
    assert tail[1] == "truncated_shard"


@CODECS
def test_a_shard_that_grows_too_much_ends_there_with_one_entry(codec: str) -> None:
    content = packed(tar([*PAIR, *BOMB]), codec)

    found = read(content)

    assert [(e.sample_key, e.error_class) for e in found] == [
        ("a", None),
        ("z", "decompression_bomb"),
    ]
    assert "limit 100 to 1" in str(found[-1].detail)
    patient = replace(LIMITS, max_decompression_ratio=100_000)
    assert fates(content, patient) == [("a", None), ("z", "member_too_large")]


def test_a_shard_over_the_total_ends_there_with_one_entry() -> None:
    whole = tar([*PAIR, ("b.png", picture(1)), ("b.txt", b"x" * 30_000)])
    small = replace(LIMITS, max_decompressed_bytes=20_000)

    assert fates(packed(whole, "zstd"), small) == [("a", None), ("b", "decompression_bomb")]
    assert fates(whole, small) == [("a", None), ("b", None)]


@CODECS
@given(noise=st.binary(max_size=300), at=st.integers(0, 1000))
def test_no_compressed_bytes_whatever_make_the_reader_fail(
    codec: str, noise: bytes, at: int
) -> None:
    whole = packed(tar(PAIR), codec)
    found = read(whole[:at] + noise + whole[at + len(noise) :])

    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}


def test_why_a_member_is_refused_can_be_stored_whatever_it_is_called() -> None:
    link = tarfile.TarInfo("a.\udcff")
    link.type = tarfile.SYMTYPE
    (entry,) = read(tar([link]))

    assert (entry.error_class, entry.detail) == ("unsafe_member_type", "\\udcff is no file")


def test_a_sparse_member_is_read_but_lies_nowhere_as_it_is() -> None:
    content = picture() + bytes(5000)  # the hole
    stored = b"1\n0\n%d\n" % len(picture())  # GNU tar, "PAX Format, Version 1.0"
    stored = stored.ljust(512, b"\0") + picture()
    said = {"major": "1", "minor": "0", "realsize": str(len(content)), "name": "a.png"}
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            info = tarfile.TarInfo("GNUSparseFile.0/a.png")
            info.size = len(stored)
            info.pax_headers = {f"GNU.sparse.{name}": value for name, value in said.items()}
            archive.addfile(info, io.BytesIO(stored))
            caption = tarfile.TarInfo("a.txt")
            archive.addfile(caption)
        (entry,) = read(file.getvalue())

    assert (entry.error_class, entry.content) == (None, content)
    assert entry.shard_offset_bytes is None


@pytest.mark.parametrize("size_bytes", [2**63, 2**80, -1])
@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_size_that_no_file_has_ends_the_shard_and_can_be_stored(
    size_bytes: int, tar_format: int
) -> None:
    lie = tarfile.TarInfo("b.png")
    lie.size = size_bytes
    before = tar(PAIR).rstrip(b"\0")
    padding = bytes(-len(before) % tarfile.BLOCKSIZE)
    good, bad = read(before + padding + lie.tobuf(tar_format) + bytes(tarfile.RECORDSIZE))

    assert (good.error_class, bad.error_class) == (None, "truncated_shard")
    assert (bad.size_bytes, bad.shard_offset_bytes) == (None, None)
