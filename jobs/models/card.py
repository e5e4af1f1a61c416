"""The card of a model: a `model.yaml` that says what a network is and how to feed it."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.runtime.errors import ModelProblem
from udfs.class_probability import Activation

CARD_FILE: Final = "model.yaml"
Hex: Final = r"^[0-9a-f]{64}$"
# What a folder, a URL and a shell all take as it is.
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Task = Literal[
    "clip",
    "nsfw",
    "language",
    "aesthetic",
    "nsfw_head",
    "violence",
    "text_area",
    "faces",
    "watermark",
    "toxicity",
    "sentence",
    "speech",
    "shots",
]
# Tasks done on a CLIP embedding -> the signal each gives.
HEAD_COLUMNS: Final = {
    "aesthetic": "aesthetic_score",
    "nsfw_head": "nsfw_head_score",
    "violence": "violence_score",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CardFile(_Part):
    """One file of a model: beside its card, or inside an installed package."""

    path: str
    sha256: str = Field(pattern=Hex)
    package: str | None = None


class CardPreprocessing(_Part):
    """How the image network wants its picture; CLIP's own values by default."""

    size_px: int = Field(default=224, ge=1)
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    resize_px: int | None = Field(default=None, ge=1)
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"] = (
        "bicubic"
    )
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    fill: int = Field(default=0, ge=0, le=255)
    half_pixel: Literal["even", "down"] = "even"


class CardTokenizer(_Part):
    """How the text network wants its text."""

    kind: Literal["clip_bpe", "tokenizer_json"] = "clip_bpe"
    context_length: int = Field(default=77, ge=2)
    pad_id: int = Field(default=0, ge=0)
    cleaning: Literal["none", "whitespace", "lower", "canonicalize"] | None = None


class CardOutput(_Part):
    """What comes out: an embedding, or one output a class.

    Attributes:
        dimension: length of the embedding, or number of the classes.
        index: of a classifier, the class that is wanted.
        activation: of a classifier, what makes its outputs probabilities.
    """

    dimension: int = Field(ge=1)
    index: int = Field(default=0, ge=0)
    activation: Activation = "none"


class CardEmbedding(_Part):
    """The CLIP whose image embeddings a head reads."""

    dimension: int = Field(ge=1)
    image_sha256: str | None = Field(default=None, pattern=Hex)


class CardGolden(_Part):
    """An input, and the numbers that must come out of it.

    Attributes:
        role: which network; ``model`` is a head.
        text: what a text network reads.
        seed: of the random unit vector that a head reads, or of the picture.
        values: the first values of the unit embedding, or a head's score.
        tolerance: the greatest difference of one value.
    """

    role: Literal["image", "text", "model"]
    text: str | None = None
    seed: int = Field(default=0, ge=0)
    values: tuple[float, ...] = Field(min_length=1)
    # Published test vectors of CLIP exports are compared to 1e-3.
    tolerance: float = Field(default=1e-3, gt=0)


class Card(_Part):
    """A `model.yaml`."""

    name: str
    task: Task
    version: str = "1"
    is_demonstration: bool = False
    description: str = ""
    licence: str = "not stated"
    files: dict[str, CardFile]
    preprocessing: CardPreprocessing = CardPreprocessing()
    tokenizer: CardTokenizer = CardTokenizer()
    output: CardOutput | None = None
    embedding: CardEmbedding | None = None
    threshold: dict[str, float | str] = {}
    golden: tuple[CardGolden, ...] = ()
    origin: dict[str, str] = {}
    training: dict[str, Any] = {}

    @property
    def thresholds(self) -> dict[str, float]:
        """Signal -> threshold that the card was calibrated to."""
        return {k: v for k, v in self.threshold.items() if isinstance(v, int | float)}

    @property
    def dimension(self) -> int | None:
        """Length of the embeddings it gives or reads; null where it has none."""
        described = self.output or self.embedding
        return described.dimension if described else None

    def file(self, role: str) -> CardFile:
        """The file of a role.

        Raises:
            ModelProblem: the card names none.
        """
        if role not in self.files:
            raise ModelProblem(
                f"card {self.name} names no file {role}, only {', '.join(sorted(self.files))}; "
                f"add files.{role} to its {CARD_FILE}"
            )
        return self.files[role]


def check_fits(head: Card, clip: Card) -> None:
    """Refuse a head that was trained on the embeddings of another CLIP.

    Raises:
        ModelProblem: the dimension or the image network is another.
    """
    if head.embedding is None:
        raise ModelProblem(
            f"card {head.name} got no embedding; allowed the dimension of the CLIP it reads; "
            f"add embedding.dimension to its {CARD_FILE}"
        )
    if head.embedding.dimension != clip.dimension:
        raise ModelProblem(
            f"head {head.name} reads embeddings of {head.embedding.dimension} values, "
            f"{clip.name} gives {clip.dimension}; use the head that was trained on {clip.name}"
        )
    wanted, given = head.embedding.image_sha256, clip.file("image").sha256
    if wanted and wanted != given:
        raise ModelProblem(
            f"head {head.name} reads embeddings of the image network {wanted[:16]}, "
            f"{clip.name} has {given[:16]}; use the head that was trained on {clip.name}, or add "
            f"the head again with --clip {clip.name} if both networks give the same embeddings"
        )
