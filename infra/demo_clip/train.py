"""Train demo-clip on rendered scenes and openclipart; writes one checkpoint.

    python -m infra.demo_clip.train --openclipart /usr/share/openclipart --checkpoint demo.pt
    python -m infra.demo_clip.export --openclipart /usr/share/openclipart --checkpoint demo.pt

The defaults are the settings that made the committed files. Needs `infra/locks/train.txt`.
"""

import argparse
import hashlib
import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from infra.demo_clip.evaluate import SIZE_PX, on_white, read_openclipart, tokenize
from jobs.demo import scenes
from jobs.demo.openclipart import Clipart

SEED: Final = 7
DIMENSION: Final = 256  # the product asks for 256 or more
CONTEXT: Final = 77  # CLIP's context length (Radford et al. 2021, arXiv:2103.00020, §2.4)
VOCABULARY: Final = 49_408  # CLIP's BPE vocabulary, ibid.
RANK: Final = 48  # chosen: a full table of 128 would alone pass the 12 MB that the files may take
WIDTH: Final = 128  # chosen: of the text tower
CLIPART_PX: Final = 120  # chosen: a quarter above SIZE_PX, room for random crops
ATTRIBUTES: Final[dict[str, Sequence[object]]] = {
    "count": scenes.COUNTS,
    "colour": tuple(scenes.COLOURS),
    "texture": scenes.TEXTURES,
    "shape": scenes.SHAPES,
    "position": scenes.POSITIONS,
    "background": scenes.BACKGROUNDS,
}

Pixels = NDArray[np.uint8]


