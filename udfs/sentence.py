"""What a text means, as a vector: a sentence encoder from any standard ONNX export."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from udfs.clip_tokenizer import Tokenizer, Tokens
from udfs.embedding import pack, unit
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer
from udfs.token_batches import by_length, feeds

_HIDDEN: Final = "last_hidden_state"  # the usual exporter's name of the tokens' vectors


def mean_pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean of the vectors of a text's tokens; padding does not count.

    Source: the model card of sentence-transformers/all-MiniLM-L6-v2.

    Args:
        hidden: (n, tokens, d) float32.
        mask: (n, tokens) of 0 and 1, at least one 1 a row.

    Returns:
        (n, d) float32.

    >>> mean_pool(np.array([[[1.0], [3.0], [9.0]]]), np.array([[1, 1, 0]])).tolist()
    [[2.0]]
    """
    sums = np.einsum("ntd,nt->nd", hidden, mask.astype(np.float32))
    means: np.ndarray = sums / mask.sum(axis=1, keepdims=True)
    return means.astype(np.float32)


@dataclass(frozen=True)
class Sentence:
    """A sentence embedding as a signal: mean of the tokens' vectors, scaled to length 1.

    Source: Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084; Wang et al. 2020,
    "MiniLM", arXiv:2002.10957.

    Attributes:
        model: a network (input_ids, attention_mask[, token_type_ids]) -> last_hidden_state.
        tokenizer: how it wants its text.
        dimension: length of the embeddings.
        placement: where it runs.
    """

    model: ModelFile
    tokenizer: Tokenizer
    dimension: int
    placement: Placement = AUTO
    columns: ClassVar = ("sentence_embedding", "sentence_dimension")

    @property
    def version(self) -> str:
        """Rule, tokenizer and model."""
        return f"sentence/1:{self.model.sha256}:{self.tokenizer.version}"

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: a file or the output is not what the card describes.
        """
        network = self.placement.open(self.model)
        outputs = [item.name for item in network.get_outputs()]
        if _HIDDEN not in outputs:
            raise ModelMismatch(
                f"sentence encoder with outputs {', '.join(outputs)}; allowed {_HIDDEN} among "
                "them; export the encoder without its pooling"
            )
        width = self._embed(["a"]).shape[1]
        if width != self.dimension:
            raise ModelMismatch(
                f"sentence embedding of length {width} differs from {self.dimension}; "
                "correct the dimension in the model's card"
            )
        return str(network.get_providers()[0])

    def finish(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Embed a batch.

        Raises:
            ValueError: an embedding is not finite or all zeros.
        """
        packed = pack(unit(self._embed(texts)))
        return {
            "sentence_embedding": packed,
            "sentence_dimension": [self.dimension] * len(packed),
        }

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        return by_length(self.tokenizer.encode(texts), self._pooled)

    def _pooled(self, tokens: Tokens) -> np.ndarray:
        network = self.placement.open(self.model)
        return mean_pool(infer(network, feeds(network, tokens), _HIDDEN), tokens.mask)
