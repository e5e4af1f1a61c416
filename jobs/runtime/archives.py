"""Archives of models, unpacked without trust: regular files inside one folder, bounded."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

from jobs.runtime.errors import ModelProblem

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_BYTES: Final = 16 * 2**30  # chosen: eight times the largest CLIP side that one ONNX can hold
MAX_MEMBERS: Final = 1000  # chosen: an export with every variant has about forty files
_CHUNK_BYTES: Final = 2**20


class _Member(NamedTuple):
    name: str
    is_plain: bool
    is_folder: bool
    stream: IO[bytes] | None


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, into: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write an archive's files into an empty folder.

    Args:
        path: a zip or a tar, compressed or not.
        into: where to write.
        max_bytes: the most that all members may take unpacked.

    Returns:
        The folder that holds the model: ``into``, or the one folder in it.

    Raises:
        ModelProblem: no such archive, or a member that is a link, a device, outside the folder,
            named twice, or too many or too large.
    """
    left = max_bytes
    try:
        for count, member in enumerate(_members(path), start=1):
            if count > MAX_MEMBERS:
                raise ModelProblem(
                    f"{path} got more than {MAX_MEMBERS} members; allowed {MAX_MEMBERS}; "
                    "pack the model's own files alone"
                )
            target = _target(path, member, into)
            if member.is_folder or member.stream is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            left -= _write(path, member.stream, target, left=left, max_bytes=max_bytes)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,  # a zip with a password
        NotImplementedError,  # a zip with a compression that is not read
    ) as error:
        raise ModelProblem(
            f"{path} got bytes that are no whole archive: {error}; pack the model again"
        ) from error
    inside = [entry for entry in into.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else into


def _members(path: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                kind = info.external_attr >> 16 & 0o170000  # Unix's file type, 0 from elsewhere
                is_plain = kind in (0, 0o100000, 0o040000)
                if info.is_dir() or not is_plain:
                    yield _Member(info.filename, is_plain, info.is_dir(), None)
                    continue
                with archive.open(info) as stream:
                    yield _Member(info.filename, True, False, stream)
        return
    with tarfile.open(path) as tar:
        for entry in tar:
            is_plain = entry.isreg() or entry.isdir()
            content = tar.extractfile(entry) if entry.isreg() else None
            yield _Member(entry.name, is_plain, entry.isdir(), content)


def _target(path: Path, member: _Member, into: Path) -> Path:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if not member.is_plain:
        raise ModelProblem(
            f"{path} got {member.name}, a link or a device; allowed files and folders; "
            "pack the files themselves"
        )
    has_drive = ":" in name.parts[0] if name.parts else False
    if name.is_absolute() or ".." in name.parts or has_drive or "\0" in member.name:
        raise ModelProblem(
            f"{path} got {member.name}, a path outside its folder; allowed relative ones; "
            "do not use this archive"
        )
    target = into.joinpath(*name.parts)
    if target.exists() and not member.is_folder:
        raise ModelProblem(f"{path} got {member.name} twice; allowed once; pack the model again")
    return target


def _write(path: Path, stream: IO[bytes], target: Path, *, left: int, max_bytes: int) -> int:
    """Copy a member, counting what comes out: headers may lie."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as file:
        for chunk in _chunks(stream):
            written += len(chunk)
            if written > left:
                raise ModelProblem(
                    f"{path} unpacks to more than allowed; allowed {max_bytes} bytes; "
                    "pack the model's own files alone"
                )
            file.write(chunk)
    return written


def _chunks(stream: IO[bytes]) -> Iterable[bytes]:
    return iter(lambda: stream.read(_CHUNK_BYTES), b"")
