import io
import pickle

import numpy as np
from PIL import Image, ImageEnhance

from udfs.image_codec import decode
from udfs.mirrored_phash import MirroredPHash, mirrored_phash
from udfs.phash import hamming, phash


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def views(photographs: list[Image.Image]) -> list[Image.Image]:
    """Crops of all sizes, odd ones too."""
    rng = np.random.default_rng(0)
    found = []
    for image in photographs:
        for _ in range(40):
            width, height = (int(side * rng.uniform(0.3, 1)) for side in image.size)
            left, top = (
                int(rng.integers(image.width - width)),
                int(rng.integers(image.height - height)),
            )
            found.append(image.crop((left, top, left + width, top + height)))
    return found


def test_it_is_the_hash_of_the_mirror_image(photographs) -> None:
    pictures = views(photographs)
    ours = np.array([mirrored_phash(image) for image in pictures])
    truth = np.array([phash(mirrored(image)) for image in pictures])
    assert (ours == truth).mean() >= 0.99
    assert hamming(ours, truth).max() <= 2


def test_disturbed_copies_stay_within_three_bits(photographs) -> None:
    distances = []
    for image in views(photographs):
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=60)
        copies = (
            image.resize((image.width // 2, image.height // 2)),
            Image.open(jpeg),
            ImageEnhance.Brightness(image).enhance(1.05),
        )
        own, other_way = phash(image), mirrored_phash(image)
        distances += [[own ^ phash(c), other_way ^ phash(mirrored(c))] for c in copies]
    ones = hamming(np.array(distances), np.int64(0))
    assert ((ones <= 3).mean(axis=0) >= 0.95).all()


def test_the_signal_hashes_the_decoded_picture(photographs) -> None:
    file = io.BytesIO()
    photographs[0].save(file, "PNG")
    signal = pickle.loads(pickle.dumps(MirroredPHash()))
    signal.load()
    prepared = signal.prepare(decode(file.getvalue(), max_pixels=10**7))
    assert signal.finish([prepared]) == {"mirrored_phash": [mirrored_phash(photographs[0])]}
