"""Hashes of clips as they lie in a column: a list of runs for each clip."""

import numpy as np
import pyarrow as pa

from udfs.clip_hashes import ClipHashes


def clips_of(column: pa.ListArray) -> list[ClipHashes]:
    """The hashes of each clip of a column.

    Args:
        column: lists of structs of `phash` int64, `information` and `frames` int32, none of them
            null. A list that is null or empty is a clip without a frame, which says nothing.

    >>> runs = pa.array([[{"phash": 5, "information": 64, "frames": 3}], None])
    >>> [clip.frames.tolist() for clip in clips_of(runs)]
    [[3], []]
    """
    lengths = np.asarray(column.value_lengths().fill_null(0))
    ends = np.cumsum(lengths)
    runs = column.flatten()  # without what null lists may hide
    hashes, information, frames = (
        runs.field(name).to_numpy() for name in ("phash", "information", "frames")
    )
    return [
        ClipHashes(
            hashes[start:end].astype(np.int64),
            information[start:end].astype(np.uint8),
            frames[start:end].astype(np.int32),
        )
        for start, end in zip(ends - lengths, ends, strict=True)
    ]
