"""Real photographs that the scikit-image and scikit-learn wheels carry, with captions by hand.

Nothing is fetched: the files lie in the environment. Origin and terms of each stand in the
docstrings of `skimage.data` (mostly public domain or CC0) and in scikit-learn's
`datasets/images/README.txt` (CC BY 2.0, attributed there).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Photograph:
    """One photograph of an installed package."""

    package: str
    path: str
    caption: str

    def content(self) -> bytes:
        """The file's bytes as the wheel carries them.

        Raises:
            FileNotFoundError: the package is not installed.
        """
        spec = find_spec(self.package)  # finds the folder without the cost of the import
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"package {self.package} is not installed; run make setup")
        return (Path(spec.origin).parent / self.path).read_bytes()


PHOTOGRAPHS: Final = (
    Photograph(
        "skimage",
        "data/astronaut.png",
        "a smiling astronaut in an orange space suit in front of a flag and a model of a shuttle",
    ),
    Photograph("skimage", "data/chelsea.png", "the face of a ginger tabby cat with green eyes"),
    Photograph(
        "skimage", "data/coffee.png", "a cup of coffee on a red saucer with a spoon, on a table"
    ),
    Photograph(
        "skimage", "data/hubble_deep_field.jpg", "hundreds of distant galaxies in the black sky"
    ),
    Photograph(
        "skimage", "data/ihc.png", "stained tissue under a microscope, brown glands and blue cells"
    ),
    Photograph(
        "skimage", "data/motorcycle_left.png", "a red motorcycle parked in a garage full of boxes"
    ),
    Photograph(
        "skimage", "data/retina.jpg", "the retina of a human eye with its branching blood vessels"
    ),
    Photograph(
        "skimage", "data/rocket.jpg", "a white rocket on its launch pad with bright lights at dusk"
    ),
    Photograph(
        "sklearn",
        "datasets/images/china.jpg",
        "a pagoda with red walls and green roofs above a misty lake",
    ),
    Photograph(
        "sklearn", "datasets/images/flower.jpg", "an orange dahlia flower in front of dark leaves"
    ),
    Photograph("skimage", "data/brick.png", "a pavement of grey bricks laid in straight rows"),
    Photograph(
        "skimage", "data/camera.png", "a man in a black coat looks through a camera on a tripod"
    ),
    Photograph("skimage", "data/coins.png", "four rows of old coins on a dark background"),
    Photograph("skimage", "data/grass.png", "a black and white photograph of short dry grass"),
    Photograph("skimage", "data/gravel.png", "a black and white photograph of grey gravel stones"),
    Photograph("skimage", "data/moon.png", "the surface of the moon with a few small craters"),
    Photograph("skimage", "data/page.png", "a photograph of a printed page about segmentation"),
)
