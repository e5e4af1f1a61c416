import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import caption_file
from jobs.caption_file import CaptionFile
from jobs.captions import Given, Unreadable
from jobs.runtime.errors import ConfigError


def lines(path, *rows):
    path.write_bytes(
        b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    )
    return CaptionFile(path)


def test_json_lines_give_captions_in_order(tmp_path) -> None:
    file = lines(
        tmp_path / "a.jsonl",
        {"clip_id": "1", "text": "ein Hund", "language": "de", "model": "x"},
        b"",
        {"clip_id": "2", "text": " "},
        {"clip_id": "3", "text": None, "language": ""},
    )
    content = (tmp_path / "a.jsonl").read_bytes()

    assert list(file.captions()) == [
        Given("1", "ein Hund", "de"),
        Given("2", " "),
        Given("3", ""),
    ]
    assert list(file.captions()) == list(file.captions())
    assert file.provenance == f"a.jsonl sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_bad_row_costs_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(caption_file, "_MOST_ROW_BYTES", 200)
    file = lines(
        tmp_path / "a.ndjson",
        b"{",
        b"[" * 150,
        [1],
        {"text": "x"},
        {"clip_id": 7, "text": "x"},
        {"clip_id": "1", "text": 7},
        {"clip_id": "1", "text": "x", "language": ["en"]},
        {"clip_id": "1", "text": "x", "language": "e" * 36},
        {"clip_id": "1", "text": "\ud800"},
        {"clip_id": "1", "text": "x" * 900},
        {"clip_id": "1", "text": "good"},
    )
    rows = list(file.captions())

    assert rows[-1] == Given("1", "good")
    assert all(isinstance(row, Unreadable) for row in rows[:-1])
    assert [row.place for row in rows[:-1]] == [f"row {n}" for n in range(1, 11)]
    assert rows[9].why == "longer than 200 bytes"


def test_parquet_gives_the_same(tmp_path) -> None:
    table = pa.table({"text": ["ein Hund", None], "more": [1, 2], "clip_id": ["1", "2"]})
    pq.write_table(table, tmp_path / "a.parquet")

    assert list(CaptionFile(tmp_path / "a.parquet").captions()) == [
        Given("1", "ein Hund"),
        Given("2", ""),
    ]


def test_a_file_that_is_none_is_refused(tmp_path) -> None:
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "c.csv").write_text("clip_id,text")
    with pytest.raises(ConfigError, match="no column clip_id, text"):
        list(CaptionFile(tmp_path / "a.parquet").captions())
    with pytest.raises(ConfigError, match="cannot be read"):
        list(CaptionFile(tmp_path / "b.parquet").captions())
    for name in ("c.csv", "missing.jsonl"):
        with pytest.raises(ConfigError, match=r"allowed a file in \.jsonl"):
            CaptionFile(tmp_path / name)
