"""The demo dump: WebDataset tars of scenes and photographs with planted trouble, and the truth.

What is planted, and what must become of it, stands in `truth.jsonl` beside the tars. The pipeline
never reads that file; tests compare with it what the pipeline did.
"""

import io
import itertools
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image

from jobs.demo import films, footage, trouble, truth
from jobs.demo.photographs import PHOTOGRAPHS
from jobs.demo.scenes import Scene, caption, draw, mismatched, render
from jobs.demo.trouble import File, Maker
from udfs.language import NOLANG, Language, lid_176

MIN_SCENES: Final = 20  # chosen: enough originals for the copies of `Plants.small`
BROKEN_SHARD: Final = "demo-broken.tar"
VIDEO_SHARD: Final = "demo-videos.tar"

_SIDES_PX: Final = (200, 512)  # chosen: a half-size copy keeps 100 px, no aspect ratio reaches 3
_SMALL_PX: Final = (40, 40)  # below the 64 px that the demo's configuration asks
_BANNERS_PX: Final = ((1_200, 100), (100, 1_200), (1_440, 120))  # 1:12, large enough otherwise
_EXTENSIONS: Final = ("jpg",) * 7 + ("webp",) * 2 + ("png",)  # chosen: noise as PNG is 5 x JPEG
_QUALITIES: Final = (80, 95)  # chosen: common on the web
_URL_SHARE: Final = 0.2  # chosen: one scene in five says where it was found
_FAR_SHARE: Final = 0.2  # at most one near copy in five may be out of the hash's reach
_SURE: Final = 0.8  # the default recipe's confidence that rejects a foreign language
_PROGRESS_EVERY: Final = 200  # chosen: a line every two seconds or so
_BROKEN_BYTES: Final = 10_000  # chosen: longer than the shortest tar, 1,024 bytes
_MIN_SCENES_PER_SHARD: Final = 4  # chosen: room for a key and its repetition further on

Fate = Literal["scored", "rejected", "quarantined", "cut"]


@dataclass(frozen=True, kw_only=True)
class Plants:
    """How many of each group stand beside the scenes; "each" counts per kind."""

    photographs: int = len(PHOTOGRAPHS)
    exact_copies: int = 30
    media_copies: int = 30
    near_copies_each: int = 20
    swapped_captions: int = 60
    texts_each: int = 5
    small_images: int = 5
    banners: int = 3
    odd_each: int = 2
    trouble_each: int = 2

    @classmethod
    def small(cls) -> "Plants":
        """At least one of every kind, for tests."""
        return cls(
            photographs=2,
            exact_copies=2,
            media_copies=2,
            near_copies_each=3,
            swapped_captions=3,
            texts_each=1,
            small_images=1,
            banners=1,
            odd_each=1,
            trouble_each=1,
        )


DEMO: Final = Plants()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Entry:
    """What one key of a shard holds, and what must become of it."""

    group: str
    files: tuple[File, ...]  # the image first, if there is one
    fate: Fate = "scored"
    cause: str | None = None  # the rejection's reason or the quarantine's error class
    cuts: tuple[int, ...] | None = None  # of a video: the frames that shots begin with by a cut
    scene: Scene | None = None
    original: "_Entry | None" = None
    hamming: int | None = None
    stem: str | None = None  # member name up to its first dot, where the entry's number is not it
    first_type: bytes = tarfile.REGTYPE


_Shard = list[tuple[str, _Entry]]  # key and entry, in the order of the tar


