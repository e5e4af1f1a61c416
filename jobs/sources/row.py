"""What the readers of tables hand on: a row, or one that cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.sources.columns import Roles


@dataclass(frozen=True)
class Row:
    """A row as its file has it.

    Attributes:
        number: of the file's rows, from 0.
        roles: which columns hold what.
        values: by column: texts; `bytes` for a text that is not UTF-8 and for an image; a
            dict of `bytes` and `path` for an image as Hugging Face `datasets` write it; nested
            values and numbers as JSON has them; null where there is nothing.
    """

    number: int
    roles: Roles
    values: Mapping[str, object]


@dataclass(frozen=True)
class Damage:
    """What cannot be read.

    Attributes:
        error_class: one of `schemas.error_classes`.
        detail: what is wrong.
    """

    error_class: str
    detail: str


def as_read(value: object) -> object:
    r"""A text that was decoded with `surrogateescape`; its bytes, where they are not UTF-8.

    >>> as_read("caf\udce9"), as_read("café")
    (b'caf\xe9', 'café')
    """
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        return decoded(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half of a pair, as JSON may escape it
        return value


def decoded(content: bytes) -> str | bytes:
    r"""The text, or the bytes as they are where they are not UTF-8.

    >>> decoded(b"caf\xc3\xa9"), decoded(b"caf\xe9")
    ('café', b'caf\xe9')
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content
