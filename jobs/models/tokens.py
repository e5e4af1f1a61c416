"""The tokenizer files of an export: `tokenizer.json`, or what one is made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

from jobs.models.reading import json_object
from jobs.runtime.errors import ModelProblem

_SPLIT: Final = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # openai/CLIP
_WORD_END: Final = "</w>"  # openai/CLIP simple_tokenizer.py
_START: Final = "<|startoftext|>"  # the same
_END: Final = "<|endoftext|>"  # the same
_MAX_FILE_BYTES: Final = 64 * 2**20  # chosen: twice Gemma's tokenizer.json of 256,000 words
_MAX_LENGTH: Final = 8192  # chosen: the longest context of a published dual encoder, jina-clip-v1
_LENGTHS: Final = {"clip": 77, "siglip": 64}  # transformers' defaults
_NO_LENGTH: Final = 10**6  # transformers writes 1e30 where a tokenizer has no longest text


def tokenizer_json(folders: Sequence[Path]) -> bytes:
    """The tokenizer of a text network, as `tokenizer.json`.

    Args:
        folders: where to look, nearest first.

    Raises:
        ModelProblem: there is none, or none that can be read here.
    """
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            content = _bounded(folder / "tokenizer.json")
            _parsed(content, folder / "tokenizer.json")
            return content
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return clip_json(folder / "vocab.json", folder / "merges.txt")
    pieces = [path for folder in folders for path in sorted(folder.glob("*.model"))]
    if pieces:
        raise ModelProblem(
            f"{pieces[0]} got a SentencePiece model; allowed tokenizer.json; write one where "
            "transformers is installed: AutoTokenizer.from_pretrained(FOLDER).save_pretrained("
            "FOLDER)"
        )
    raise ModelProblem(
        f"{folders[0]} has no tokenizer.json; allowed that, or vocab.json with merges.txt; "
        "add the one the model was trained with"
    )


def clip_json(vocabulary: Path, merges: Path) -> bytes:
    """CLIP's byte-pair encoding of `vocab.json` and `merges.txt` as a `tokenizer.json`.

    Raises:
        ModelProblem: another encoding than CLIP's, or files that do not belong together.
    """
    words = json_object(vocabulary)
    lines = _bounded(merges).decode("utf-8", "replace").splitlines()
    pairs = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#ver")]
    if not {_START, _END} <= set(words) or not any(word.endswith(_WORD_END) for word in words):
        raise ModelProblem(
            f"{vocabulary} got a vocabulary without {_START}, {_END} and words that end in "
            f"{_WORD_END}; allowed CLIP's; add the model's tokenizer.json"
        )
    try:
        made = tokenizers.Tokenizer(
            models.BPE(
                vocab=words,
                merges=[(first, second) for first, second in pairs],
                end_of_word_suffix=_WORD_END,
                unk_token=_END,
            )
        )
    except Exception as error:  # the library raises plain Exceptions, of its Rust side
        raise ModelProblem(
            f"{merges} does not fit {vocabulary.name}: {error}; restore both files of the export"
        ) from error
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}",
        special_tokens=[(_START, words[_START]), (_END, words[_END])],
    )
    return made.to_str().encode()


def pad_id(content: bytes, folders: Sequence[Path]) -> int:
    """The id that fills a text up to its length.

    Order: `pad_token_id`, then `pad_token` of `tokenizer_config.json`, the padding of
    `tokenizer.json`, and CLIP's own, its end token.

    Raises:
        ModelProblem: nothing says it.
    """
    tokenizer = _parsed(content, Path("tokenizer.json"))
    for folder in folders:
        config = json_object(folder / "tokenizer_config.json", is_optional=True)
        if isinstance(config.get("pad_token_id"), int):
            return int(config["pad_token_id"])
        token = config.get("pad_token")
        word = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(word, str):
            found = tokenizer.token_to_id(word)
            if found is None:
                raise ModelProblem(
                    f"{folder / 'tokenizer_config.json'} got pad_token {word}, which the "
                    "tokenizer does not know; restore the exporter's files"
                )
            return int(found)
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    end = tokenizer.token_to_id(_END)
    if end is None:
        raise ModelProblem(
            f"{folders[0]} does not say what pads a text; "
            'write {"pad_token": "…"} into its tokenizer_config.json'
        )
    return int(end)


def context_length(
    fixed: int | None, config: Mapping[str, Any], folders: Sequence[Path], origin: Path
) -> int:
    """Ids a text.

    Args:
        fixed: what the network's own input says; null for a free axis.
        config: the model's `config.json`.
        folders: where `tokenizer_config.json` may be.
        origin: the network, for messages.

    Raises:
        ModelProblem: nothing says it, or what says it cannot be.
    """
    length = fixed or _said(config, folders)
    if length is None or not 2 <= length <= _MAX_LENGTH:
        raise ModelProblem(
            f"{origin} got texts of {length} ids; allowed 2 to {_MAX_LENGTH}; write "
            '{"text_config": {"max_position_embeddings": …}} into config.json'
        )
    return length


def _said(config: Mapping[str, Any], folders: Sequence[Path]) -> int | None:
    text = config.get("text_config") or (config.get("model_cfg") or config).get("text_cfg") or {}
    for key in ("max_position_embeddings", "context_length"):
        if isinstance(text.get(key), int):
            return int(text[key])
    if "text_cfg" in config or "model_cfg" in config:
        return 77  # open_clip's default
    for folder in folders:
        written = json_object(folder / "tokenizer_config.json", is_optional=True)
        length = written.get("model_max_length")
        if isinstance(length, int) and length < _NO_LENGTH:
            return length
    # config.json of transformers leaves out what equals the type's default.
    type_ = str(config.get("model_type", "")) if config else "clip"
    return next((length for name, length in _LENGTHS.items() if type_.startswith(name)), None)


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ModelProblem(
            f"{path} got {path.stat().st_size} bytes; allowed {_MAX_FILE_BYTES}; "
            "restore the exporter's file"
        )
    return path.read_bytes()


def _parsed(content: bytes, origin: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exceptions, of its Rust side
        raise ModelProblem(
            f"{origin} got no tokenizer that the tokenizers library reads: {error}; "
            "restore the exporter's file"
        ) from error
