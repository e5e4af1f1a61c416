from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.runtime.worker_files import WorkerFile, answer, answers

SCHEMA = answers(pa.schema([("a", pa.int64())]))


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    file = WorkerFile(str(tmp_path), compression="none")
    file.write({"node": [5, 3], "value": [b"x", None]}, row_group_rows=10)
    file.write({"node": [9], "value": [b"y"]}, row_group_rows=10)
    (said,) = file.closed(SCHEMA)

    (row,) = said.to_pylist()
    assert row == {"a": None, "file": row["file"], "rows": 3, "low": 3, "high": 9}
    (written,) = tmp_path.iterdir()
    assert written.name == row["file"]
    assert pq.read_table(written).to_pydict() == {"node": [5, 3, 9], "value": [b"x", None, b"y"]}


def test_no_row_makes_no_file(tmp_path: Path) -> None:
    assert list(WorkerFile(str(tmp_path)).closed(SCHEMA)) == []
    assert list(tmp_path.iterdir()) == []


def test_two_tries_write_two_files(tmp_path: Path) -> None:
    for _ in range(2):
        file = WorkerFile(str(tmp_path))
        file.write({"node": [1]}, row_group_rows=1)
        assert len(list(file.closed(SCHEMA))) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_columns_that_an_answer_lacks_are_null() -> None:
    rows = answer({"a": [1, 2]}, SCHEMA)

    assert rows.schema == SCHEMA
    assert rows["file"].null_count == rows["high"].null_count == 2
