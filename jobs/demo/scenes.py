"""Rendered scenes with captions: the part of the demo whose ground truth is known.

A scene is a group of equal shapes on a soft background. What decides its meaning is in `Scene`;
everything else (size, jitter, tilt, tint, noise) is drawn when it is rendered, so one scene has
endlessly many pictures. Some colour x shape x texture triples are never drawn for training: they
measure whether a model composes attributes or remembers them.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COUNTS: Final = (1, 2, 3, 4, 5)
COLOURS: Final = {  # sRGB, chosen: far apart in hue or lightness, so that jitter does not confuse
    "red": (214, 32, 38),
    "orange": (245, 134, 20),
    "yellow": (246, 217, 30),
    "green": (34, 150, 58),
    "blue": (32, 84, 205),
    "purple": (128, 46, 160),
    "brown": (112, 66, 30),
    "black": (24, 24, 26),
}
TEXTURES: Final = ("plain", "striped", "dotted", "checkered")
SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent")
POSITIONS: Final = ("left", "right", "top", "bottom", "centre")
BACKGROUNDS: Final = ("smooth", "cloudy", "grainy", "wavy")
MAIN_ATTRIBUTES: Final = ("count", "colour", "texture", "shape", "position")

_HELD_OUT_SHARE: Final = 5  # chosen: one triple in five is kept from training
_REGIONS: Final = {  # x0, y0, x1, y1 as shares of the picture; corners stay empty: no word for them
    "left": (0.02, 0.16, 0.47, 0.84),
    "right": (0.53, 0.16, 0.98, 0.84),
    "top": (0.16, 0.02, 0.84, 0.47),
    "bottom": (0.16, 0.53, 0.84, 0.98),
    "centre": (0.23, 0.23, 0.77, 0.77),
}
_NUMBER_WORDS: Final = ("one", "two", "three", "four", "five")
_PLURALS: Final = {"cross": "crosses"}
_TEXTURE_WORDS: Final = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "chequered"),
}
_POSITION_WORDS: Final = {
    "left": ("on the left", "on the left side", "at the left edge"),
    "right": ("on the right", "on the right side", "at the right edge"),
    "top": ("at the top", "in the upper half", "near the top edge"),
    "bottom": ("at the bottom", "in the lower half", "near the bottom edge"),
    "centre": ("in the centre", "in the middle", "in the center"),
}
_PHRASINGS: Final = (
    "{things} {where} of the picture",
    "{things} {where}, on a {background} background",
    "a picture of {things} {where} of the image",
    "there {verb} {things} {where} of this picture",
    "a {background} background with {things} {where}",
    "an illustration with {things} {where}",
    "a drawing that shows {things} {where} of the frame",
    "{where} of the image there {verb} {things}",
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows; two scenes are equal when they mean the same."""

    count: int
    colour: str
    texture: str
    shape: str
    position: str
    background: str


def is_held_out(scene: Scene) -> bool:
    """Whether the scene's colour x shape x texture triple is kept from training."""
    triple = f"{scene.colour} {scene.shape} {scene.texture}"
    return zlib.crc32(triple.encode()) % _HELD_OUT_SHARE == 0


