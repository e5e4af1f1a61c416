"""A real crawl: documentation that Debian ships, served by nginx, crawled by wget into a WARC."""

import functools
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import lxml.html
import pytest
from warcio.archiveiterator import ArchiveIterator

from jobs.sources.entry import Entry, Limits
from jobs.sources.warc import entries
from tests import nginx

SITE = nginx.CRAWL / "usr/share/doc"
STARTS = ("fontforge/index.html", "xfig/html/index.html")
WARC = {"plain": "crawl.warc", "gzip": "crawl.warc.gz"}
WGET_S = 20
LIMITS = Limits(
    max_member_bytes=64 << 20,
    max_pixels=89_478_485,
    max_decompression_ratio=100,
    max_decompressed_bytes=1 << 30,
)

pytestmark = [
    pytest.mark.skipif(not SITE.is_dir(), reason="no documents; run make .cache/crawl"),
    pytest.mark.skipif(nginx.program() is None, reason="no nginx; run make .cache/crawl"),
    pytest.mark.skipif(shutil.which("wget") is None, reason="no wget; install it"),
]


@dataclass(frozen=True)
class Crawl:
    """What a crawl met, and what our reader says of it.

    Attributes:
        answers: (type, url, file on disk) of every response with status 200, as warcio has it.
        entries: ours.
    """

    answers: list[tuple[str, str, Path]]
    entries: list[Entry]

    def of(self, mime: str) -> dict[str, Path]:
        """URL -> file."""
        return {url: file for found, url, file in self.answers if found == mime}


read = functools.cache(Path.read_bytes)


def wget(url: str, folder: Path, form: str) -> Path:
    """Crawl the site; the path of the archive."""
    options = ["--no-warc-compression"] if form == "plain" else []
    done = subprocess.run(
        [
            *("wget", "--no-config", "--no-proxy", "--quiet", "--tries=1", "--timeout=5"),
            *("--recursive", "--level=inf", "--page-requisites", "--no-parent"),
            "--delete-after",
            *(f"--directory-prefix={folder}/mirror", f"--warc-file={folder}/crawl", *options),
            *(f"{url}/{start}" for start in STARTS),
        ],
        timeout=WGET_S,
        check=False,
    )
    # 8: some links of the documents lead nowhere. 3: on disk, `ja` and `ja/` are one name.
    assert done.returncode in (0, 3, 8)
    return folder / WARC[form]


def answers(archive: Path) -> Iterator[tuple[str, str, Path]]:
    with archive.open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_type == "response" and record.http_headers.get_statuscode() == "200":
                url = record.rec_headers.get_header("WARC-Target-URI")
                file = SITE / unquote(urlsplit(url).path).lstrip("/")
                mime = record.http_headers.get_header("Content-Type")
                yield mime, url, file / "index.html" if file.is_dir() else file


@pytest.fixture(scope="module", params=WARC)
def crawl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Crawl:
    folder = tmp_path_factory.mktemp(request.param)
    with nginx.serving(SITE, folder / "nginx") as server:
        archive = wget(server.url, folder, request.param)
    with archive.open("rb") as stream:
        return Crawl(list(answers(archive)), list(entries(stream, LIMITS, {"main_text": "false"})))


def by_lxml(page_url: str, content: bytes) -> set[tuple[str, str, str]]:
    """What another parser and other code find: page, URL of the image, alt text."""
    images = lxml.html.document_fromstring(content).xpath("//img[@alt and @src]")
    pairs = ((urljoin(page_url, e.get("src")), " ".join(e.get("alt").split())) for e in images)
    return {(page_url, url, alt) for url, alt in pairs if alt and url.startswith("http")}


def test_precision_and_recall_of_the_alt_texts_are_1(crawl: Crawl) -> None:
    found = Counter(
        (entry.extra["page_url"], entry.url, entry.caption)
        for entry in crawl.entries
        if entry.extra.get("caption_kind") == "alt"
    )

    expected = Counter(
        pair for url, file in crawl.of("text/html").items() for pair in by_lxml(url, read(file))
    )
    assert found == expected
    assert len({(url, alt) for _, url, alt in found}) > 200


def test_the_images_come_with_the_bytes_that_lie_on_disk(crawl: Crawl) -> None:
    found = [(entry.url, entry.content) for entry in crawl.entries if entry.is_response]

    expected = {**crawl.of("image/png"), **crawl.of("image/gif"), **crawl.of("image/jpeg")}
    assert Counter(found) == Counter((url, read(file)) for url, file in expected.items())
    assert len(found) > 200


def test_each_page_with_a_body_becomes_a_document(crawl: Crawl) -> None:
    found = [entry.url for entry in crawl.entries if entry.document]

    pages = crawl.of("text/html").items()
    expected = [url for url, file in pages if b"<frameset" not in read(file).lower()]
    assert sorted(map(str, found)) == sorted(expected)
    assert len(found) > 200


def test_only_drawings_are_refused(crawl: Crawl) -> None:
    refused = [entry.error_class for entry in crawl.entries if entry.error_class]

    assert refused == ["not_an_image"] * len(crawl.of("image/svg+xml"))
    assert [entry.position for entry in crawl.entries] == list(range(len(crawl.entries)))
