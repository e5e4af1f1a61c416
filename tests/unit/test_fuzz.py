"""Every parser of dumps and of the web, on inputs that were damaged by chance.

`SLUICE_FUZZ_S` is how long each is tried, `SLUICE_FUZZ_SEED` the chance: a run is replayed by the
seed that it prints. The input being read lies in the test's own folder (`pytest --basetemp`),
also when the process itself dies of it; where it hangs stands beside it, in `hangs_at`.
"""

import faulthandler
import hashlib
import io
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from pyspark.sql.types import StructType

from jobs.fetch import opt_out, urls
from jobs.fetch.robots import Robots
from jobs.ingest import STAGED
from jobs.sources import html
from jobs.sources.entry import Entry, EntryRefused, Limits, Reading
from jobs.sources.facts import PRIVATE_FACTS
from jobs.sources.formats import FORMATS
from jobs.sources.place import Place
from jobs.sources.texts import DETAIL_CHARS
from schemas.error_classes import ERROR_CLASSES
from tests import fuzz_seeds
from tests.fuzz_seeds import CANARY, SEEDS, Seed
from tests.loose_files import fill
from tests.mutations import mutated, packed
from udfs import exif, video_header
from udfs.arrow import record_batch
from udfs.blocklist import Blocklist
from udfs.image_codec import ImageRefused, decode
from udfs.video_header import VideoRefused

BUDGET_S = float(os.environ.get("SLUICE_FUZZ_S", "20"))
SEED = os.environ.get("SLUICE_FUZZ_SEED", "0")
DEADLINE_S: Final = 10.0  # of the processor; chosen: inputs of 256 KiB take milliseconds
HANG_S: Final = 120.0  # chosen: what is only slow has failed by then, on a busy machine too
# chosen: a decompressor and Parquet may hold 16 MiB in a few copies, an image 8 MB of pixels; the
# allocators keep some of it. What grows with the number of inputs passes it within minutes.
GROWTH_BYTES: Final = 384 * 2**20
LIMITS: Final = Limits(
    max_member_bytes=1_000_000,
    max_pixels=2_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000,  # chosen: a few seconds, as what is not packed takes
)
STORED: Final = StructType([f for f in STAGED.fields if f.name in Entry.__dataclass_fields__])
ROWS: Final = 256  # as few as are checked at a time
# As the codec has it; the test runner's own filters replace those of the modules.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\."),
    pytest.mark.timeout(BUDGET_S + 2 * HANG_S),
]


def chance_of(target: str, iteration: int) -> Random:
    """What decides one input; another for each, so that each can be had again alone."""
    return Random(f"{SEED}/{target}/{iteration}")


@contextmanager
def hung(folder: Path) -> Iterator[None]:
    """Ends the process where one input hangs it, also outside of Python."""
    with (folder / "hangs_at").open("w") as file:
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(
    target: str, folder: Path, seeds: int, attempt: Callable[[Random, int | None], None]
) -> None:
    """Try a target until its time is over: each seed as it is, then damaged ones.

    Args:
        target: its name.
        folder: where the input is written to.
        seeds: how many there are.
        attempt: makes an input, of the seed of a number or a damaged one, and reads it.
    """
    before_bytes = 0
    end = time.monotonic() + BUDGET_S
    iteration = 0
    while iteration < seeds or time.monotonic() < end:
        if iteration == seeds:
            before_bytes = peak_bytes()  # with all that is loaded once
        start = time.process_time()
        try:
            with hung(folder):
                attempt(chance_of(target, iteration), iteration if iteration < seeds else None)
            took_s = time.process_time() - start
            assert took_s < DEADLINE_S, f"{took_s:.0f} s"
        except BaseException as error:
            error.add_note(f"{target}: SLUICE_FUZZ_SEED={SEED}, input {iteration}, in {folder}")
            raise
        iteration += 1
    grown_bytes = peak_bytes() - before_bytes
    print(f"{target}: {iteration} inputs of seed {SEED}, {grown_bytes >> 20} MiB more")
    assert before_bytes == 0 or grown_bytes < GROWTH_BYTES


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_dump_gives_entries_and_nothing_else(name: str, tmp_path: Path) -> None:
    target = SEEDS[name]
    seeds = target.make()
    root = tmp_path / "dump"
    fill(tmp_path / "outside", {"canary.png": fuzz_seeds.canary(), "canary.txt": CANARY.encode()})
    dumps = []
    for number, seed in enumerate(seeds):
        dumps.append(root / str(number))
        fill(dumps[-1], dict(seed.files))
        (dumps[-1] / "link.png").symlink_to("../../outside/canary.png")
        (dumps[-1] / "link.txt").symlink_to("../../outside/canary.txt")
        (dumps[-1] / "out").symlink_to("../../outside")

    touched: dict[Path, dict[str, bytes]] = {}  # dump -> what it held before the last damage

    def attempt(chance: Random, number: int | None) -> None:
        for dump, files in touched.items():
            fill(dump, files)
        if number is not None:
            found = check(name, dumps[number], seeds[number])
            assert any(error_class is None for error_class in found)
            return
        number = chance.randrange(len(seeds))
        seed = seeds[number]
        damaged = damage(seed, seeds, target, chance)
        fill(dumps[number], damaged)
        touched.clear()
        touched[dumps[number]] = {path: seed.files[path] for path in damaged}
        check(name, dumps[number], seed)

    fuzz(name, tmp_path, len(seeds), attempt)


