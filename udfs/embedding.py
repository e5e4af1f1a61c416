"""Embeddings as bytes: little-endian float16, unit length."""

from collections.abc import Sequence

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1.

    Args:
        vectors: (n, d) float.

    Returns:
        (n, d) float32.

    Raises:
        ValueError: a row is not finite or all zeros.

    >>> unit(np.array([[0.0, 4.0]])).tolist()
    [[0.0, 1.0]]
    """
    vectors = vectors.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = int(np.count_nonzero(~np.isfinite(norms) | (norms == 0)))
    if bad:
        raise ValueError(f"{bad} of {len(vectors)} embeddings have no direction; drop those rows")
    scaled: np.ndarray = vectors / norms
    return scaled


def pack(vectors: np.ndarray) -> list[bytes]:
    r"""Rows as bytes.

    Args:
        vectors: (n, d) float32 of unit length.

    Returns:
        n times 2 d bytes, little-endian float16.

    >>> pack(np.array([[1.0, 0.0]], dtype=np.float32))
    [b'\x00<\x00\x00']
    """
    return [row.tobytes() for row in vectors.astype("<f2")]


def unpack(packed: Sequence[bytes]) -> np.ndarray:
    r"""Rows from bytes, scaled to unit length again: float16 rounds each component.

    Returns:
        (n, d) float32 of unit length; (0, 0) for no rows.

    Raises:
        ValueError: lengths differ, or a row has no direction.

    >>> unpack([b"\x00<\x00\x00"]).tolist()
    [[1.0, 0.0]]
    """
    lengths = {len(row) for row in packed}
    if len(lengths) > 1:
        raise ValueError(f"embeddings of {sorted(lengths)} bytes differ; compare one model's")
    dimension = lengths.pop() // 2 if lengths else 0
    return unit(np.frombuffer(b"".join(packed), dtype="<f2").reshape(len(packed), dimension))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row-wise cosine of unit vectors.

    Args:
        a: (n, d) float32 of unit length.
        b: (n, d) float32 of unit length.

    Returns:
        (n,) float32 in [-1, 1].

    Raises:
        ValueError: the shapes differ.

    >>> cosine(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).tolist()
    [0.0]
    """
    if a.shape != b.shape:
        raise ValueError(f"embeddings of shape {a.shape} differ from {b.shape}; use one model's")
    scores: np.ndarray = np.clip(np.einsum("nd,nd->n", a, b), -1, 1)
    return scores.astype(np.float32)
