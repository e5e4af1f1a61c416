"""The file that a clip is written to: without a name, without tags, the same for the same clip."""

import contextlib
import os
import tempfile
from typing import IO, Any, BinaryIO, Final

import av

_MUXERS: Final = {"mp4": "mp4", "mkv": "matroska"}  # by extension
# bitexact: no version of the writer, no random identity of the file (ffmpeg-formats, "fflags").
# faststart: the index comes first, so that a clip plays before all of it is there.
_OPTIONS: Final = {"fflags": "+bitexact"}
_OF_MP4: Final = {"movflags": "+faststart"}


class ClipFile:
    """A file that FFmpeg writes a clip to; a process that is killed leaves nothing behind.

    Attributes:
        output: the container to write to.
        extension: "mp4" or "mkv".
    """

    def __init__(self, extension: str) -> None:
        """Begin a file."""
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who has it
        self.extension = extension
        self.output = av.open(
            self._file,
            "w",
            format=_MUXERS[extension],
            container_options=_OPTIONS | (_OF_MP4 if extension == "mp4" else {}),
            io_open=self._again,
        )

    def finished(self) -> BinaryIO:
        """The whole file, at its begin; the caller closes it."""
        self.output.close()
        self._file.seek(0)  # flushes too
        return self._file  # type: ignore[return-value] # typeshed: IO[bytes]

    def dropped(self) -> None:
        """Give the file up."""
        with self._file, contextlib.suppress(Exception):  # of what is of no more use
            self.output.close()

    def _again(self, _url: str, _flags: int, _options: dict[str, Any]) -> "_Reader":
        """The file itself, which FFmpeg reads once more to bring the index to its begin."""
        self._file.flush()
        return _Reader(self._file.fileno())


class _Reader:
    """Reads a file from its begin without moving the place at which it is written."""

    def __init__(self, number: int) -> None:
        self._number, self._at = number, 0

    def read(self, size: int) -> bytes:
        content = os.pread(self._number, size, self._at)
        self._at += len(content)
        return content

    def close(self) -> None:
        """The file stays open for its writer."""
