"""The entries of a shard in the order met, numbered; whatever ends it early is the last one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from jobs.sources.entry import Entry, EntryRefused

UNNUMBERED: Final = -1  # the position of an entry that `numbered` has not seen yet


def numbered(found: Iterable[Entry]) -> Iterator[Entry]:
    """Entries with dense positions from 0; nothing is raised.

    Args:
        found: entries of any position. What it raises is the last entry: of its own class, or
            `unreadable_shard` at the start and `truncated_shard` later.
    """
    position = 0
    try:
        for entry in found:
            yield replace(entry, position=position)
            position += 1
    except EntryRefused as refusal:
        yield refused(refusal, position=position)
    except (OSError, ValueError) as error:  # their words would name the machine's folders
        error_class = "truncated_shard" if position else "unreadable_shard"
        detail = f"cannot be read: {type(error).__name__}"
        yield refused(EntryRefused(error_class, detail), position=position)


def refused(
    refusal: EntryRefused,
    *,
    sample_key: str | None = None,
    occurrence: int = 0,
    member: str | None = None,
    position: int = UNNUMBERED,
) -> Entry:
    """The entry of an item that cannot be taken."""
    return Entry(
        position=position,
        sample_key=sample_key,
        occurrence=occurrence,
        member=member,
        error_class=refusal.error_class,
        detail=refusal.detail,
    )
