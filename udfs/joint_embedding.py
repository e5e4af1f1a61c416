"""One vector for an image with its text, and which of some vectors it is nearest to."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from udfs.embedding import unit

# Most cosines held at once. Chosen: 64 MB of float32, which any worker has.
BLOCK: Final = 1 << 24


def joined(image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Image and text side by side, each with half the say.

    The cosine of two such vectors is the mean of the cosines of the images and of the texts: a
    pair is near another only if both halves are.

    Args:
        image: (n, d) float, any length but 0.
        text: (n, e) float, any length but 0.

    Returns:
        (n, d + e) float32 of unit length.

    Raises:
        ValueError: the numbers of rows differ, or a row has no direction.

    >>> pairs = joined(np.eye(2), np.ones((2, 1)))
    >>> float((pairs @ pairs.T)[0, 1].round(6))
    0.5
    """
    if len(image) != len(text):
        raise ValueError(f"{len(image)} images got {len(text)} texts; allowed one each; pair them")
    both: np.ndarray = np.hstack([unit(image), unit(text)]) / np.sqrt(np.float32(2))
    return both


def read(packed: Sequence[bytes | None], *, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Embeddings from bytes, where a bad one costs its own row alone.

    Args:
        packed: little-endian float16, as `udfs.embedding.pack` gives them.
        dimension: components that each must have.

    Returns:
        (n, dimension) float32 of unit length, zeros where a row cannot be used, and (n,) bool:
        it can. It cannot if it is null, of another length, not finite or all zeros.

    >>> read([b"\x00<\x00\x00", None, b"\x00\x7e\x00\x00"], dimension=2)[1].tolist()
    [True, False, False]
    """
    size = 2 * dimension
    blank = bytes(size)
    whole = b"".join(row if row is not None and len(row) == size else blank for row in packed)
    vectors = np.frombuffer(whole, "<f2").reshape(len(packed), dimension).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    is_usable = np.isfinite(norms) & (norms > 0)
    vectors[~is_usable] = 0
    vectors[is_usable] /= norms[is_usable, None]
    return vectors, is_usable


def read_pairs(
    image: Sequence[bytes | None],
    text: Sequence[bytes | None],
    *,
    image_dimension: int,
    text_dimension: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Joined embeddings from bytes; a pair is usable if both halves are.

    Returns:
        (n, image_dimension + text_dimension) float32 and (n,) bool, as `read` gives them.
    """
    images, is_image = read(image, dimension=image_dimension)
    texts, is_text = read(text, dimension=text_dimension)
    is_usable = is_image & is_text
    features = np.zeros((len(image), image_dimension + text_dimension), np.float32)
    features[is_usable] = joined(images[is_usable], texts[is_usable])
    return features, is_usable


def nearest(features: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some centres the one that each row is nearest to.

    Args:
        features: (n, d) float32 of unit length.
        centres: (k, d) float32 of unit length, at least one.

    Returns:
        (n,) int64 index into `centres`, the least of equally near ones, and (n,) float32 cosine in
        [-1, 1]. The cosine is summed row by row, so that it does not depend on which rows it is
        computed with.

    Raises:
        ValueError: there is no centre.

    >>> nearest(np.eye(2, dtype=np.float32), np.array([[0.0, 1.0]], dtype=np.float32))[1].tolist()
    [0.0, 1.0]
    """
    if not len(centres):
        raise ValueError("nearest got 0 centres; allowed 1 or more; train some first")
    index = np.zeros(len(features), np.int64)
    step = max(1, BLOCK // len(centres))
    for start in range(0, len(features), step):
        index[start : start + step] = (features[start : start + step] @ centres.T).argmax(axis=1)
    return index, paired_cosine(features, centres, index)


def paired_cosine(features: np.ndarray, centres: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Cosine of each row with the centre of its index, (n,) float32; bounded in memory."""
    cosine = np.zeros(len(features), np.float32)
    step = max(1, BLOCK // max(1, 2 * features.shape[1]))
    for start in range(0, len(features), step):
        part = slice(start, start + step)
        cosine[part] = np.einsum(
            "nd,nd->n", features[part], centres[index[part]], dtype=np.float64
        ).clip(-1, 1)
    return cosine
