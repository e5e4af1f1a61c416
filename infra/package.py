"""Build ``dist/sluice-<version>.zip``: what ``spark-submit --py-files`` ships to a cluster.

A zip of the three packages and never a wheel: executors put only .zip, .egg and .jar on the path.
Equal sources give equal bytes.
"""

import tomllib
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("jobs", "schemas", "udfs")
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def build(folder: Path) -> Path:
    """Write the zip into ``folder``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    target = folder / f"{project['name']}-{project['version']}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(
        file
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(ROOT).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return target


if __name__ == "__main__":
    print(build(ROOT / "dist").relative_to(ROOT))
