import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_type

from schemas import clips
from udfs.clip_hashes import keys
from udfs.clip_match import similarity
from udfs.clip_runs import clips_of

TYPE = to_arrow_type(clips.SCHEMA["phash_runs"].dataType)
RUNS = [
    [
        {"phash": -5, "information": 64, "frames": 3},
        {"phash": 2**63 - 1, "information": 31, "frames": 1},
    ],
    None,
    [],
    [{"phash": -5, "information": 64, "frames": 3}],
]


def test_a_column_as_the_table_has_it() -> None:
    for column in (pa.array(RUNS, TYPE), pa.array([RUNS[3], *RUNS], TYPE)[1:]):
        found = clips_of(column)

        assert [clip.hashes.tolist() for clip in found] == [[-5, 2**63 - 1], [], [], [-5]]
        assert found[0].information.tolist() == [64, 31]
        assert found[0].frames.tolist() == [3, 1]
        assert keys(found[0]).tolist() == [-5]


def test_lists_that_hide_something_are_as_good_as_none() -> None:
    shown = pa.array([RUNS[0], RUNS[0], RUNS[3]], TYPE)
    hidden = pa.ListArray.from_arrays(
        shown.offsets, shown.values, mask=pa.array([False, True, False])
    )

    assert [clip.frames.tolist() for clip in clips_of(hidden)] == [[3, 1], [], [3]]


def test_a_clip_without_a_frame_is_like_no_other() -> None:
    whole, nothing, empty, _ = clips_of(pa.array(RUNS, TYPE))

    assert len(keys(nothing)) == 0
    assert similarity(nothing, empty) == similarity(nothing, whole) == 0