def draw(rng: np.random.Generator, *, split: Literal["train", "held_out"]) -> Scene:
    """A random scene of one split.

    Raises:
        ValueError: the split is unknown.

    >>> draw(np.random.default_rng(0), split="train") == draw(
    ...     np.random.default_rng(0), split="train")
    True
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split {split!r} is neither 'train' nor 'held_out'; name one of them")
    while True:
        scene = Scene(
            count=int(rng.choice(COUNTS)),
            colour=_pick(rng, tuple(COLOURS)),
            texture=_pick(rng, TEXTURES),
            shape=_pick(rng, SHAPES),
            position=_pick(rng, POSITIONS),
            background=_pick(rng, BACKGROUNDS),
        )
        if is_held_out(scene) == (split == "held_out"):
            return scene


def mismatched(scene: Scene, rng: np.random.Generator) -> Scene:
    """A held-out scene that differs in every main attribute, so no caption fits both."""
    while True:
        other = draw(rng, split="held_out")
        if all(getattr(other, name) != getattr(scene, name) for name in MAIN_ATTRIBUTES):
            return other


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """An English sentence of four or more words that names every main attribute."""
    number = _NUMBER_WORDS[scene.count - 1]
    noun = scene.shape
    if scene.count > 1:
        noun = _PLURALS.get(scene.shape, scene.shape + "s")
    elif rng.random() < 0.5:  # chosen: "a red circle" as often as "one red circle"
        number = "an" if scene.colour == "orange" else "a"
    texture = _pick(rng, _TEXTURE_WORDS[scene.texture])
    adjectives = f"{scene.colour} {texture}"
    if number not in ("a", "an") and rng.random() < 0.5:  # an article must agree with the colour
        adjectives = f"{texture} {scene.colour}"
    return _pick(rng, _PHRASINGS).format(
        things=f"{number} {adjectives} {noun}",
        where=_pick(rng, _POSITION_WORDS[scene.position]),
        background=scene.background,
        verb="is" if scene.count == 1 else "are",
    )


def render(scene: Scene, rng: np.random.Generator, *, width_px: int, height_px: int) -> Image.Image:
    """One RGB picture of the scene; every call draws another layout, tint and noise."""
    picture = Image.fromarray(_background(scene.background, rng, width_px, height_px))
    ink = np.clip(COLOURS[scene.colour] + rng.uniform(-14, 14, 3), 0, 255)
    tilt = rng.uniform(-0.2, 0.2)  # radians, chosen: a square stays a square, not a diamond
    for x, y, side in _layout(scene, rng, width_px, height_px):
        mask = _mask(scene.shape, side, tilt + rng.uniform(-0.06, 0.06))
        paint = Image.fromarray(_paint(scene.texture, ink, side, tilt, rng))
        picture.paste(paint, (x, y), mask)
    return picture


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _layout(
    scene: Scene, rng: np.random.Generator, width_px: int, height_px: int
) -> list[tuple[int, int, int]]:
    """Non-overlapping squares (x, y, side) in px, in the region that the position names."""
    x0, y0, x1, y1 = np.multiply(
        _REGIONS[scene.position], (width_px, height_px, width_px, height_px)
    )
    columns, rows = max(
        ((c, r) for c in COUNTS for r in COUNTS if c * r >= scene.count),
        key=lambda grid: min((x1 - x0) / grid[0], (y1 - y0) / grid[1]),
    )
    free_w, free_h = (x1 - x0) / columns, (y1 - y0) / rows
    edge = min(free_w, free_h)
    side = max(8, int(edge * rng.uniform(0.74, 0.94)))
    cell_w, cell_h = min(free_w, 1.4 * edge), min(free_h, 1.4 * edge)  # chosen: stay in the region
    x0, y0 = (x0 + x1 - columns * cell_w) / 2, (y0 + y1 - rows * cell_h) / 2
    cells = rng.permutation(columns * rows)[: scene.count]
    return [
        (
            int(x0 + (cell % columns) * cell_w + rng.uniform(0, max(cell_w - side, 1))),
            int(y0 + (cell // columns) * cell_h + rng.uniform(0, max(cell_h - side, 1))),
            side,
        )
        for cell in cells
    ]


def _background(
    kind: str, rng: np.random.Generator, width_px: int, height_px: int
) -> NDArray[np.uint8]:
    """(height, width, 3) uint8; soft light and dark, away from white so brightening shows."""
    y, x = np.mgrid[0 : 1 : height_px * 1j, 0 : 1 : width_px * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 26 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    if kind == "cloudy":
        coarse = Image.fromarray(rng.uniform(-34, 34, (5, 5)).astype(np.float32))
        light += np.asarray(coarse.resize((width_px, height_px), Image.Resampling.BICUBIC))
    elif kind == "grainy":
        light += 15 * rng.standard_normal((height_px, width_px), dtype=np.float32)
    elif kind == "wavy":
        turn = rng.uniform(0, np.pi)
        along = np.cos(turn) * x + np.sin(turn) * y
        light += 13 * np.sin(2 * np.pi * rng.uniform(5, 8) * along + rng.uniform(0, 6))
    light += rng.standard_normal((height_px, width_px), dtype=np.float32)
    tint = rng.uniform(165, 215) + rng.uniform(-18, 18, 3)
    toned: NDArray[np.float32] = light[..., None] + tint.astype(np.float32)
    return toned.clip(0, 240).astype(np.uint8)


def _outline(shape: str) -> NDArray[np.float64]:
    """(n, 2) corners within [-1, 1]; y points down."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if shape in ("circle", "ring"):
        return np.stack([np.cos(t), np.sin(t)], 1)
    if shape == "square":
        return np.array([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)])
    if shape == "triangle":
        return np.array([(0, -0.95), (0.88, 0.7), (-0.88, 0.7)])
    if shape == "star":
        turn = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2, 0.42, 1.0)
        return np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
    if shape == "heart":  # the well-known parametric heart, scaled to the unit square
        heart_x = 16 * np.sin(t) ** 3
        heart_y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([heart_x / 17, -(heart_y + 2.5) / 15.5], 1)
    if shape == "cross":
        a = 0.34
        corner = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
        return np.array(corner + [(-x, -y) for x, y in corner])
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 32)  # crescent: a disc less a shifted disc
    inner = np.linspace(1.62 * np.pi, 0.38 * np.pi, 32)
    return np.concatenate(
        [
            np.stack([np.cos(outer) + 0.12, np.sin(outer)], 1),
            np.stack([0.76 * np.cos(inner) + 0.55, 0.76 * np.sin(inner)], 1),
        ]
    )


