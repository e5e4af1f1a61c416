"""The small JSON files of an export, bounded."""

import json
from pathlib import Path
from typing import Any, Final

from jobs.runtime.errors import ModelProblem

_MAX_BYTES: Final = 64 * 2**20  # chosen: the largest vocabularies take a quarter of it


def json_object(path: Path, *, is_optional: bool = False) -> dict[str, Any]:
    """What a JSON file holds; nothing where an optional one is missing.

    Raises:
        ModelProblem: no file, too large, no JSON or no object.
    """
    if is_optional and not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelProblem(
                f"{path} got {path.stat().st_size} bytes; allowed {_MAX_BYTES}; "
                "restore the exporter's file"
            )
        parsed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelProblem(f"{path} got no JSON: {error}; restore the exporter's file") from error
    if not isinstance(parsed, dict):
        raise ModelProblem(f"{path} got no JSON object; restore the exporter's file")
    return parsed