def damage(
    seed: Seed, seeds: Sequence[Seed], target: fuzz_seeds.Seeds, chance: Random
) -> dict[str, bytes]:
    """A file of the dump, more often the shard itself, damaged."""
    path = chance.choice([*seed.files])
    if seed.shard in seed.files and chance.random() < 0.8:
        path = seed.shard
    other = chance.choice(seeds)
    content = mutated(seed.files[path], other.files.get(other.shard, b""), target.tokens, chance)
    if chance.random() < 0.7:
        content = target.repaired(content)
    if path == seed.shard and seed.may_be_packed and chance.random() < 0.3:
        content = packed(content, chance)
    return {path: content}


def check(name: str, root: Path, seed: Seed) -> list[str | None]:
    """What became of the entries of a dump, each of which is as it must be."""
    classes: list[str | None] = []
    accepted: set[tuple[str, int]] = set()
    rows: list[dict[str, object]] = []
    reading = Reading(limits=LIMITS, options=seed.options)
    for entry in FORMATS[name].read(Place(str(root), seed.shard), reading):
        assert entry.position == len(classes)
        if entry.error_class is None:
            identity = (str(entry.sample_key), entry.occurrence)
            assert identity not in accepted
            accepted.add(identity)
            check_accepted(entry)
            if entry.content is not None and entry.shard_offset_bytes is not None:
                whole = (root / seed.shard).read_bytes()
                assert whole[entry.shard_offset_bytes :].startswith(entry.content)
        else:
            assert entry.error_class in ERROR_CLASSES
            assert entry.detail
            assert len(entry.detail) <= DETAIL_CHARS
        texts = said(entry)
        assert CANARY not in texts
        texts.encode("utf-8")
        classes.append(entry.error_class)
        rows.append({column: getattr(entry, column) for column in STORED.names})
        if len(rows) == ROWS:
            record_batch(rows, STORED)
            rows.clear()
    record_batch(rows, STORED)
    return classes


def check_accepted(entry: Entry) -> None:
    """What `Entry` promises."""
    assert entry.detail is None
    assert entry.sample_key
    assert not entry.extra.keys() & PRIVATE_FACTS
    if entry.document is not None:
        assert entry.document.items
        assert entry.content is None
    elif entry.video is not None:
        assert (entry.content, entry.mime) == (None, entry.video.header.mime)
    elif entry.content is None:
        assert entry.url is not None
        assert entry.caption is not None
    else:
        assert (entry.url if entry.is_response else entry.caption) is not None
        assert len(entry.content) <= LIMITS.max_member_bytes
        assert CANARY.encode() not in entry.content
        assert entry.media_sha256 == hashlib.sha256(entry.content).hexdigest()
        assert entry.mime is not None
        assert entry.header_width_px is not None
        assert entry.header_height_px is not None
        assert 0 < entry.header_width_px * entry.header_height_px <= LIMITS.max_pixels


def said(entry: Entry) -> str:
    """All texts of an entry, one behind the other."""
    texts = [entry.sample_key, entry.member, entry.detail, entry.caption, entry.url, entry.mime]
    texts += [*entry.extra, *entry.extra.values()]
    if entry.document is not None:
        texts.append(entry.document.title)
        for item in entry.document.items:
            texts += [item.text, item.url, item.path, item.xpath]
    return "\n".join(text or "" for text in texts)


def page(content: bytes, chance: Random) -> None:
    charset = chance.choice((None, "utf-8", "utf-16", "shift_jis", "iso2022_jp", "x"))
    found = html.page(content, "http://a.org/b", charset, with_main_text=True)
    assert all(pair.text and pair.url.startswith(("http://", "https://")) for pair in found.pairs)
    assert all(item.text or item.url for item in found.document.items)


def robots(content: bytes, chance: Random) -> None:
    found = Robots.parse(200, content, "Sluice")
    for path in ("/", "/private/a.jpg", "/%C3%BC?a=1&b", "/" + "a" * chance.choice((1, 2000))):
        assert found.allows(f"http://h{path}") in (True, False)
    assert found.crawl_delay_s is None or found.crawl_delay_s == found.crawl_delay_s


