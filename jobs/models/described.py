"""What a card describes, as the signals take it."""

from collections.abc import Callable

from jobs.models.card import HEAD_COLUMNS, Card, CardOutput
from jobs.runtime.errors import ModelProblem
from udfs.classifier import Classifier
from udfs.clip import Clip, Preprocessing, Tokenizer
from udfs.heads import Head
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement
from udfs.sentence import Sentence
from udfs.toxicity import Toxicity

# Role -> the file of a model.
File = Callable[[str], ModelFile]


def output(card: Card) -> CardOutput:
    """What comes out of its network.

    Raises:
        ModelProblem: the card does not say.
    """
    if card.output is None:
        raise ModelProblem(f"card {card.name} lacks output.dimension; add it")
    return card.output


def tokenizer(card: Card, file: File) -> Tokenizer:
    """How its text network wants its text."""
    return Tokenizer(
        kind=card.tokenizer.kind,
        file=file("tokenizer"),
        context_length=card.tokenizer.context_length,
        pad_id=card.tokenizer.pad_id,
        cleaning=card.tokenizer.cleaning,
    )


def clip(card: Card, file: File) -> Clip:
    """The dual encoder that a card describes.

    Raises:
        ModelProblem: the card lacks a file or its dimension.
    """
    return Clip(
        image=file("image"),
        text=file("text"),
        tokenizer=tokenizer(card, file),
        preprocessing=Preprocessing(**card.preprocessing.model_dump()),
        dimension=output(card).dimension,
    )


def head(card: Card, file: File, placement: Placement = AUTO) -> Head:
    """The head that a card describes.

    Raises:
        ModelProblem: the card lacks a file or its dimension, or is of no head.
    """
    if card.task not in HEAD_COLUMNS or card.embedding is None:
        raise ModelProblem(
            f"card {card.name} does {card.task} and reads {card.embedding}; allowed "
            f"{', '.join(HEAD_COLUMNS)} with embedding.dimension; correct it"
        )
    return Head(file("model"), HEAD_COLUMNS[card.task], card.embedding.dimension, placement)


def watermark(card: Card, file: File, placement: Placement = AUTO) -> Classifier:
    """The classifier of watermarks that a card describes."""
    return Classifier(
        "watermark_score",
        file("model"),
        Preprocessing(**card.preprocessing.model_dump()),
        classes=output(card).dimension,
        index=output(card).index,
        activation=output(card).activation,
        placement=placement,
    )


def sentence(card: Card, file: File, placement: Placement = AUTO) -> Sentence:
    """The sentence encoder that a card describes."""
    return Sentence(
        file("model"), tokenizer(card, file), dimension=output(card).dimension, placement=placement
    )


def toxicity(card: Card, file: File, placement: Placement = AUTO) -> Toxicity:
    """The classifier of toxic text that a card describes."""
    said = output(card)
    return Toxicity(file("model"), tokenizer(card, file), said.index, said.activation, placement)
