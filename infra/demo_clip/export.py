"""Turn a checkpoint of demo-clip into image.onnx, text.onnx and model.yaml, with its figures.

    python -m infra.demo_clip.export --checkpoint demo.pt --openclipart /usr/share/openclipart

The files are a standard two-file CLIP export. The token table is stored as float16 and in two
factors; all arithmetic is float32. Needs `infra/locks/train.txt`.
"""

import argparse
import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from torch import Tensor, nn

from infra.demo_clip import evaluate
from infra.demo_clip.train import CONTEXT, DIMENSION, SEED, DualEncoder
from udfs.clip_tokenizer import CLIP_BPE_SHA256, clip_bpe

OPSET: Final = 17  # the oldest with LayerNormalization as one operator


def write_networks(model: DualEncoder, folder: Path) -> None:
    """Write ``image.onnx`` and ``text.onnx`` with a dynamic batch axis."""
    text = copy.deepcopy(model.text)
    text.table.half()  # the table is most of the file; the forward pass widens what it gathers
    _write(
        model.image,
        torch.zeros(2, 3, evaluate.SIZE_PX, evaluate.SIZE_PX),
        folder / "image.onnx",
        names=("pixel_values", "image_embeds"),
    )
    ids = torch.zeros(2, CONTEXT, dtype=torch.int64)
    _write(text, ids, folder / "text.onnx", names=("input_ids", "text_embeds"))


def _write(tower: nn.Module, example: Tensor, path: Path, *, names: tuple[str, str]) -> None:
    torch.onnx.export(
        tower.eval(),
        (example,),
        str(path),
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes={name: {0: "batch"} for name in names},
        opset_version=OPSET,
        dynamo=False,  # the other exporter asks for one more package and gives the same graph
    )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(folder: Path, *, openclipart: Path, steps: int) -> None:
    """Calibrate, measure and write ``model.yaml`` for the networks in ``folder``."""
    threshold = evaluate.calibrate(evaluate.Encoders(folder))
    figures = evaluate.measure(folder, threshold, openclipart)
    rates = figures["held_out_threshold"]
    card: dict[str, Any] = {
        "name": "demo-clip",
        "task": "clip",
        "version": "1",
        "is_demonstration": True,
        "description": (
            "A small dual encoder trained on rendered scenes and openclipart, so that everything "
            "runs out of the box. It knows shapes, colours, counts, positions and textures, "
            "little of clip art and nothing of photographs: a demonstration, not a judge of data."
        ),
        "licence": "Apache-2.0",
        "files": {
            "image": {"path": "image.onnx", "sha256": sha256(folder / "image.onnx")},
            "text": {"path": "text.onnx", "sha256": sha256(folder / "text.onnx")},
            "tokenizer": {
                "package": "open_clip",
                "path": Path(clip_bpe().verified_path()).name,
                "sha256": CLIP_BPE_SHA256,
            },
        },
        "preprocessing": {
            "size_px": evaluate.SIZE_PX,
            "resize": "squash",
            "interpolation": "bicubic",
            "mean": [float(evaluate.MEAN)] * 3,
            "std": [float(evaluate.STD)] * 3,
        },
        "tokenizer": {"kind": "clip_bpe", "context_length": CONTEXT, "pad_id": 0},
        "output": {"dimension": DIMENSION},
        "threshold": {
            "clip_score": threshold,
            "calibrated_on": (
                "1,000 freshly rendered scenes of the training split: midway between the 1st "
                "percentile of fitting and the 99th of swapped captions; on 1,000 held-out scenes "
                f"it rejects {rates['fitting_rejected']:.1%} of fitting and "
                f"{rates['swapped_rejected']:.1%} of swapped captions"
            ),
        },
        "training": {
            "script": "infra/demo_clip/train.py",
            "seed": SEED,
            "steps": steps,
            "data": (
                "rendered scenes (jobs/demo/scenes.py, split train) and the images of Debian's "
                "openclipart-png 1:0.18 with titles and keywords of openclipart-svg (public "
                "domain; 15 % of the titles held out)"
            ),
            "metrics": _rounded(figures),
        },
    }
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)
    (folder / "model.yaml").write_text(text, encoding="utf-8")


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _rounded(value) if isinstance(value, dict) else round(value, 4)
        for key, value in figures.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="written by train")
    parser.add_argument("--openclipart", type=Path, required=True, help="holds svg/ and png/")
    parser.add_argument("--out", type=Path, default=evaluate.HERE)
    args = parser.parse_args(argv)
    stored = torch.load(args.checkpoint, weights_only=True)
    model = DualEncoder()
    model.load_state_dict(stored["model"])
    args.out.mkdir(parents=True, exist_ok=True)
    write_networks(model, args.out)
    write_card(args.out, openclipart=args.openclipart, steps=stored["step"])
    print((args.out / "model.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
