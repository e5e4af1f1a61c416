import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from jobs.guard import Guard, guard
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError

MD5 = hashlib.md5(b"x", usedforsecurity=False).hexdigest()


def config(folder: Path, *lists: tuple[str, str, bytes], **rules: Any) -> Config:
    """A configuration with blocklists: (name, kind, content)."""
    listed = []
    for name, kind, content in lists:
        (folder / name).write_bytes(content)
        listed.append({"name": name, "kind": kind, "path": str(folder / name)})
    return Config.model_validate(
        {
            "warehouse": rules.pop("warehouse", str(folder / "warehouse")),
            "dumps": [{"name": "d", "path": "/d"}],
            "guard": {**rules, "blocklists": listed},
        }
    )


@pytest.mark.parametrize(
    ("size_bytes", "width_px", "height_px", "reason"),
    [
        (99, 50, 50, "too_few_bytes"),
        (100, 49, 500, "too_few_pixels"),
        (100, 500, 49, "too_few_pixels"),
        (100, 151, 50, "aspect_ratio"),
        (100, 50, 151, "aspect_ratio"),
        (100, 150, 50, None),
        (100, 50, 50, None),
    ],
)
def test_media_is_judged_by_size_and_header(
    size_bytes: int, width_px: int, height_px: int, reason: str | None
) -> None:
    against = Guard(min_bytes=100, min_side_px=50, max_aspect=3.0).size(
        size_bytes, width_px, height_px
    )

    assert (against and against.reason) == reason
    assert against is None or against.matched is None


def test_without_rules_nothing_is_turned_away() -> None:
    assert Guard().size(0, 0, 0) is None
    assert Guard().listed([("md5", MD5), ("domain", "example.org")]) is None


def test_a_key_meets_the_lists_of_its_kind_in_their_order(tmp_path: Path) -> None:
    rules = guard(
        config(
            tmp_path,
            ("hashes", "md5", f"# header\r\n{MD5.upper()}  # why\r\n\r\n".encode()),
            ("sites", "domain", b"\xef\xbb\xbfexample.org\n"),
            ("none", "sha256", b""),
        )
    )

    met = rules.listed([("domain", "a.example.org"), ("md5", MD5)])
    assert met is not None
    assert (met.reason, met.detail, met.matched) == ("blocklisted", "on blocklist hashes", MD5)
    by_host = rules.listed([("domain", "a.example.org"), ("md5", "0" * 32)])
    assert by_host is not None
    assert (by_host.detail, by_host.matched) == ("on blocklist sites", "a.example.org")
    assert rules.listed([("domain", "example.com"), ("sha256", "0" * 64)]) is None
    assert rules.listed([]) is None


def test_the_rules_travel(tmp_path: Path) -> None:
    rules = guard(config(tmp_path, ("hashes", "md5", MD5.encode()), min_bytes=7))

    assert pickle.loads(pickle.dumps(rules)) == rules
    assert rules.min_bytes == 7


def test_a_list_is_prepared_once_for_each_content(tmp_path: Path) -> None:
    (first,) = guard(config(tmp_path, ("hashes", "md5", MD5.encode()))).lists
    made_at = Path(first[1]).stat().st_mtime_ns
    (again,) = guard(config(tmp_path, ("hashes", "md5", MD5.encode()))).lists
    (other,) = guard(config(tmp_path, ("hashes", "md5", b"0" * 32))).lists

    assert again == first
    assert Path(first[1]).stat().st_mtime_ns == made_at
    assert other[1] != first[1]
    left = {file.name for file in (tmp_path / "warehouse" / "_blocklists").iterdir()}
    assert left == {Path(first[1]).name, Path(other[1]).name}


@pytest.mark.parametrize(
    "content", [b"nothex", b"00", f"{MD5} {MD5}".encode(), b"\xff\xfe", MD5.encode("utf-16")]
)
def test_a_line_that_is_no_digest_is_a_mistake_of_the_configuration(
    tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(ConfigError, match="hashes"):
        guard(config(tmp_path, ("hashes", "md5", content)))
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("kind", ["gone", "folder"])
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    made = config(tmp_path, ("hashes", "md5", b""))
    (tmp_path / "hashes").unlink()
    if kind == "folder":
        (tmp_path / "hashes").mkdir()
    with pytest.raises(ConfigError, match="hashes"):
        guard(made)


@pytest.mark.parametrize("warehouse", ["s3a://bucket/w", "file:/tmp/w", "hdfs:///w"])
def test_lists_need_a_warehouse_that_is_a_folder(tmp_path: Path, warehouse: str) -> None:
    with pytest.raises(ConfigError, match="allowed with a warehouse that is a folder"):
        guard(config(tmp_path, ("hashes", "md5", b""), warehouse=warehouse))
    assert guard(config(tmp_path, warehouse=warehouse)).lists == ()