class Residual(nn.Module):
    """x + relu(norm(conv(x)))."""

    def __init__(self, channels: int) -> None:
        """As many channels out as in."""
        super().__init__()
        self.conv = convolution(channels, channels, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        return x + self.conv(x)


def convolution(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class ImageTower(nn.Module):
    """A small residual network: 25 million multiply-adds an image."""

    def __init__(self) -> None:
        """The last 6x6 grid is flattened, not averaged: left and right must stay apart."""
        super().__init__()
        self.trunk = nn.Sequential(
            convolution(3, 16, stride=2),
            convolution(16, 32, stride=2),
            Residual(32),
            convolution(32, 64, stride=2),
            Residual(64),
            convolution(64, 128, stride=2),
            Residual(128),
            nn.Conv2d(128, 32, 1),
            nn.Flatten(),
            nn.ReLU(),
            nn.Linear(32 * (SIZE_PX // 16) ** 2, DIMENSION),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, 96, 96) float32 in [-1, 1] -> (n, 256)."""
        return self.trunk(pixels)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        """``heads`` divides ``width``."""
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(n, length, width) -> the same; ``bias`` (n, 1, 1, length) hides what is padding."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + bias
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class TextTower(nn.Module):
    """A token table in two factors, two transformer blocks, the mean over the text."""

    def __init__(self) -> None:
        """Table rows start small: a token that training never meets must say little."""
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, RANK)
        nn.init.normal_(self.table.weight, std=0.02)
        self.widen = nn.Linear(RANK, WIDTH, bias=False)
        nn.init.normal_(self.widen.weight, std=1.0)
        self.positions = nn.Parameter(0.01 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, heads=4) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, DIMENSION, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, length) int64 CLIP tokens -> (n, 256), blind to what follows the end token."""
        end = ids.argmax(1, keepdim=True)  # the end token is the largest id
        seen = torch.arange(ids.shape[1], device=ids.device)[None] <= end
        bias = torch.where(seen, 0.0, -1e4)[:, None, None]
        x = self.widen(self.table(ids).float()) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, bias)
        share = seen.float() / seen.float().sum(1, keepdim=True)
        return self.project((self.norm(x) * share[..., None]).sum(1))


class DualEncoder(nn.Module):
    """Both towers, the learned temperature and heads that exist in training only."""

    def __init__(self) -> None:
        """Draws its weights from torch's global generator."""
        super().__init__()
        self.image, self.text = ImageTower(), TextTower()
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0)))  # 1 / 0.07, CLIP §2.3
        self.heads = nn.Linear(DIMENSION, sum(map(len, ATTRIBUTES.values())))

    def loss(self, pixels: Tensor, ids: Tensor, group: Tensor, labels: Tensor) -> Tensor:
        """Contrastive loss over the batch plus attribute losses over its first rows, the scenes.

        Args:
            pixels: (n, 3, 96, 96) float32 in [-1, 1].
            ids: (n, length) int64.
            group: (n,) int64; rows of one group mean the same and are no negatives to each other.
            labels: (scenes, attributes) int64.
        """
        image = F.normalize(self.image(pixels), dim=1)
        text = F.normalize(self.text(ids), dim=1)
        logits = image @ text.T * self.log_scale.exp().clamp(max=100.0)  # CLIP §2.5 clips at 100
        twins = (group[:, None] == group[None]) & ~torch.eye(len(group), dtype=torch.bool)
        logits = logits.masked_fill(twins, -1e4)
        target = torch.arange(len(group))
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        shown, named = image[: len(labels)], text[: len(labels)]
        main = len(scenes.MAIN_ATTRIBUTES)  # a caption need not name the background
        return contrast + 2 * (self._named(shown, labels) + self._named(named, labels[:, :main]))

    def _named(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of reading the attributes linearly off an embedding of either tower."""
        parts = self.heads(16 * embedding).split([len(v) for v in ATTRIBUTES.values()], 1)
        losses = [F.cross_entropy(p, y) for p, y in zip(parts, labels.T, strict=False)]
        return torch.stack(losses).mean()


def drawn_with(index: int) -> tuple[scenes.Scene, np.random.Generator]:
    """Training scene number ``index`` and the generator that goes on to render it."""
    rng = np.random.default_rng([SEED, index])
    return scenes.draw(rng, split="train"), rng


def rendered(index: int) -> Pixels:
    """(96, 96, 3) uint8: a training scene, through a random source size and codec."""
    scene, rng = drawn_with(index)
    width, height = (int(side) for side in rng.integers(100, 340, 2))
    picture = scenes.render(scene, rng, width_px=width, height_px=height)
    if rng.random() < 0.5:
        encoded = BytesIO()
        picture.save(encoded, "JPEG", quality=int(rng.integers(40, 95)))
        picture = Image.open(encoded).convert("RGB")
    return squashed(picture, SIZE_PX)


def squashed(picture: Image.Image, size_px: int) -> Pixels:
    """(size_px, size_px, 3) uint8."""
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.BICUBIC))


def render_all(count: int) -> Pixels:
    """(count, 96, 96, 3) uint8: the first ``count`` training scenes."""
    pictures = []
    with ProcessPoolExecutor(2) as pool:
        for picture in pool.map(rendered, range(count), chunksize=256):
            if len(pictures) % 5000 == 0:
                print(f"rendered {len(pictures)} of {count} scenes", flush=True)
            pictures.append(picture)
    return np.stack(pictures)


def read_clipart(clipart: Sequence[Clipart]) -> Pixels:
    """(n, 120, 120, 3) uint8, squashed, transparency on white."""
    return np.stack([squashed(on_white(Image.open(c.path)), CLIPART_PX) for c in clipart])


def cached(folder: Path, settings: str, make: Callable[[], Pixels]) -> Pixels:
    """What ``make`` gives, kept in ``folder`` under the digest of all that decides it."""
    stored = folder / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.npy"
    if not stored.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(stored, make())
    return np.load(stored, mmap_mode="r")


def spoken(clipart: Clipart, rng: np.random.Generator) -> str:
    """A caption of the image: title and keywords, some left out, in any order."""
    words = list(rng.permutation(clipart.keywords)) if clipart.keywords else []
    words = [w for w in words if rng.random() < 0.8]
    if rng.random() < 0.15 and words:
        return ", ".join(words)
    return ", ".join([clipart.title, *words])


def varied(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 3, s, s) in [0, 1] with random brightness, contrast and colour cast."""
    n = len(pixels)
    gain = 1 + 0.12 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    cast = 1 + 0.05 * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)
    offset = 0.06 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    return (pixels * gain * cast + offset).clamp(0, 1)


def cropped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 3, 120, 120) -> (n, 3, 96, 96): random zoom, shift and mirror, white outside."""
    n = len(pixels)
    zoom = 0.7 + 0.4 * torch.rand(n, 2, generator=generator)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - zoom).abs()
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = zoom[:, 0] * mirror, zoom[:, 1]
    affine[:, :, 2] = shift
    grid = F.affine_grid(affine, [n, 3, SIZE_PX, SIZE_PX], align_corners=False)
    return 1 - F.grid_sample(1 - pixels, grid, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on; ``pixels`` and ``clipart_pixels`` are (n, s, s, 3) uint8."""

    drawn: list[scenes.Scene]
    pixels: Pixels
    clipart: list[Clipart]
    clipart_pixels: Pixels


Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # pixels, ids, group, labels


