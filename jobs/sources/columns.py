"""Which column of a table holds what: as the configuration says, or by the names dumps use."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.sources.entry import EntryRefused
from jobs.sources.texts import printable

ROLES: Final = ("url", "caption", "key", "image")
# Names that dumps give to the columns of each role; of several that are there, the first counts.
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "url": (
        "url",  # DataComp, COYO-700M, Conceptual Captions, cc2dataset, img2dataset
        "URL",  # LAION-400M, LAION-5B
    ),
    "caption": (
        "caption",  # Conceptual Captions, img2dataset
        "TEXT",  # LAION-400M, LAION-5B
        "text",  # DataComp, COYO-700M
        "alt",  # cc2dataset
        "txt",  # a WebDataset that `datasets` rewrote as Parquet
    ),
    "key": (
        "key",  # img2dataset
        "uid",  # DataComp, cc2dataset
        "__key__",  # a WebDataset that `datasets` rewrote as Parquet
    ),
    "image": (
        *("jpg", "png", "webp"),  # img2dataset: by its encode_format
        "image",  # Hugging Face `datasets`
    ),
}
_NAMED: Final = 30  # chosen: columns that a detail names


@dataclass(frozen=True)
class Roles:
    """The names of the columns that hold what; null for what no column holds."""

    url: str | None = None
    caption: str | None = None
    key: str | None = None
    image: str | None = None

    @property
    def can_deliver(self) -> bool:
        """Whether a row may hold an image, or say where one is."""
        return self.url is not None or self.image is not None


def roles(names: Sequence[str], options: Mapping[str, str], images: Collection[str] = ()) -> Roles:
    """What the columns of a table hold.

    Args:
        names: of all columns.
        options: role -> name of its column; a role that is not there is found by known names,
            of which one that is written alike goes before one in another case.
        images: names of the columns that can hold the bytes of images.

    >>> roles(["Url", "TEXT", "similarity"], {})
    Roles(url='Url', caption='TEXT', key=None, image=None)
    """

    def found(role: str) -> str | None:
        allowed = [name for name in names if role != "image" or name in images]
        wanted = (options[role],) if role in options else _KNOWN[role]
        exact = next((name for name in wanted if name in allowed), None)
        if exact is not None or role in options:
            return exact
        folded = [name.casefold() for name in wanted]
        alike = (name for known in folded for name in allowed if name.casefold() == known)
        return next(alike, None)

    return Roles(**{role: found(role) for role in ROLES})


def refuse_useless(names: Sequence[str], found: Roles, options: Mapping[str, str]) -> None:
    """Refuse a table of which nothing can be taken as it is configured.

    Raises:
        EntryRefused: no column holds a url or an image, or a configured one is not there.
    """
    seen = printable(", ".join(names[:_NAMED])) or "none"
    for role in ROLES:
        if role in options and getattr(found, role) is None:
            raise EntryRefused(
                "unreadable_shard",
                f"no column {printable(options[role])} for option {role}; columns: {seen}",
            )
    if not found.can_deliver:
        raise EntryRefused(
            "unreadable_shard",
            f"no column for a url or an image; set options.url to one of the columns: {seen}",
        )


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number behind those that came before.

    >>> distinct(["url", "tag", "tag"])
    ['url', 'tag', 'tag.2']
    """
    given: dict[str, None] = {}
    numbers: dict[str, Iterator[int]] = {}  # each goes on where it was: no header costs its square
    for name in names:
        fresh = name
        while fresh in given:
            again = numbers.setdefault(name, itertools.count(2))
            fresh = f"{name}.{next(again)}"
        given[fresh] = None
    return list(given)