def robots_tag(content: bytes, chance: Random) -> None:
    values = content.decode(chance.choice(("latin-1", "utf-8")), "surrogateescape").split("\n")
    found = opt_out.refusal(values, chance.choice((None, values[0])), "sluice")
    assert found is None or found[0] in ("opted_out", "tdm_reserved")
    more = opt_out.refusal([*values, "noai"], None, "sluice")
    assert more is not None


def refusal(read: Callable[[], object], kind: type[ValueError]) -> Any:
    """Why the input is refused, in the one way there is; null if it is taken."""
    try:
        read()
    except kind as error:
        str(error).encode("utf-8")
        return error
    return None


def url(content: bytes, chance: Random) -> None:
    base = chance.choice((None, urls.parse("http://a.org/b/c?d")))
    text = content.decode("utf-8", "surrogateescape")
    refused = refusal(lambda: urls.parse(text, base), EntryRefused)
    if refused is not None:
        assert refused.error_class == "invalid_url"
        return
    found = urls.parse(text, base)
    assert urls.parse(found.url) == found
    assert found.url.isascii()
    assert len(found.url) <= urls.MAX_CHARS
    assert 0 < found.port < 1 << 16
    assert len(found.url_sha256) == 64
    assert found.site


def scrubbed(content: bytes, _chance: Random) -> None:
    # Of directories that overlap, what is taken out of one may make another of the next.
    assert len(exif.scrub(content)) == len(content)


def image(content: bytes, _chance: Random) -> None:
    def read() -> None:
        found = decode(content, max_pixels=LIMITS.max_pixels)
        assert 0 < found.width_px * found.height_px <= LIMITS.max_pixels

    refused = refusal(read, ImageRefused)
    assert refused is None or refused.error_class in ERROR_CLASSES


def video(content: bytes, _chance: Random) -> None:
    def read() -> None:
        with io.BytesIO(content) as file:
            found = video_header.header(file, size_bytes=len(content), max_pixels=LIMITS.max_pixels)
        assert 0 < found.width_px * found.height_px <= LIMITS.max_pixels
        assert found.rotation_deg in (0, 90, 180, 270)
        repr(found).encode("utf-8")

    refused = refusal(read, VideoRefused)
    assert refused is None or refused.error_class in ERROR_CLASSES


def blocklist(content: bytes, chance: Random) -> None:
    kind = chance.choice([*fuzz_seeds.BLOCKLISTS])
    lines = content.decode("utf-8", "surrogateescape").splitlines()
    refused = refusal(lambda: Blocklist.parse(lines, kind), ValueError)
    assert refused is None or str(refused).startswith("line ")


WEB: Final[
    dict[
        str, tuple[Callable[[bytes, Random], None], Callable[[], Sequence[bytes]], Sequence[bytes]]
    ]
] = {
    "page": (page, lambda: fuzz_seeds.PAGES, fuzz_seeds.HTML_TOKENS),
    "robots": (robots, lambda: fuzz_seeds.ROBOTS, fuzz_seeds.ROBOTS_TOKENS),
    "robots_tag": (robots_tag, lambda: fuzz_seeds.ROBOTS_TAGS, fuzz_seeds.ROBOTS_TAG_TOKENS),
    "url": (url, lambda: fuzz_seeds.URLS, fuzz_seeds.URL_TOKENS),
    "exif": (scrubbed, fuzz_seeds.images, fuzz_seeds.IMAGE_TOKENS),
    "image": (image, fuzz_seeds.images, fuzz_seeds.IMAGE_TOKENS),
    "video": (video, fuzz_seeds.small_videos, fuzz_seeds.VIDEO_TOKENS),
    "blocklist": (
        blocklist,
        lambda: [text for texts in fuzz_seeds.BLOCKLISTS.values() for text in texts],
        fuzz_seeds.URL_TOKENS,
    ),
}


@pytest.mark.parametrize("name", WEB)
def test_what_the_web_sends_is_parsed_or_refused(name: str, tmp_path: Path) -> None:
    read, make, tokens = WEB[name]
    seeds = make()

    def attempt(chance: Random, number: int | None) -> None:
        content = seeds[number] if number is not None else chance.choice(seeds)
        if number is None:
            content = mutated(content, chance.choice(seeds), tokens, chance)
            if chance.random() < 0.7:
                content = fuzz_seeds.png_repaired(content)
        (tmp_path / "input").write_bytes(content)
        read(content, chance)

    fuzz(name, tmp_path, len(seeds), attempt)


def test_no_format_is_forgotten() -> None:
    assert SEEDS.keys() == FORMATS.keys()
    assert all(target.make() for target in SEEDS.values())