def batches(data: Data, *, scenes_per_step: int, clipart_per_step: int) -> Iterator[Batch]:
    """Endless batches: scenes first, then clipart."""
    rng = np.random.default_rng(SEED)
    generator = torch.Generator().manual_seed(SEED)
    titles = {title: i for i, title in enumerate(sorted({c.title for c in data.clipart}))}
    title_ids = np.array([titles[c.title] for c in data.clipart])
    weight = 1 / np.sqrt(np.bincount(title_ids)[title_ids])  # 1,375 images share one title
    meaning: dict[tuple[object, ...], int] = {}
    order: Iterator[int] = iter(())
    while True:
        chosen = list(itertools.islice(order, scenes_per_step))
        if len(chosen) < scenes_per_step:
            order = iter(rng.permutation(len(data.drawn)).tolist())
            continue
        drawn = [data.drawn[i] for i in chosen]
        picked = rng.choice(len(data.clipart), clipart_per_step, False, weight / weight.sum())
        labels = [[v.index(getattr(s, a)) for a, v in ATTRIBUTES.items()] for s in drawn]
        main = [tuple(row[: len(scenes.MAIN_ATTRIBUTES)]) for row in labels]
        texts = [scenes.caption(s, rng) for s in drawn]
        texts += [spoken(data.clipart[i], rng) for i in picked]
        ids = tokenize(texts)
        group = [len(titles) + meaning.setdefault(m, len(meaning)) for m in main]
        rendered_now = nchw(data.pixels[chosen])
        clipart_now = cropped(nchw(data.clipart_pixels[picked]), generator)
        yield (
            normalised(varied(torch.cat([rendered_now, clipart_now]), generator)),
            torch.from_numpy(ids[:, : ids.argmax(1).max() + 1]),  # padding costs time alone
            torch.tensor(group + title_ids[picked].tolist()),
            torch.tensor(labels),
        )


def nchw(pixels: Pixels) -> Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def normalised(pixels: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], the mean and deviation of 0.5 that the card states."""
    return ((pixels - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


def train(data: Data, *, steps: int, rate: float, checkpoint: Path, batch: tuple[int, int]) -> None:
    """Run ``steps`` updates; overwrites ``checkpoint`` every 100 and at the end."""
    torch.manual_seed(SEED)
    model = DualEncoder().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.08, cycle_momentum=False
    )
    started, recent = time.monotonic(), 0.0
    stream = batches(data, scenes_per_step=batch[0], clipart_per_step=batch[1])
    for step, (pixels, ids, group, labels) in enumerate(itertools.islice(stream, steps), start=1):
        loss = model.loss(pixels, ids, group, labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent += (loss.item() - recent) / min(step, 50)
        if step % 50 == 0:
            spent = time.monotonic() - started
            print(
                f"step {step} of {steps}: loss {recent:.3f}, scale {model.log_scale.exp():.1f}, "
                f"{spent:.0f} s, CPU {time.process_time():.0f} s",
                flush=True,
            )
        if step % 100 == 0 or step == steps:
            torch.save({"model": model.state_dict(), "step": step, "steps": steps}, checkpoint)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--openclipart", type=Path, required=True, help="holds svg/ and png/")
    parser.add_argument("--checkpoint", type=Path, default=Path("demo-clip.pt"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo-clip"))
    parser.add_argument("--scenes", type=int, default=40_000, help="rendered pictures")
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--batch", type=int, nargs=2, default=(96, 80), help="scenes, clipart")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    args = parser.parse_args(argv)
    torch.set_num_threads(2)
    clipart = read_openclipart(args.openclipart, "train")
    print(f"{len(clipart)} clipart images to train on", flush=True)
    source = inspect.getsource(scenes) + inspect.getsource(drawn_with) + inspect.getsource(rendered)
    paths = "\n".join(str(c.path) for c in clipart)
    data = Data(
        drawn=[drawn_with(index)[0] for index in range(args.scenes)],
        pixels=cached(args.cache, f"{args.scenes} {source}", lambda: render_all(args.scenes)),
        clipart=clipart,
        clipart_pixels=cached(args.cache, f"{CLIPART_PX} {paths}", lambda: read_clipart(clipart)),
    )
    train(
        data,
        steps=args.steps,
        rate=args.rate,
        checkpoint=args.checkpoint,
        batch=tuple(args.batch),
    )


if __name__ == "__main__":
    main()