def _mask(shape: str, side: int, tilt: float) -> Image.Image:
    """(side, side) coverage of the tilted shape, drawn at twice the size for smooth edges."""
    turn = np.array([(np.cos(tilt), np.sin(tilt)), (-np.sin(tilt), np.cos(tilt))])
    points = (_outline(shape) @ turn * 0.92 + 1) * side
    mask = Image.new("L", (2 * side, 2 * side))
    pen = ImageDraw.Draw(mask)
    pen.polygon([(float(x), float(y)) for x, y in points], fill=255)
    if shape == "ring":
        hole = (points - side) * 0.52 + side
        pen.polygon([(float(x), float(y)) for x, y in hole], fill=0)
    return mask.reduce(2)


def _paint(
    texture: str, ink: NDArray[np.float64], side: int, tilt: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: the ink, patterned with a second one that stands out from it."""
    second = np.full(3, 246.0 if ink.mean() < 150 else 30.0)  # chosen: white on dark, dark on light
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    u = np.cos(tilt) * x - np.sin(tilt) * y
    v = np.sin(tilt) * x + np.cos(tilt) * y
    turns = 2 * np.pi * rng.uniform(1.1, 1.5)  # chosen: about three stripes, seen even when small
    if texture == "striped":
        pattern = np.sin(turns * v + rng.uniform(0, 6))
    elif texture == "checkered":
        pattern = np.sin(turns * u) * np.sin(turns * v) * 3
    elif texture == "dotted":
        pattern = np.cos(turns * 1.3 * u) + np.cos(turns * 1.3 * v) - 0.75
    else:
        pattern = np.full_like(u, -1.0)
    share = np.clip(pattern * 4 + 0.5, 0, 1)[..., None]
    mixed: NDArray[np.float64] = ink * (1 - share) + second * share
    return mixed.astype(np.uint8)
