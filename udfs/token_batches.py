"""How token ids go through a text network: like lengths together, nothing padded further."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from udfs.clip_tokenizer import Tokens

if TYPE_CHECKING:
    import onnxruntime as ort

# MiniLM on one core of two, English messages, texts a second: 1: 128, 4: 192, 8: 210, 16: 127
AT_ONCE: Final = 8


def by_length(tokens: Tokens, run: Callable[[Tokens], np.ndarray]) -> np.ndarray:
    """What a network gives for each text, in the order of the texts.

    Padding costs what text costs, so a group is cut to its longest text.

    Args:
        tokens: n texts, at least one, padded on the right.
        run: m texts of ids and mask -> (m, ...).

    Returns:
        (n, ...).
    """
    lengths = tokens.mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    found = []
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        longest = max(int(lengths[rows].max()), 1)  # an empty text may have no token at all
        found.append(run(Tokens(tokens.ids[rows, :longest], tokens.mask[rows, :longest])))
    outputs: np.ndarray = np.concatenate(found)[np.argsort(order)]
    return outputs


def feeds(network: "ort.InferenceSession", tokens: Tokens) -> dict[str, np.ndarray]:
    """Those inputs of BERT's exports that the network declares, by name."""
    every = {
        "input_ids": tokens.ids,
        "attention_mask": tokens.mask,
        "token_type_ids": np.zeros_like(tokens.ids),  # one text alone
    }
    return {item.name: every[item.name] for item in network.get_inputs() if item.name in every}
