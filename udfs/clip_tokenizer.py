"""Text to CLIP token ids: CLIP's own byte-pair encoding, or any tokenizer.json."""

import gzip
import html
import string
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from udfs.model_file import ModelFile

if TYPE_CHECKING:  # children that decode import this module, and read no text
    import tokenizers

CLIP_BPE_SHA256: Final = (
    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"  # bpe_simple_vocab_16e6
)
_MERGES: Final = slice(1, 49152 - 256 - 2 + 1)  # openai/CLIP simple_tokenizer.py
# The same. Its matching is blind to case, so a long s ends a contraction too and U+0345, whose
# capital is a letter, is in no class: it is dropped.
_SPLIT: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"
_WORD_END: Final = "</w>"  # the same
_START: Final = "<|startoftext|>"  # the same
_END: Final = "<|endoftext|>"  # the same
_MAX_CHARS: Final = 10_000  # chosen: no caption needs more to fill the context; bounds ftfy's time
_PUNCTUATION: Final = str.maketrans("_", " ", string.punctuation.replace("_", ""))
Cleaning = Literal["none", "whitespace", "lower", "canonicalize"]
_loaded: Final[dict[str, "tokenizers.Tokenizer"]] = {}
_lock: Final = threading.Lock()


class Tokens(NamedTuple):
    """A batch of token ids.

    Attributes:
        ids: (n, context_length) int64.
        mask: (n, context_length) int64, 1 for text and its two ends, 0 for padding.
    """

    ids: np.ndarray
    mask: np.ndarray


def clip_bpe() -> ModelFile:
    """The byte-pair merges of CLIP that the open_clip_torch wheel carries."""
    return ModelFile(CLIP_BPE_SHA256, _locate)


def _locate() -> str:
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package open_clip_torch is missing; install it for CLIP's BPE")
    return str(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz")


@dataclass(frozen=True)
class Tokenizer:
    """How a text encoder wants its text.

    Attributes:
        kind: ``clip_bpe`` for CLIP's merges, ``tokenizer_json`` for a Hugging Face file.
        file: the merges (gzip) or the JSON.
        context_length: ids a text, ends included.
        pad_id: what fills the rest: 0 in OpenAI and open_clip, 49407 in Hugging Face's CLIP,
            1 in SigLIP.
        cleaning: what is done to a text first, by `clean`; null = ``lower`` for ``clip_bpe``,
            ``none`` for ``tokenizer_json``.
    """

    kind: Literal["clip_bpe", "tokenizer_json"]
    file: ModelFile
    context_length: int = 77  # Radford et al. 2021, arXiv:2103.00020, §2.4
    pad_id: int = 0
    cleaning: Cleaning | None = None

    @property
    def version(self) -> str:
        """Rule and file."""
        cleaning = f":{self.cleaning}" if self.cleaning else ""
        rule = f"{self.kind}/2:{self.file.sha256}"
        return f"{rule}:{self.context_length}:{self.pad_id}{cleaning}"

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Token ids of a batch; longer texts are cut and keep their last token, the end.

        Args:
            texts: any Unicode; words that name a special token are plain text to ``clip_bpe``.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        loaded = self.load()
        cleaning = self.cleaning or ("lower" if self.kind == "clip_bpe" else "none")
        # not encode_batch: it takes every core, and its thread pool does not survive a fork
        encodings = [loaded.encode(clean(text[:_MAX_CHARS], cleaning)) for text in texts]
        shape = (len(texts), self.context_length)
        return Tokens(
            ids=np.array([item.ids for item in encodings], dtype=np.int64).reshape(shape),
            mask=np.array([item.attention_mask for item in encodings], np.int64).reshape(shape),
        )

    def load(self) -> "tokenizers.Tokenizer":
        """The process's tokenizer, made at the first call.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        with _lock:
            if self.version not in _loaded:
                _loaded[self.version] = self._new()
            return _loaded[self.version]

    def _new(self) -> "tokenizers.Tokenizer":
        import tokenizers

        path = self.file.verified_path()
        if self.kind == "clip_bpe":
            made = _from_merges(path)
        else:
            made = tokenizers.Tokenizer.from_file(path)
        made.enable_truncation(max_length=self.context_length)
        made.enable_padding(length=self.context_length, pad_id=self.pad_id)
        return made


def clean(text: str, how: Cleaning = "lower") -> str:
    """What a text encoder was trained to see of a caption.

    Args:
        text: any Unicode.
        how: ``none`` = as it is; ``whitespace`` = repaired, unescaped and squeezed; ``lower`` =
            lower-cased too (openai/CLIP ``simple_tokenizer.py``); ``canonicalize`` = without
            ASCII punctuation too (SigLIP, open_clip ``tokenizer.py``).

    >>> clean("  Salt &amp;amp;  PEPPER ")
    'salt & pepper'
    >>> clean("Don't_stop:  NOW!", "canonicalize")
    'dont stop now'
    """
    if how == "none":
        return text
    import ftfy

    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    if how == "canonicalize":
        repaired = repaired.translate(_PUNCTUATION)
    squeezed = " ".join(repaired.split())
    return squeezed if how == "whitespace" else squeezed.lower()


def _from_merges(path: str) -> "tokenizers.Tokenizer":
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    with gzip.open(path, "rt", encoding="utf-8") as file:
        merges = [_pair(line) for line in file.read().split("\n")[_MERGES]]
    letters = _byte_alphabet()
    words = [*letters, *(letter + _WORD_END for letter in letters), *("".join(m) for m in merges)]
    vocabulary = {word: identifier for identifier, word in enumerate([*words, _START, _END])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_WORD_END))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}",
        special_tokens=[(_START, vocabulary[_START]), (_END, vocabulary[_END])],
    )
    return made


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split()
    return first, second


def _byte_alphabet() -> list[str]:
    """The 256 bytes as printable characters, in GPT-2's order: printable bytes come first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    shifted = range(256, 512 - len(printable))
    return [chr(code) for code in [*printable, *shifted]]