def write(
    folder: Path,
    *,
    seed: int = 0,
    scenes: int = 1_000,
    shards: int = 8,
    plants: Plants = DEMO,
    progress: Callable[[str], None],
) -> None:
    """Write the shards and, last, their truth: where that lies, the dump is complete.

    The same arguments give the same bytes. Shards are meant to be read in the order of their
    names: every copy lies after its original.

    Args:
        folder: made if absent; files of the same names are replaced.
        seed: of everything that is drawn.
        scenes: scenes with their own caption, at least 20 and 4 a shard; plants come on top.
        shards: tars, at least 1; one file that is no tar comes on top.
        plants: what is planted beside the scenes.
        progress: called with a line of text now and then.

    Raises:
        ValueError: no shard, or too few scenes for the shards or the copies asked.
    """
    least = max(MIN_SCENES, _MIN_SCENES_PER_SHARD * shards)
    if shards < 1 or scenes < least:
        raise ValueError(
            f"{scenes} scenes in {shards} shards are fewer than {least} scenes or 1 shard; "
            "ask for more scenes, or for another number of shards"
        )
    rng = np.random.default_rng(seed)
    gallery = _Gallery(rng)
    entries = _planted(gallery, rng, scenes, plants, progress)
    contents = _packed(_in_random_order(entries, rng), shards)
    keys = {entry: key for shard in contents for key, entry in shard}
    for number in range(plants.trouble_each):
        _repeat_a_key(contents[number % shards], number, gallery)
    cut = _quarantined("truncated_shard", gallery.draw()[1])
    contents[-1].append((f"{len(entries):06d}", cut))

    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for number, shard in enumerate(contents):
        path = folder / f"demo-{number:05d}.tar"
        _write_shard(path, shard)
        lines += _truth(path.name, shard, keys)
        progress(f"{path.name}: {len(shard)} entries, {path.stat().st_size / 1e6:.1f} MB")
    _cut_in_last_member(path)  # of the last shard
    (folder / BROKEN_SHARD).write_bytes(rng.bytes(_BROKEN_BYTES))
    lines.append(_line(BROKEN_SHARD, None, 0, _quarantined("unreadable_shard"), {}))
    videos = list(_videos(rng))
    _write_shard(folder / VIDEO_SHARD, videos)
    lines += _truth(VIDEO_SHARD, videos, {})
    progress(f"{VIDEO_SHARD}: {len(videos)} videos")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / truth.FILE_NAME).write_text(text, encoding="utf-8")


