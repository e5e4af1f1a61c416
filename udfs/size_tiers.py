"""Which of a table's files are to be merged: by tiers of size, as log-structured stores do.

Where eight files are of about one size they become one, which is of the next. So files stay few,
and each byte is written again once a tier at most, however small the appends are. Source: O'Neil,
Cheng, Gawlick and O'Neil, "The log-structured merge-tree", Acta Informatica 33, 1996; that files
of a size are merged, and not a level into the next, is how Cassandra's SizeTieredCompactionStrategy
does it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

# Files that make one of the next tier. Chosen: of each tier up to seven stand beside one another,
# a few milliseconds to open each, and a byte is written again four times until it lies for good.
FAN: Final = 8
# Bytes that are merged into one file. Chosen: what a task of a scan reads at a time
# (`session.SPLIT_BYTES`), and what a worker holds to sort it.
LARGEST: Final = 64 * 1024 * 1024
# A file of this size stays: eight that are smaller make LARGEST at most.
FULL: Final = LARGEST // FAN
# Below, all files are of one tier. Chosen: to open a file costs more than to read 16 kB of it, so
# that their sizes say nothing.
SMALLEST: Final = FULL // FAN**3
_TIERS: Final = ((0, SMALLEST), *((FULL // FAN**n, FULL // FAN ** (n - 1)) for n in (3, 2, 1)))
# Positions of files that are one, or are to be one, and their size.
_File = tuple[list[int], int]


def merged(sizes: Sequence[int]) -> list[list[int]]:
    """The files to be merged, a list for each file that is to come of them.

    Once they are, nothing is left to merge if sizes add up: what was merged is merged further
    before it is written.

    Args:
        sizes: of the files, in bytes, those next to each other that belong together best.

    Returns:
        positions in `sizes`, ascending, none twice; of a list at least FAN, of LARGEST bytes
        at most.

    >>> merged([100] * 7), merged([100] * 9)
    ([], [[0, 1, 2, 3, 4, 5, 6, 7, 8]])
    >>> merged([FULL] * 9 + [100] * 8)
    [[9, 10, 11, 12, 13, 14, 15, 16]]
    """
    files: list[_File] = [([at], size) for at, size in enumerate(sizes)]
    for least, limit in _TIERS:
        rest = [file for file in files if not least <= file[1] < limit]
        of_tier = [file for file in files if least <= file[1] < limit]
        files = sorted((*rest, *_joined(of_tier)))
    return [positions for positions, _ in files if len(positions) > 1]


def _joined(files: Sequence[_File]) -> Iterator[_File]:
    """The files of a tier, as few as may be."""
    group: list[_File] = []
    total = 0
    for file in files:
        if total + file[1] > LARGEST:
            yield _one(group, total)
            group, total = [], 0
        group.append(file)
        total += file[1]
    if len(group) < FAN:
        yield from group
    else:
        yield _one(group, total)


def _one(group: Sequence[_File], total: int) -> _File:
    return sorted(at for positions, _ in group for at in positions), total
