import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.retry import Chosen, _readings
from jobs.runtime.errors import ConfigError
from jobs.sources.formats import by_suffix
from jobs.sources.place import walk

# As Spark gives it: local time without a zone.
THEN = datetime(2024, 5, 6, 7, 8, 9, 123456)


def row(root: Path, shard: str) -> SimpleNamespace:
    return SimpleNamespace(
        dump="d",
        shard=shard,
        revision=3,
        root=str(root),
        format="table",
        options={"url": "u"},
        size_bytes=1,
        modified_at=THEN,
    )


def test_a_shard_is_read_again_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"now")
    (now,) = walk(str(tmp_path), by_suffix(".csv"))
    (reading,) = _readings(iter([row(tmp_path, "a.csv")]), {})

    assert reading == {
        "dump": "d",
        "shard": "a.csv",
        "revision": 4,
        "cause": "retry",
        "root": str(tmp_path),
        "format": "table",
        "options": {"url": "u"},
        "size_bytes": 3,
        "modified_at": now.modified_at,
    }


def test_a_shard_is_read_where_the_dump_is_configured_now(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.csv").write_bytes(b"moved")
    moved = {"d": (str(tmp_path / "new"), {"url": "link"})}
    (reading,) = _readings(iter([row(tmp_path / "old", "a.csv")]), moved)

    assert (reading["root"], reading["options"], reading["size_bytes"]) == (*moved["d"], 5)


@pytest.mark.parametrize("shard", ["gone.csv", "folder"])
def test_of_what_is_no_file_the_manifest_says_what_it_said(tmp_path: Path, shard: str) -> None:
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (1, 1))
    (reading,) = _readings(iter([row(tmp_path, shard)]), {})

    assert (reading["size_bytes"], reading["modified_at"]) == (1, THEN.astimezone(UTC))


def test_a_class_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--class got typo; allowed .*truncated_shard"):
        Chosen(error_class="typo").of(None)  # type: ignore[arg-type]
