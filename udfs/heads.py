"""Scores of a CLIP embedding by a small network: aesthetics, NSFW, violence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer

# A float16 embedding made unit again is that to 1e-6; this tells it from one that never was.
_NORM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Head:
    """A head as a signal on stored embeddings: no pixels.

    Attributes:
        model: the network: (n, dimension) float32 -> (n,) or (n, 1) float.
        column: the signal that it gives.
        dimension: length of the embeddings it was trained on.
        placement: where it runs.
    """

    model: ModelFile
    column: str
    dimension: int
    placement: Placement = AUTO

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"head/1:{self.column}:{self.model.sha256}"

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: the file or its output is not what the card describes.
            ValueError: it gives no number.
        """
        probe = np.zeros((2, self.dimension), np.float32)
        probe[:, 0] = 1
        declared = self.placement.open(self.model).get_inputs()
        shape = declared[0].shape
        is_fixed = len(shape) == 2 and isinstance(shape[1], int)
        if len(declared) != 1 or len(shape) != 2 or (is_fixed and shape[1] != self.dimension):
            raise ModelMismatch(
                f"head {self.column} reads {', '.join(f'{i.name} {i.shape}' for i in declared)}; "
                f"allowed one input (n, {self.dimension}); correct the dimension in its card or "
                "take the head of this CLIP"
            )
        self.finish(probe)
        return str(self.placement.open(self.model).get_providers()[0])

    def finish(self, embeddings: np.ndarray) -> Mapping[str, list[float]]:
        """Score a batch.

        Args:
            embeddings: (n, dimension) float32 of unit length.

        Returns:
            column -> n scores.

        Raises:
            ValueError: embeddings of another length or scale, or a score that is not finite.
            ModelMismatch: the network does not give one score a row.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise ValueError(
                f"embeddings of shape {embeddings.shape} for head {self.column}; allowed "
                f"(n, {self.dimension}); use the head that was trained on this CLIP"
            )
        if not len(embeddings):
            return {self.column: []}
        # all within, not any beyond: a comparison with NaN is false, and NaN is no unit length
        if not np.all(np.abs(np.linalg.norm(embeddings, axis=1) - 1) <= _NORM_TOLERANCE):
            raise ValueError(
                f"embeddings for head {self.column} are not of unit length; scale them first"
            )
        network = self.placement.open(self.model)
        name, output = network.get_inputs()[0].name, network.get_outputs()[0].name
        scores = infer(network, {name: embeddings}, output)
        if scores.shape not in ((len(embeddings),), (len(embeddings), 1)):
            raise ModelMismatch(
                f"head {self.column} gives shape {scores.shape} for {len(embeddings)} embeddings; "
                "allowed one score each; export it with one output"
            )
        if not np.isfinite(scores).all():
            raise ValueError(f"head {self.column} gives a score that is not finite; replace it")
        return {self.column: scores.reshape(-1).tolist()}
