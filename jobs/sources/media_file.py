"""A file of the dump that an item names: read within limits, and never from outside the dump."""

from jobs.sources.entry import EntryRefused, Limits, Video
from jobs.sources.place import File, Place
from jobs.sources.video_file import VIDEO_KINDS, registered


def find(place: Place, path: str) -> File | None:
    """What the filesystem says of a file; null where there is none.

    Args:
        place: where the dump lies.
        path: relative to the dump's root; not trusted.

    Raises:
        EntryRefused: the path leads out of the dump, or cannot be looked up.
    """
    try:
        return place.info(path)
    except EntryRefused:
        raise
    except ValueError as error:  # no name that the filesystem takes
        raise EntryRefused("missing_image", f"no file's name: {type(error).__name__}") from None
    except OSError as error:
        raise _unreadable(error) from None


def read(place: Place, file: File, limits: Limits) -> bytes:
    """The bytes of a file that was found or listed.

    Raises:
        EntryRefused: it leads out of the dump, is gone, too long, or not to be read.
    """
    if file.size_bytes > limits.max_member_bytes:
        raise too_large(file.size_bytes, limits)
    try:
        with place.open(file.path) as stream:
            content = stream.read(limits.max_member_bytes + 1)
    except OSError as error:
        raise _unreadable(error) from None
    if len(content) > limits.max_member_bytes:  # it has grown since
        raise too_large(len(content), limits)
    return content


def taken(place: Place, file: File, kind: str, limits: Limits) -> bytes | Video:
    """The bytes of a file; of a video, what is known of it.

    Raises:
        EntryRefused: as `read`; or the video is none, damaged or too large.
    """
    if kind not in VIDEO_KINDS:
        return read(place, file, limits)
    try:
        with place.open(file.path) as stream:
            return registered(stream, file.size_bytes, limits)
    except OSError as error:
        raise _unreadable(error) from None


def missing() -> EntryRefused:
    """Why an item whose image is not there is refused."""
    return EntryRefused("missing_image", "no such file in the dump")


def too_large(size_bytes: int, limits: Limits) -> EntryRefused:
    """Why media over the limit is refused."""
    return EntryRefused(
        "member_too_large",
        f"{size_bytes} bytes, limit {limits.max_member_bytes}; "
        "raise ingest.max_member_bytes to take it",
    )


def _unreadable(error: OSError) -> EntryRefused:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing()
    # Its own words would name the machine's folders.
    return EntryRefused("damaged_record", f"the file cannot be read: {type(error).__name__}")
