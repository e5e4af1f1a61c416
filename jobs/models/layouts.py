"""The layouts that published CLIP exports come in, recognised and described as a card.

| layout | networks | beside them |
|---|---|---|
| two files | `vision_model.onnx`, `text_model.onnx`, or in `onnx/` | what transformers writes |
| two folders | `visual/model.onnx`, `textual/model.onnx` | what open_clip writes |
| two repositories | `…-vision/model.onnx`, `…-text/model.onnx` | the same, in each |
| combined | `model.onnx`, or in `onnx/`: both sides in one graph | what transformers writes |

A variant is a suffix of the file names: `vision_model_fp16.onnx`. Names and types of inputs and
outputs, the length of a text and the size of a picture are read from the networks themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from jobs.models import network, preprocessor, tokens
from jobs.models.card import CardPreprocessing, CardTokenizer
from jobs.models.network import Port, Signature
from jobs.models.reading import json_object
from jobs.runtime.errors import ModelProblem
from udfs.clip import IDS, MASK, OUTPUTS

EXPECTED: Final = (
    "vision_model.onnx and text_model.onnx, visual/ and textual/, a pair of folders …-vision and "
    "…-text, or a combined model.onnx"
)
_IMAGE_OUTPUTS: Final = ("image_embeds", "image_embedding", "pooler_output")
_TEXT_OUTPUTS: Final = ("text_embeds", "text_embedding", "pooler_output")
_PIXEL_TYPES: Final = {"FLOAT", "FLOAT16"}
_ID_TYPES: Final = {"INT32", "INT64"}


@dataclass(frozen=True)
class Side:
    """One network of a layout.

    Attributes:
        path: the file.
        folders: where its descriptions are, nearest first.
        keeps: the output to cut out of a combined network; null for a network of its own.
    """

    path: Path
    folders: tuple[Path, ...]
    keeps: str | None = None

    @property
    def has_weights_beside(self) -> bool:
        """Whether the network keeps weights in files of their own."""
        return bool(network.beside(network.parse(self.path)))

    def signature(self) -> Signature:
        """Inputs and outputs of this side alone.

        Raises:
            ModelProblem: no network, or a combined one whose sides cannot be told apart.
        """
        if self.keeps is None:
            return network.signature(self.path)
        whole = network.parse(self.path)
        needed = network.needed_inputs(whole, self.keeps)
        both = network.signature(self.path)
        return Signature(
            inputs=tuple(port for port in both.inputs if port.name in needed),
            outputs=tuple(port for port in both.outputs if port.name == self.keeps),
        )

    def content(self) -> bytes:
        """The network as one file.

        Raises:
            ModelProblem: weights are missing, or it cannot be one file.
        """
        content = network.inlined(self.path)
        if self.keeps is None:
            return content
        inputs = [port.name for port in self.signature().inputs]
        whole = onnx.load_from_string(content)
        cut = onnx.utils.Extractor(whole).extract_model(inputs, [self.keeps])
        return bytes(cut.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Recognised:
    """A CLIP export, read but not yet taken.

    Attributes:
        layout: in words.
        image: the image network.
        text: the text network.
        tokenizer_json: the tokenizer's bytes.
        preprocessing: how the image network wants its picture.
        tokenizer: how the text network wants its text.
        dimension: length of the embeddings; null where only a trial can say it.
    """

    layout: str
    image: Side
    text: Side
    tokenizer_json: bytes
    preprocessing: CardPreprocessing
    tokenizer: CardTokenizer
    dimension: int | None


def recognise(folder: Path, variant: str = "") -> Recognised:
    """The CLIP export in a folder.

    Args:
        folder: what an exporter has written.
        variant: which of its precisions: ``fp16``, ``quantized``, … ; empty for the plain one.

    Raises:
        ModelProblem: no layout that is known, or one that says or needs what is not done here.
    """
    layout, image, text = _sides(folder, variant)
    looks, reads = image.signature(), text.signature()
    pixels = _pixels(looks, image)
    ids = _ids(reads, text)
    config = _first(text.folders, ("open_clip_config.json", "config.json"))
    image_config = _first(image.folders, ("open_clip_config.json", "config.json")) or config
    preprocessing = _preprocessing(image, image_config, pixels)
    content = tokens.tokenizer_json(text.folders)
    length = tokens.context_length(ids.shape[1], config, text.folders, text.path)
    _refuse_cleaning(config, text.path)
    return Recognised(
        layout=layout,
        image=image,
        text=text,
        tokenizer_json=content,
        preprocessing=preprocessing,
        tokenizer=CardTokenizer(
            kind="tokenizer_json",
            context_length=length,
            pad_id=tokens.pad_id(content, text.folders),
        ),
        dimension=_dimension(looks, reads, image_config, folder),
    )


def _sides(folder: Path, variant: str) -> tuple[str, Side, Side]:
    suffix = f"_{variant}.onnx" if variant else ".onnx"
    for sub in (folder, folder / "onnx"):
        pair = sub / f"vision_model{suffix}", sub / f"text_model{suffix}"
        if all(path.is_file() for path in pair):
            image, text = (Side(path, (sub, folder)) for path in pair)
            return "two-file export", image, text
    pair = folder / "visual" / f"model{suffix}", folder / "textual" / f"model{suffix}"
    if all(path.is_file() for path in pair):
        image, text = (Side(path, (path.parent, folder)) for path in pair)
        return "visual and textual folders", image, text
    roots = _repositories(folder)
    if roots:
        found = [_single(root, suffix) for root in roots]
        if found[0] and found[1]:
            image, text = (Side(p, (r, p.parent)) for r, p in zip(roots, found, strict=True) if p)
            return "vision and text repositories", image, text
    combined = _single(folder, suffix)
    if combined:
        return _combined(combined, (folder, combined.parent))
    raise ModelProblem(
        f"{folder} holds {_what_is_there(folder)}; allowed {EXPECTED}"
        f"{f', each with the suffix _{variant}' if variant else ''}; give the folder of a CLIP "
        f"export, name one of its variants with --variant, or write a model.yaml"
    )


def _single(root: Path, suffix: str) -> Path | None:
    paths = (root / f"model{suffix}", root / "onnx" / f"model{suffix}")
    return next((path for path in paths if path.is_file()), None)


def _repositories(folder: Path) -> tuple[Path, Path] | None:
    """The vision and the text repository: both inside a folder, or the one beside the other."""
    stem = folder.name.removesuffix("-vision").removesuffix("-text")
    if stem != folder.name:
        pair = folder.parent / f"{stem}-vision", folder.parent / f"{stem}-text"
        return pair if all(path.is_dir() for path in pair) else None
    images, texts = sorted(folder.glob("*-vision")), sorted(folder.glob("*-text"))
    return (images[0], texts[0]) if len(images) == len(texts) == 1 else None


def _combined(path: Path, folders: tuple[Path, ...]) -> tuple[str, Side, Side]:
    """Both sides of one graph, where each depends on its own input alone."""
    whole = network.parse(path)
    made = {output.name for output in whole.graph.output}
    sides = []
    for names, kind in ((_IMAGE_OUTPUTS[:2], "image"), (_TEXT_OUTPUTS[:2], "text")):
        output = next((name for name in names if name in made), None)
        if output is None:
            raise ModelProblem(
                f"{path} makes {', '.join(sorted(made))}; allowed an output {' or '.join(names)}; "
                "export the model again with both embeddings as outputs"
            )
        needed = network.needed_inputs(whole, output)
        is_text = {name for name in needed if name in (*IDS, MASK)}
        if (kind == "image" and is_text) or (kind == "text" and needed - is_text):
            raise ModelProblem(
                f"{path} makes {output} from {', '.join(sorted(needed))}; allowed its own side's "
                "input alone, so that it can be cut out; take the export with vision_model.onnx "
                "and text_model.onnx"
            )
        sides.append(Side(path, folders, keeps=output))
    return "combined export, cut in two", sides[0], sides[1]


def _pixels(looks: Signature, side: Side) -> Port:
    if len(looks.inputs) != 1:
        raise ModelProblem(
            f"{side.path} asks for {_names(looks.inputs)}; allowed pixels alone; "
            "export the image side by itself"
        )
    pixels = looks.inputs[0]
    if pixels.dtype not in _PIXEL_TYPES:
        raise ModelProblem(
            f"{side.path} takes {pixels.name} of {pixels.dtype}; allowed FLOAT or FLOAT16; "
            "export it without its preprocessing"
        )
    if len(pixels.shape) != 4 or pixels.shape[1] not in (3, None):
        raise ModelProblem(
            f"{side.path} takes {pixels.name} of shape {_shape(pixels)}; allowed (n, 3, height, "
            "width); export it with channels first"
        )
    return pixels


def _ids(reads: Signature, side: Side) -> Port:
    extra = [port for port in reads.inputs if port.name not in (*IDS, MASK)]
    named = [port for port in reads.inputs if port.name in IDS]
    if len(named) != 1 and not (len(extra) == 1 and not named):
        raise ModelProblem(
            f"{side.path} asks for {_names(reads.inputs)}; allowed ids ({' or '.join(IDS)}) and "
            f"{MASK}; export the text side by itself"
        )
    if named and extra:
        raise ModelProblem(
            f"{side.path} asks for {_names(extra)} too; allowed {named[0].name} and {MASK}; "
            "export it again without"
        )
    ids = (named or extra)[0]
    if ids.dtype not in _ID_TYPES or len(ids.shape) != 2:
        raise ModelProblem(
            f"{side.path} takes {ids.name} of {ids.dtype} and shape {_shape(ids)}; allowed INT32 "
            "or INT64 of (n, length); export it without its tokenizer"
        )
    return ids


def _preprocessing(side: Side, config: Mapping[str, Any], pixels: Port) -> CardPreprocessing:
    made = _described(side, config, fixed=pixels.shape[2])
    for axis in pixels.shape[2:]:
        if axis is not None and axis != made.size_px:
            raise ModelProblem(
                f"{side.path} takes pictures of shape {_shape(pixels)}, its preprocessing makes "
                f"{made.size_px} px; restore the exporter's files"
            )
    return made


def _described(side: Side, config: Mapping[str, Any], fixed: int | None) -> CardPreprocessing:
    for folder in side.folders:
        open_clip = folder / "preprocess_cfg.json"
        if open_clip.is_file():
            return preprocessor.from_open_clip(json_object(open_clip), str(open_clip))
        written = folder / "preprocessor_config.json"
        if written.is_file():
            found = json_object(written)
            read = (
                preprocessor.from_open_clip
                if "resize_mode" in found
                else preprocessor.from_transformers
            )
            return read(found, str(written))
    if "preprocess_cfg" in config:
        return preprocessor.from_open_clip(config["preprocess_cfg"], str(side.folders[-1]))
    model = config.get("model_cfg") or config
    vision = config.get("vision_config") or model.get("vision_cfg") or {}
    size = fixed or vision.get("image_size") or 224
    is_siglip = str(config.get("model_type", "")).startswith("siglip")
    type_ = "SiglipImageProcessor" if is_siglip else "CLIPImageProcessor"
    return preprocessor.from_transformers(
        {"image_processor_type": type_, "size": size}, str(side.folders[-1])
    )


def _refuse_cleaning(config: Mapping[str, Any], path: Path) -> None:
    """open_clip's SigLIP models want a text without punctuation, which no tokenizer.json says."""
    text = (config.get("model_cfg") or config).get("text_cfg") or {}
    clean = (text.get("tokenizer_kwargs") or {}).get("clean")
    if clean not in (None, "lower", "whitespace"):
        raise ModelProblem(
            f"{path} got text_cfg.tokenizer_kwargs.clean {clean}; allowed lower or whitespace; "
            "take the export for transformers, whose tokenizer cleans by itself"
        )


def _dimension(
    looks: Signature, reads: Signature, config: Mapping[str, Any], folder: Path
) -> int | None:
    image, text = looks.output(OUTPUTS).shape, reads.output(OUTPUTS).shape
    widths = {shape[-1] for shape in (image, text) if len(shape) == 2 and shape[-1]}
    if len(widths) > 1:
        raise ModelProblem(
            f"{folder} gives images {image[-1]} and texts {text[-1]} values; allowed the same; "
            "take the export with projection"
        )
    if widths:
        return widths.pop()
    said = config.get("projection_dim") or (config.get("model_cfg") or config).get("embed_dim")
    return said if isinstance(said, int) and said > 0 else None


def _first(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return json_object(folder / name)
    return {}


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(port.name for port in ports) or "nothing"


def _shape(port: Port) -> str:
    return f"({', '.join('n' if axis is None else str(axis) for axis in port.shape)})"


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return "nothing"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.onnx"))
    for path in sorted(folder.iterdir()):
        if path.is_file() and not found:
            network.refuse_pickle(path)
    return ", ".join(found[:8]) or "no network"
