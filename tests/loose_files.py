"""Dumps of loose files for tests, and JSON values as nobody should write them."""

import io
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.sources.entry import Limits

LIMITS = Limits(
    max_member_bytes=1_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)
# Each example writes over the files of the one before.
SAME_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([7, 8, "000000000007.png", "../x", "http://x/y", "\ud800", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "caption", "image_id", "file_name", "x"]), inner)
    ),
    max_leaves=6,
)


def picture(seed: int = 0) -> bytes:
    """A PNG of 6 x 4 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, by their paths in a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
