"""A video where it lies: opened, looked at once, and verified; this runs in a child process."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar, cast

from jobs.sources.entry import EntryRefused
from jobs.sources.place import Place
from udfs.clips import ClipPass, Found
from udfs.refused import Refused
from udfs.verified_stream import VerifiedStream

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Look(Generic[Seen]):
    """From where a video lies to what one pass over it finds; needs no Spark.

    Networks that ``measure`` asks for are small ones, and are opened by the child itself.

    Attributes:
        measure: takes the stream and the row that names it.
    """

    measure: Callable[[BinaryIO, Mapping[str, Any]], Seen]

    def __call__(self, content: bytes) -> Seen:
        """What is found of a video.

        The stream is hashed as it is read. Whatever came of bytes that are not the video's, or
        are there no more, is told as that alone.

        Args:
            content: the video's row as JSON: `media_sha256`, `size_bytes`, `root`, `path`,
                `offset_bytes`, and what `measure` asks for.

        Raises:
            Refused: as `media_gone`, or as the video itself is.
        """
        video = json.loads(content)
        gone = Refused("media_gone", "its dump no longer holds these bytes")
        try:
            file = Place(video["root"], video["path"]).open()
        except (OSError, EntryRefused, TypeError):  # no place at all: the bytes are elsewhere
            raise gone from None
        with file:
            stream = VerifiedStream(
                file, offset_bytes=video["offset_bytes"], size_bytes=video["size_bytes"]
            )
            failure: Exception | None = None
            try:
                found = self.measure(cast(BinaryIO, stream), video)
            except Exception as error:  # whatever the bytes do to a decoder
                failure = error
            try:
                is_same = stream.matches(video["media_sha256"])
            except Exception:  # what the file raised meanwhile
                is_same = False
        if not is_same:
            raise gone
        if failure is not None:
            raise failure
        return found


def clip_look(passing: ClipPass) -> Look[Found]:
    """A look at clips, made on the worker: its models are found there, or the task fails.

    A child could only tell that it has none, as if that were the video's fault.

    Raises:
        ModelMismatch: a model is not the file that its card describes.
    """
    return Look(passing.here())
