"""Rows of the manifest, as a worker of ingest gets them."""

from pathlib import Path

from jobs.sources.place import File


def shard(found: File, root: Path, **changes: object) -> dict[str, object]:
    """A shard that is read for the first time, from its first item on."""
    return {
        "dump": "d",
        "shard": found.path,
        "revision": 0,
        "cause": "new",
        "root": str(root),
        "format": "webdataset",
        "options": [],
        "size_bytes": found.size_bytes,
        "modified_at": found.modified_at,
        "first_position": 0,
        "shard_ordinal": 0,
        **changes,
    }
