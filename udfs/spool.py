"""Arrays of one shape, kept on disk until they are asked for: memory does not grow with a video."""

import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np


class Spool:
    """A list of arrays of one shape and type in a file.

    The file has no name, so that a process that is killed leaves nothing behind; unless another
    process is to read it.

    >>> with Spool() as spool:
    ...     spool.extend(np.arange(6).reshape(3, 2))
    ...     spool[1:].tolist(), len(spool)
    ([[2, 3], [4, 5]], 3)
    """

    def __init__(self, path: str | None = None) -> None:
        """An empty list.

        Args:
            path: of the file, made anew; null: one without a name.
        """
        # Closed with the spool.
        self._file: BinaryIO = open(path, "w+b") if path else tempfile.TemporaryFile()  # noqa: SIM115
        self._shape: tuple[int, ...] | None = None
        self._type = np.dtype(np.uint8)
        self._count = 0

    def __enter__(self) -> Self:
        """The spool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; what it held is gone, if it has no name."""
        self._file.close()

    def __len__(self) -> int:
        """How many arrays there are."""
        return self._count

    def extend(self, arrays: np.ndarray | Sequence[np.ndarray]) -> None:
        """Add arrays.

        Args:
            arrays: (n, ...) of the shape and type of those before.

        Raises:
            ValueError: they have another.
        """
        block = np.ascontiguousarray(arrays)
        if self._shape is None:
            self._shape, self._type = block.shape[1:], block.dtype
        if (block.shape[1:], block.dtype) != (self._shape, self._type):
            raise ValueError(
                f"arrays got {block.dtype} of shape {block.shape[1:]}; allowed {self._type} of"
                f" shape {self._shape}, as those before; a spool holds one kind"
            )
        self._file.seek(0, 2)
        self._file.write(block.tobytes())
        self._count += len(block)

    def __getitem__(self, place: slice) -> np.ndarray:
        """A run of the arrays, read from the file.

        Args:
            place: without a step.

        Returns:
            (n, ...) of their shape and type, not to be written to.
        """
        start, stop, _ = place.indices(self._count)
        shape = (max(0, stop - start), *(self._shape or ()))
        one_bytes = int(np.prod(shape[1:])) * self._type.itemsize
        self._file.seek(start * one_bytes)
        content = self._file.read(shape[0] * one_bytes)
        return np.frombuffer(content, self._type).reshape(shape)
