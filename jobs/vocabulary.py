"""What recipes may ask: the signals of what they judge, and the values that these can take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from schemas.duplicate_kinds import CLIP_KINDS, SAMPLE_KINDS

Of = Literal["pairs", "clips"]  # what a recipe judges
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,}$")]  # as lid.176 names them, and nolang


class Scale(NamedTuple):
    """The values that a numeric signal can take."""

    low: float
    high: float
    is_whole: bool = False


COUNT: Final = Scale(0, math.inf, is_whole=True)
SHARE: Final = Scale(0, 1)
FLAG: Final = Scale(0, 1, is_whole=True)  # no or yes
AMOUNT: Final = Scale(0, math.inf)
COSINE: Final = Scale(-1, 1)
ANY: Final = Scale(-math.inf, math.inf)

CONTAMINATED: Final = "contaminated"  # benchmark items that a sample met; null: none is registered
LANGUAGE: Final = "language"
CONFIDENCE: Final = "language_score"  # what min_confidence is compared with


@dataclass(frozen=True)
class Vocabulary:
    """What a recipe may ask of what it judges.

    Attributes:
        numbers: numeric signal -> the values that it can take.
        duplicates: verdict -> the kind of duplicate search that gives it.
        has_language: whether the language of the text can be asked for.
        of_models: signal -> the signal of a model that it sums up: on that model's card is its
            threshold. Of any other it is its own.
    """

    numbers: Mapping[str, Scale]
    duplicates: Mapping[str, str]
    has_language: bool = False
    of_models: Mapping[str, str] = field(default_factory=dict)

    @property
    def signals(self) -> tuple[str, ...]:
        """Every name that a rule may ask for."""
        return (*self.numbers, *([LANGUAGE] if self.has_language else []), *self.duplicates)


_OF_TEXTS: Final = {
    "chars": COUNT,
    "words": COUNT,
    "letter_fraction": SHARE,
    "digit_fraction": SHARE,
    "upper_fraction": SHARE,
    "language_score": SHARE,
    "toxicity_score": SHARE,
}
_OF_SIZES: Final = {
    "width_px": COUNT,
    "height_px": COUNT,
    "shorter_side_px": COUNT,
    "aspect_ratio": Scale(1, math.inf),  # longer side / shorter side
    "frames": COUNT,
}
_OF_LIGHT: Final = {
    "luminance_mean": SHARE,
    "luminance_std": Scale(0, 0.5),
    "dark_fraction": SHARE,
    "bright_fraction": SHARE,
}
_OF_IMAGES: Final = {
    "sharpness": AMOUNT,
    "entropy_bits": Scale(0, 8),  # of 256 grey levels
    **_OF_LIGHT,
    "border_fraction": SHARE,
    "colourfulness": AMOUNT,
    "code_fraction": SHARE,
    "code_count": COUNT,
    "text_fraction": SHARE,
    "text_regions": COUNT,
    "faces": COUNT,
    "face_fraction": SHARE,
    "largest_face_fraction": SHARE,
    "face_confidence": SHARE,
    "watermark_score": SHARE,
    "nsfw_score": SHARE,
    "aesthetic_score": ANY,  # a regression: no scale of its own
    "nsfw_head_score": ANY,  # some heads give probabilities, some do not
    "violence_score": Scale(-2, 2),  # a difference of two cosines
    "clip_score": COSINE,
}
PAIRS: Final = Vocabulary(
    numbers={**_OF_TEXTS, **_OF_SIZES, **_OF_IMAGES, CONTAMINATED: COUNT},
    duplicates={f"duplicate_{kind}": kind for kind in SAMPLE_KINDS},
    has_language=True,
)

# Of a clip, what its key frames say of it, by what each says of itself.
_OF_KEYFRAMES: Final = {
    "nsfw_score_max": "nsfw_score",
    "nsfw_score_mean": "nsfw_score",
    "nsfw_head_score_max": "nsfw_head_score",
    "violence_score_max": "violence_score",
    "aesthetic_score_mean": "aesthetic_score",
    "watermark_score_max": "watermark_score",
    "text_fraction_max": "text_fraction",
    "text_fraction_mean": "text_fraction",
    "faces_max": "faces",
    "face_fraction_max": "face_fraction",
    "clip_score": "clip_score",
    "clip_score_max": "clip_score",
}
CLIPS: Final = Vocabulary(
    numbers={
        "duration_s": AMOUNT,
        **_OF_SIZES,
        "fps": AMOUNT,
        "motion_score": AMOUNT,
        "motion_score_max": AMOUNT,
        "static_fraction": SHARE,
        "is_static": FLAG,
        "black_fraction": SHARE,
        "frozen_fraction": SHARE,
        "sharpness_mean": AMOUNT,
        "sharpness_min": AMOUNT,
        **_OF_LIGHT,
        "luminance_min": SHARE,
        "letterbox_fraction": SHARE,
        "pillarbox_fraction": SHARE,
        "has_audio": FLAG,
        "loudness_lufs": ANY,  # 0 is full scale, silence has no lower end
        "silence_fraction": SHARE,
        "speech_fraction": SHARE,
        "keyframes": COUNT,
        **{name: _OF_IMAGES[signal] for name, signal in _OF_KEYFRAMES.items()},
    },
    duplicates={f"duplicate_{kind}": kind for kind in CLIP_KINDS},
    of_models=_OF_KEYFRAMES,
)
VOCABULARIES: Final[Mapping[Of, Vocabulary]] = {"pairs": PAIRS, "clips": CLIPS}