class _Gallery:
    """Pictures of which no two are near copies, and captions that nobody takes for foreign."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._hashes: list[int] = []
        self._language = Language(lid_176())

    def admits(self, content: bytes, *, original: bytes | None = None) -> bool:
        """Hang the picture unless it is near one that hangs there, its original aside."""
        value = truth.phash(content)
        near = {other for other in self._hashes if (other ^ value).bit_count() <= truth.NEAR_BITS}
        if near - ({truth.phash(original)} if original else set()):
            return False
        self._hashes.append(value)
        return True

    def draw(
        self,
        make: Maker | None = None,
        *,
        size_px: tuple[int, int] | None = None,
        colour: str | None = None,
    ) -> tuple[Scene, File]:
        """A scene of the held-out split and its picture, encoded by `make`."""
        while True:
            scene = draw(self._rng, split="held_out")
            if colour not in (None, scene.colour):
                continue
            file = (make or self._encode)(self.picture(scene, size_px))
            if self.admits(file.content):
                return scene, file

    def picture(self, scene: Scene, size_px: tuple[int, int] | None = None) -> Image.Image:
        """A picture of the scene, of the usual sizes if none is given; not hung."""
        low, high = _SIDES_PX
        width, height = size_px or self._rng.integers(low, high, 2, endpoint=True).tolist()
        return render(scene, self._rng, width_px=width, height_px=height)

    def caption(self, scene: Scene, *, other_than: str | None = None) -> str:
        """A caption of the scene that lid.176 does not take for another language."""
        while True:
            text = caption(scene, self._rng)
            if text != other_than and not self._is_foreign(text):
                return text

    def _is_foreign(self, text: str) -> bool:
        columns = self._language.finish([text])
        (code,), (sureness,) = columns["language"], columns["language_score"]
        return bool(code not in ("en", NOLANG) and sureness >= _SURE)

    def _encode(self, picture: Image.Image) -> File:
        extension = _EXTENSIONS[int(self._rng.integers(len(_EXTENSIONS)))]
        if extension == "png":
            return trouble.encode(picture, extension)
        quality = int(self._rng.integers(*_QUALITIES))
        return trouble.encode(picture, extension, quality=quality)


def _planted(
    gallery: _Gallery,
    rng: np.random.Generator,
    scenes: int,
    plants: Plants,
    progress: Callable[[str], None],
) -> list[_Entry]:
    """Every entry but those that hang on a place in a shard; originals before their copies."""
    photographs = list(_photographs(gallery, plants.photographs))
    progress(f"took {len(photographs)} photographs")
    matched = []
    for number in range(1, scenes + 1):
        matched.append(_matched(gallery, rng, number))
        if number % _PROGRESS_EVERY == 0 or number == scenes:
            progress(f"drew {number:,} of {scenes:,} scenes")
    originals = iter([matched[i] for i in rng.permutation(scenes)])
    entries = [
        *photographs,
        *matched,
        *(_exact_copy(_next(originals)) for _ in range(plants.exact_copies)),
        *(_media_copy(gallery, _next(originals)) for _ in range(plants.media_copies)),
    ]
    for kind in trouble.NEAR_COPIES:
        entries += _near_copies(gallery, kind, originals, plants.near_copies_each)
    entries += [_swapped(gallery, rng) for _ in range(plants.swapped_captions)]
    entries += _bad_texts(gallery, rng, plants.texts_each)
    entries += _bad_sizes(gallery, plants)
    entries += _odd_formats(gallery, plants.odd_each)
    entries += _damaged(gallery, rng, plants.trouble_each)
    entries += _bad_members(gallery, plants.trouble_each)
    progress(f"planted {len(entries) - scenes:,} other entries")
    return entries


def _sample(group: str, drawn: tuple[Scene, File], text: str | bytes) -> _Entry:
    scene, image = drawn
    return _Entry(group=group, scene=scene, files=(image, _text(text)))


def _text(text: str | bytes) -> File:
    return File("txt", text.encode() if isinstance(text, str) else text)


def _rejected(reason: str, entry: _Entry) -> _Entry:
    return replace(entry, fate="rejected", cause=reason)


def _quarantined(error_class: str, *files: File) -> _Entry:
    return _Entry(group=error_class, files=files, fate="quarantined", cause=error_class)


def _photographs(gallery: _Gallery, count: int) -> Iterator[_Entry]:
    for photograph in PHOTOGRAPHS[:count]:
        image = File(photograph.path.rpartition(".")[2], photograph.content())
        if not gallery.admits(image.content):
            raise ValueError(f"{photograph.path} is a near copy of another photograph; drop one")
        yield _Entry(group="photograph", files=(image, _text(photograph.caption)))


def _matched(gallery: _Gallery, rng: np.random.Generator, number: int) -> _Entry:
    scene, image = gallery.draw()
    entry = _sample("scene", (scene, image), gallery.caption(scene))
    if rng.random() >= _URL_SHARE:
        return entry
    url = f"https://example.org/scenes/{number}.{image.extension}"  # RFC 2606 §3: nobody's host
    facts = File("json", json.dumps({"url": url}).encode())
    return replace(entry, files=(image, facts, entry.files[-1]))


def _next(originals: Iterator[_Entry]) -> _Entry:
    original = next(originals, None)
    if original is None:
        raise ValueError("fewer scenes than copies of scenes; ask for more scenes or fewer copies")
    return original


def _exact_copy(original: _Entry) -> _Entry:
    copy = replace(original, group="exact_copy", original=original, hamming=0)
    return _rejected("duplicate_exact", copy)


def _media_copy(gallery: _Gallery, original: _Entry) -> _Entry:
    assert original.scene is not None  # originals are scenes
    text = gallery.caption(original.scene, other_than=original.files[-1].content.decode())
    copy = _sample("media_copy", (original.scene, original.files[0]), text)
    return _rejected("duplicate_media", replace(copy, original=original, hamming=0))


def _near_copies(
    gallery: _Gallery, kind: str, originals: Iterator[_Entry], count: int
) -> list[_Entry]:
    """Copies of one kind, of which ImageHash finds at least four in five."""
    copies: list[_Entry] = []
    far_left = int(count * _FAR_SHARE)
    while len(copies) < count:
        original = _next(originals)
        copy = _near_copy(gallery, kind, original)
        is_far = copy.fate == "scored"
        if is_far and not far_left:
            continue
        if gallery.admits(copy.files[0].content, original=original.files[0].content):
            copies.append(copy)
            far_left -= is_far
    return copies


def _near_copy(gallery: _Gallery, kind: str, original: _Entry) -> _Entry:
    assert original.scene is not None  # originals are scenes
    source = original.files[0].content
    image = trouble.NEAR_COPIES[kind](truth.as_seen(source))
    bits = (truth.phash(source) ^ truth.phash(image.content)).bit_count()
    copy = _sample(kind, (original.scene, image), gallery.caption(original.scene))
    copy = replace(copy, original=original, hamming=bits)
    return _rejected("duplicate_perceptual", copy) if bits <= truth.NEAR_BITS else copy


def _swapped(gallery: _Gallery, rng: np.random.Generator) -> _Entry:
    scene, image = gallery.draw()
    text = gallery.caption(mismatched(scene, rng))
    return _rejected("clip_score", _sample("swapped_caption", (scene, image), text))


def _bad_texts(gallery: _Gallery, rng: np.random.Generator, count: int) -> Iterator[_Entry]:
    for i in range(count):
        texts = {
            "text_empty": "",
            "text_one_word": trouble.ONE_WORDS[i % len(trouble.ONE_WORDS)],
            "text_long": _long_text(gallery, rng),
        }
        for group, text in texts.items():
            yield _rejected("text_length", _sample(group, gallery.draw(), text))
        for code, sentences in trouble.SENTENCES.items():
            text = sentences[i % len(sentences)]
            yield _rejected("text_language", _sample(f"text_{code}", gallery.draw(), text))


def _long_text(gallery: _Gallery, rng: np.random.Generator) -> str:
    text = ""
    while len(text) < trouble.LONG_CHARS:
        text += gallery.caption(draw(rng, split="held_out")) + ", "
    return text[: trouble.LONG_CHARS]


def _bad_sizes(gallery: _Gallery, plants: Plants) -> Iterator[_Entry]:
    sizes = [("small_image", "image_size", _SMALL_PX)] * plants.small_images
    for i in range(plants.banners):
        sizes.append(("banner", "image_aspect", _BANNERS_PX[i % len(_BANNERS_PX)]))
    for group, reason, size_px in sizes:
        scene, image = gallery.draw(size_px=size_px)
        yield _rejected(reason, _sample(group, (scene, image), gallery.caption(scene)))


def _odd_formats(gallery: _Gallery, count: int) -> Iterator[_Entry]:
    for group, makers in trouble.ODD.items():
        for i in range(count):
            make = makers[i % len(makers)]
            # a grey picture fits a caption that names a colour only where the colour is black
            colour = "black" if make is trouble.grey_16_bit_png else None
            scene, image = gallery.draw(make, colour=colour)
            yield _sample(group, (scene, image), gallery.caption(scene))


def _damaged(gallery: _Gallery, rng: np.random.Generator, count: int) -> Iterator[_Entry]:
    for error_class, makers in trouble.DAMAGED.items():
        for make in makers[:count]:
            scene = draw(rng, split="held_out")
            image = make(gallery.picture(scene))
            yield _quarantined(error_class, image, _text(gallery.caption(scene)))


def _bad_members(gallery: _Gallery, count: int) -> Iterator[_Entry]:
    """Entries whose image is sound, but not what surrounds it in the tar."""

    def sound() -> tuple[File, File]:
        scene, image = gallery.draw()
        return image, _text(gallery.caption(scene))

    for _ in range(count):
        yield _quarantined("missing_image", sound()[1])
        yield _quarantined("missing_caption", sound()[0])
    for content in trouble.NOT_UTF8[:count]:
        yield _quarantined("caption_not_utf8", sound()[0], _text(content))
    for stem in trouble.UNSAFE_STEMS[:count]:
        yield replace(_quarantined("unsafe_member_name", *sound()), stem=stem)
    for link in trouble.LINK_TYPES[:count]:
        yield replace(_quarantined("unsafe_member_type", *sound()), first_type=link)


def _videos(rng: np.random.Generator) -> Iterator[tuple[str, _Entry]]:
    """Films with known cuts, a copy, and damaged ones; the caption is that of the first shot."""
    for number, of in enumerate(films.FILMS.values()):
        scene, content = films.film(of, rng)
        files = (File("mp4", content), _text(caption(scene, rng)))
        entry = _Entry(group="video", files=files, fate="cut", cuts=of.cuts)
        yield f"video_{number}", entry
    for error_class, (container, damaged) in films.DAMAGED.items():
        scene, content = films.film(films.FILMS["one shot"], rng, container=container)
        file = File("mkv" if container == "matroska" else "mp4", damaged(content))
        yield error_class, _quarantined(error_class, file, _text(caption(scene, rng)))
    real, copy = footage.joined(), footage.copy()
    files = (File("mp4", real), _text(footage.CAPTION))
    yield "footage", _Entry(group="video", files=files, fate="cut", cuts=footage.CUTS)
    files = (File("mp4", copy), _text(footage.COPY_CAPTION))
    yield "footage_copy", _Entry(group="video", files=files, fate="cut", cuts=())
    broken = File("mp4", films.cut_short(real))
    yield "footage_broken", _quarantined("truncated_video", broken, _text(footage.CAPTION))


def _in_random_order(entries: Iterable[_Entry], rng: np.random.Generator) -> list[_Entry]:
    """The entries shuffled, each copy somewhere after its original."""
    places: dict[_Entry, float] = {}
    for entry in entries:
        after = places[entry.original] if entry.original else 0.0
        places[entry] = rng.uniform(after, 1)
    return sorted(places, key=places.__getitem__)


def _packed(entries: Sequence[_Entry], shards: int) -> list[_Shard]:
    """The entries under their keys, in shards of about equal length."""
    named = [(entry.stem or f"{number:06d}", entry) for number, entry in enumerate(entries)]
    ends = [len(named) * i // shards for i in range(shards + 1)]
    return [named[start:end] for start, end in itertools.pairwise(ends)]


def _repeat_a_key(shard: _Shard, which: int, gallery: _Gallery) -> None:
    """Append another sound sample under a key that the shard has delivered before."""
    scene, image = gallery.draw()
    key = [key for key, entry in shard if entry.stem is None][which]
    repetition = _quarantined("duplicate_key", image, _text(gallery.caption(scene)))
    shard.append((key, repetition))


def _write_shard(path: Path, shard: _Shard) -> None:
    """A ustar file without times, owners or anything else that differs between two runs."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, entry in shard:
            for number, file in enumerate(entry.files):
                member = tarfile.TarInfo(f"{key}.{file.extension}")
                if number == 0 and entry.first_type != tarfile.REGTYPE:
                    member.type = entry.first_type
                    member.linkname = trouble.LINK_TARGET
                    tar.addfile(member)
                else:
                    member.size = len(file.content)
                    tar.addfile(member, io.BytesIO(file.content))


def _cut_in_last_member(path: Path) -> None:
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    os.truncate(path, last.offset_data + last.size // 2)


def _truth(shard_name: str, shard: _Shard, keys: dict[_Entry, str]) -> Iterator[dict[str, object]]:
    met: Counter[str] = Counter()
    for key, entry in shard:
        yield _line(shard_name, key, met[key], entry, keys)
        met[key] += 1


def _line(
    shard_name: str, key: str | None, occurrence: int, entry: _Entry, keys: dict[_Entry, str]
) -> dict[str, object]:
    is_quarantined = entry.fate == "quarantined"
    return {
        "shard": shard_name,
        "sample_key": key,
        "occurrence": occurrence,
        "member": f"{key}.{entry.files[0].extension}" if entry.files else None,
        "group": entry.group,
        "fate": entry.fate,
        "reason": None if is_quarantined else entry.cause,
        "error_class": entry.cause if is_quarantined else None,
        "original": keys[entry.original] if entry.original else None,
        "hamming": entry.hamming,
        "cuts": entry.cuts,
        "flags": {} if is_quarantined or entry.cuts is not None else truth.facts(*entry.files[0]),
    }
