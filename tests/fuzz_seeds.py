"""Small valid dumps of each format, to be damaged; by writers that know nothing of the readers."""

import csv
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

from jobs.sources.interleaved import MMC4, OBELICS, PIN
from tests import videos
from tests.loose_files import picture
from tests.unit import test_exif, test_interleaved, test_warc, test_wat
from tests.unit.test_img2dataset import LEFT
from tests.unit.test_webdataset import tar

CANARY: Final = "k7Qz-what-no-reader-may-ever-see"
# Ways out of a dump: past its root, absolute, and by the links that lie in it.
OUT: Final = ("../outside/canary.png", "/outside/canary.png", "link.png", "out/canary.png")


@dataclass(frozen=True)
class Seed:
    """A dump of one shard.

    Attributes:
        shard: path of the shard, a file or a folder.
        files: by path; the shard among them, or the files of it.
        options: of the configuration.
        may_be_packed: whether the shard may be compressed as a whole.
    """

    shard: str
    files: Mapping[str, bytes]
    options: Mapping[str, str] = field(default_factory=dict)
    may_be_packed: bool = True


@dataclass(frozen=True)
class Seeds:
    """The seeds of a format.

    Attributes:
        make: they are made when they are needed.
        tokens: what means something in the format.
        repaired: sets right what would end the reading at once: checksums.
    """

    make: Callable[[], Sequence[Seed]]
    tokens: Sequence[bytes] = ()
    repaired: Callable[[bytes], bytes] = bytes


def canary() -> bytes:
    """An image that says the canary's word."""
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", CANARY)
    with io.BytesIO() as file:
        Image.new("RGB", (5, 5), "red").save(file, "PNG", pnginfo=told)
        return file.getvalue()


def _lines(rows: Sequence[object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _file(name: str, content: bytes, *, may_be_packed: bool = True, **options: str) -> Seed:
    return Seed(name, {name: content}, options, may_be_packed)


def _link(name: str, to: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def _webdataset() -> list[Seed]:
    facts = json.dumps({"url": "http://x/y", "n": 1, "exif": "{GPS}", "caption": "c"}).encode()
    pairs = [
        (f"{i}.{kind}", picture(i) if kind == "png" else b"words")
        for i in range(3)
        for kind in ("png", "txt")
    ]
    links = [_link(f"link{i}.png", to, tarfile.SYMTYPE) for i, to in enumerate(OUT)]
    links += [_link("hard.png", OUT[0], tarfile.LNKTYPE), _link("dev.png", "", tarfile.CHRTYPE)]
    long = [("folder/" * 30 + "ü.png", picture(1)), ("folder/" * 30 + "ü.json", facts)]
    plain = [
        tar([*pairs, ("3.png", picture(3)), ("3.json", facts)]),
        tar([*links, *pairs, *((name, picture()) for name in OUT)]),
        tar(long),  # names that need headers of their own
    ]
    return [*(_file("a.tar", content) for content in plain), _file("a.tar", _pax())]


def _pax() -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for kind, content in (("png", picture()), ("txt", b"words")):
                info = tarfile.TarInfo("ü" * 120 + f".{kind}")
                info.size, info.mtime = len(content), 1.5
                archive.addfile(info, io.BytesIO(content))
        return file.getvalue()


def tar_repaired(content: bytes) -> bytes:
    """The same with right checksums in what may be headers: POSIX.1 pax, `chksum`."""
    repaired = bytearray(content)
    for start in range(0, len(content) - 511, 512):
        if content[start + 257 : start + 262] == b"ustar":
            repaired[start + 148 : start + 156] = b" " * 8
            total = sum(repaired[start : start + 512])
            repaired[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(repaired)


_ROWS: Final = [
    {"url": f"http://x/{i}.jpg", "text": f"words {i}, 'ü'", "uid": f"k{i}", "WIDTH": i}
    for i in range(6)
]


def _parquet(rows: Sequence[Mapping[str, object]], **how: object) -> bytes:
    with io.BytesIO() as file:
        pq.write_table(pa.Table.from_pylist([*rows]), file, **how)
        return file.getvalue()


def _delimited(delimiter: str) -> bytes:
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, [*_ROWS[0]], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(_ROWS)
        return file.getvalue().encode()


def _table() -> list[Seed]:
    images = [
        row | {"image": {"bytes": picture(i), "path": "a.png"}} for i, row in enumerate(_ROWS)
    ]
    nested = [row | {"tags": [{"a": 1.5}, None], "exif": b"x"} for row in _ROWS]
    whole = [
        _parquet(_ROWS),
        _parquet(images, compression="none", row_group_size=2),
        _parquet(nested, use_dictionary=False, compression="none"),
        _parquet(_ROWS, compression="gzip", data_page_version="2.0", write_page_checksum=True),
        _parquet(
            _ROWS,
            use_dictionary=False,
            column_encoding={
                "text": "DELTA_BYTE_ARRAY",
                "uid": "DELTA_LENGTH_BYTE_ARRAY",
                "WIDTH": "DELTA_BINARY_PACKED",
                "url": "PLAIN",
            },
        ),
    ]
    return [
        *(_file("a.parquet", content, may_be_packed=False) for content in whole),
        _file("a.csv", _delimited(",")),
        _file("a.tsv", _delimited("\t"), quoting="none"),
        _file("a.csv", _delimited(","), header="none", url="0", caption="1"),
        _file("a.jsonl", _lines([*_ROWS, {"url": "http://x", "caption": "ü", "n": [{"a": 1}]}])),
    ]


def _img2dataset() -> list[Seed]:
    def of(form: str) -> dict[str, bytes]:
        folder = LEFT / form
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    shard = "00000.parquet"
    left = [
        Seed(shard, of(form), may_be_packed=False) for form in ("webdataset", "files", "parquet")
    ]
    alone = {name: of("files")[name] for name in of("files") if "/" in name}
    return [*left, Seed("00000", alone, may_be_packed=False), Seed("00000.tar", of("webdataset"))]


def _warc() -> list[Seed]:
    responses = [
        test_warc.html(0),
        test_warc.encoded("http://a.org/1", b"<img src=/1.jpg alt=a>", "chunked gzip"),
        test_warc.encoded("http://a.org/2", b"<img src=/2.jpg alt=a>", "br"),
        test_warc.Response("http://a.org/i.png", picture(), {"Content-Type": "image/png"}),
        test_warc.Response("http://a.org/p", _PAGE, test_warc.HTML),
    ]
    return [
        _file("a.warc", test_warc.archive(responses, gz=False)),
        _file("a.warc.gz", test_warc.archive(responses, gz=True), may_be_packed=False),
        _file("a.warc", test_warc.archive(responses[:2], gz=False), main_text="false"),
    ]


def _wat() -> list[Seed]:
    links = [test_wat.image(f"/{i}.jpg", f"a fox {i}") for i in range(3)]
    payloads = [test_wat.envelope(links, base="/b"), test_wat.envelope(links[:1], page="http://q")]
    return [
        _file("a.wat", test_wat.archive(payloads, gz=False)),
        _file("a.wat.gz", test_wat.archive(payloads), may_be_packed=False),
    ]


def _beside(shard: str, content: bytes, **options: str) -> Seed:
    images = {f"images/{name}": picture(i) for i, name in enumerate(("a.png", "b.png"))}
    return Seed(shard, {shard: content, **images}, options)


def _coco() -> list[Seed]:
    names = ["images/a.png", "images/b.png", *OUT]
    images = [
        {"id": i, "file_name": name, "width": 6, "coco_url": f"http://x/{i}", "license": 1}
        for i, name in enumerate(names)
    ]
    said = [{"id": 10 + i, "image_id": i, "caption": f"words {i}"} for i in range(len(names))]
    document = {
        "info": {"year": 2014},
        "licenses": [{"id": 1, "name": "CC", "url": "http://cc"}],
        "images": images,
        "annotations": said,
    }
    bare = [{"id": i, "file_name": f"{name}"} for i, name in enumerate(["a.png", *OUT])]
    other = {"annotations": said, "images": bare}
    return [
        _beside("captions.json", json.dumps(document).encode()),
        _beside("captions.json", json.dumps(other, indent=1).encode(), images="images"),
    ]


def _llava() -> list[Seed]:
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cat"}]
    names = ["images/a.png", "images/b.png", "a.png", "http://x/y.png", *OUT]
    records = [{"id": i, "image": name, "conversations": talk} for i, name in enumerate(names)]
    return [
        _beside("mix.json", json.dumps(records).encode()),
        _beside("mix.jsonl", _lines(records)),
        _beside("mix.json", json.dumps(records, indent=2).encode(), images="images"),
    ]


def _folder() -> list[Seed]:
    rows = [{"file_name": name, "text": "words", "n": 1} for name in ("a.png", *OUT)]
    cells = "".join(f"{row['file_name']},words\n" for row in rows)
    facts = json.dumps({"caption": "c", "url": "http://x", "exif": "g"}).encode()
    beside = {"a.png": picture(0), "b.png": picture(1), "b.txt": b"words", "c.png": picture(2)}
    beside |= {"c.json": facts, "link.txt.caption": b"alone"}
    return [
        Seed(".", beside, may_be_packed=False),
        Seed(".", beside | {"metadata.jsonl": _lines(rows)}, may_be_packed=False),
        Seed(
            ".", beside | {"metadata.csv": f"file_name,text\n{cells}".encode()}, may_be_packed=False
        ),
    ]


def _interleaved(name: str) -> Callable[[], list[Seed]]:
    def seeds() -> list[Seed]:
        rows = [test_interleaved.good(name, key) for key in "pqr"]
        if name == PIN:
            ways = " ".join(f"![x]({way})" for way in OUT)
            rows.append({"id": "out", "md": f"words {ways} ![a](b/c.png)"})
        found = [_file("a.jsonl", _lines(rows))]
        if name == OBELICS:
            content = test_interleaved.parquet([dict(row) for row in rows], row_group_size=2)
            found.append(_file("a.parquet", content, may_be_packed=False))
        if name == MMC4:
            zipped = test_interleaved.zipped(_lines(rows))
            found.append(_file("a.jsonl.zip", zipped, may_be_packed=False))
        return found

    return seeds


_JSON_TOKENS: Final = (
    b"{",
    b"[",
    b"}",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0000",
    b"true",
    b"[" * 5000,
    b'{"a":' * 2000,
    b'"id"',
    b'"exif":{},',
    b"[]",
    b"{}",
)
_LINE_TOKENS: Final = (b",", b"\t", b'"', b'""', b"\n", b"\r\n", *_JSON_TOKENS)
_TAR_TOKENS: Final = (
    b"ustar",
    bytes(512),
    bytes(1024),
    b"\x80" + bytes(11),
    b"\xff" * 12,
    b"././@LongLink",
    b"L",
    b"K",
    b"x",
    b"g",
    b"S",
    b"30 size=99999999999\n",
    b"20 path=../../x\n",
    b"27 GNU.sparse.major=1\n",
)
_WARC_TOKENS: Final = (
    b"WARC/1.0\r\n",
    b"WARC/1.1\r\nWARC-Type: response\r\n",
    b"\r\n\r\n",
    b"Content-Length: 9\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"Content-Encoding: br\r\n",
    b"Content-Encoding: gzip, deflate\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\nfffffff\r\n",
    b"Content-Type: image/png\r\n",
    b"WARC-Truncated: length\r\n",
    b"charset=utf-16",
    b"WARC-Record-ID: <urn:uuid:x>\r\n",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
)
HTML_TOKENS: Final = (
    b"<img src=a alt=b>",
    b"<figure>",
    b"<figcaption>",
    b"</figure>",
    b"<picture>",
    b"<source srcset='a 1x, b 9999w'>",
    b"<base href=//x>",
    b"<svg>",
    b"<math>",
    b"<template>",
    b"<select>",
    b"<table>",
    b"<plaintext>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"<script>",
    b"</",
    b"<p>",
    b"<b>",
    b"<a>",
    b"<pre>",
    b"<meta charset=utf-16>",
    b"&#0;",
    b"&#xd800;",
    b"&nbsp",
    b"<frameset>",
    b"<title>",
    b"<noscript>",
    b"\xef\xb7\x90",
)
_PARQUET_TOKENS: Final = (
    b"PAR1",
    b"\x15",
    b"\x19",
    b"\x1c",
    b"\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x18",
    b"\x16",
)

SEEDS: Final[Mapping[str, Seeds]] = {
    "webdataset": Seeds(_webdataset, _TAR_TOKENS, tar_repaired),
    "table": Seeds(_table, (*_LINE_TOKENS, *_PARQUET_TOKENS)),
    "img2dataset": Seeds(_img2dataset, (*_TAR_TOKENS, *_PARQUET_TOKENS), tar_repaired),
    "warc": Seeds(_warc, (*_WARC_TOKENS, *HTML_TOKENS)),
    "wat": Seeds(_wat, (*_WARC_TOKENS, *_JSON_TOKENS)),
    "coco": Seeds(_coco, _JSON_TOKENS),
    "llava": Seeds(_llava, _JSON_TOKENS),
    "folder": Seeds(_folder, _LINE_TOKENS),
    OBELICS: Seeds(_interleaved(OBELICS), (*_JSON_TOKENS, *_PARQUET_TOKENS)),
    MMC4: Seeds(_interleaved(MMC4), (*_JSON_TOKENS, b"PK\x01\x02", b"PK\x05\x06")),
    PIN: Seeds(_interleaved(PIN), (*_JSON_TOKENS, b"![a](", b"![", b"](", b"../x.png")),
}

_PAGE: Final = (
    b"<!doctype html><html><head><meta charset=utf-8><title>T</title><base href='http://b.org/c/'>"
    b"</head><body><header><img src=logo.png alt=logo></header><article><h1>Foxes</h1><p>A fox "
    b"<b>runs</b>.<figure><img src=a.jpg alt='a fox'><figcaption>The <i>fox</i></figcaption>"
    b"</figure><picture><source srcset='l.webp 800w, m.webp 400w'><img data-src=d.jpg alt=d>"
    b"</picture><table><tr><td>1<td>2</table><pre>a\n  b</pre><script>x</script><ul><li>x<li>y"
    b"</ul><svg><path d='M0 0'/></svg></article></body></html>"
)
PAGES: Final = (
    _PAGE,
    "<p>caf\u00e9 <img src=x alt='\u72d0\u72f8'>".encode(),
    b"<img src=a alt=b>" * 20,
)
ROBOTS: Final = (
    b"User-agent: *\nDisallow: /private\nAllow: /private/a*.jpg$\nCrawl-delay: 2.5\n",
    b"\xef\xbb\xbfUser-agent: sluice\nUser-agent: other\nDisallow: /\n\nSitemap: http://h/s.xml\n",
    "User-agent: Sluice/1.0 # us\r\nDisallow: /ü?a=*&b\r\nAllow: /index.html\r".encode(),
)
ROBOTS_TOKENS: Final = (
    b"*",
    b"$",
    b"*" * 50,
    b"User-agent:",
    b"Disallow:",
    b"Allow:",
    b"Crawl-delay:",
    b"Request-rate: 1/1",
    b"Visit-time: 0-9",
    b"#",
    b"%",
    b"%2",
    b"%ff",
    b"?",
    b"nan",
    b"inf",
    b"/",
)
ROBOTS_TAGS: Final = (
    b"noindex, nofollow",
    b"otherbot: noindex, Sluice: NOAI\nnoimageai",
    b"unavailable_after: 25 Jun 2999 15:00:00 PST, max-snippet:-1",
    b"unavailable_after: Friday, 25-Jun-30 15:00:00 PST; all",
    b"unavailable_after: 2030-06-25T00:00:00+02:00",
)
ROBOTS_TAG_TOKENS: Final = (
    b"unavailable_after:",
    b"sluice:",
    b"*:",
    b"noai",
    b",",
    b";",
    b":",
    b"+9999",
    b"-2400",
    b"GMT",
    b"9999-12-31",
    b"0000",
    b"1",
)
URLS: Final = (
    b"http://a.org/b/../c%20d.jpg?x=1&y=%zz#f",
    "HTTPS://Bücher.Example:8443/ä b".encode(),
    b"http://[2001:db8::1]:80/",
    b"//h.example/x",
    b"http://127.0.0.1/a",
    b"../up?q",
)
URL_TOKENS: Final = (
    b"http:",
    b"//",
    b"\\",
    b"@",
    b":",
    b"[",
    b"]",
    b"%",
    b"xn--",
    b"0x7f",
    "。".encode(),
    "ß".encode(),
    "\u200d".encode(),
    b"..",
    b"%2e",
    b"::ffff:1.2.3.4",
    b"%25eth0",
    b"?",
    b"#",
    b"\t",
)


def images() -> list[bytes]:
    """Images of each accepted format, and some with what a camera says in them."""
    return [
        *(test_exif.saved(kind, exif=test_exif.exif()) for kind in test_exif.FORMATS),
        *(test_exif.saved(kind, xmp=test_exif.XMP) for kind in ("JPEG", "PNG", "WEBP")),
        *(test_exif.saved(kind) for kind in ("GIF", "BMP", "TIFF")),
    ]


IMAGE_TOKENS: Final = (
    b"\xff\xd8",
    b"\xff\xe1",
    b"\xff\xd9",
    b"\xff\xda",
    b"Exif\0\0",
    b"II*\0",
    b"MM\0*",
    b"eXIf",
    b"iTXt",
    b"zTXt",
    b"IDAT",
    b"IEND",
    b"fcTL",
    b"acTL",
    b"iCCP",
    b"VP8X",
    b"ANMF",
    b"http://ns.adobe.com/xap/1.0/\0",
    b"GIF89a",
    b"\x21\xff\x0b",
    b"MPF\0",
    b"\x25\x88\x04\x00",
    b"\x69\x87\x04\x00",
    b"RIFF",
    b"WEBP",
)


def small_videos() -> list[bytes]:
    """A video of each accepted container, with the index at the end, in front and in pieces."""
    return [
        *(videos.video(kind) for kind in videos.KINDS if kind != "mov"),  # its sound is large
        videos.video("mov", audios=0, rotation=90),
        videos.video(options={"movflags": "faststart"}),
        videos.video(options={"movflags": "frag_every_frame+empty_moov"}),
        videos.song(cover=True),
    ]


VIDEO_TOKENS: Final = (
    *(b"ftypqt  ", b"moov", b"cmov", b"trak", b"mdia", b"stbl", b"stsd", b"stsz", b"stz2"),
    *(b"stts", b"ctts", b"stsc", b"stco", b"co64", b"elst", b"sidx", b"moof", b"mfra", b"trun"),
    *(b"dref", b"alis", b"meta", b"iloc", b"avc1", b"mp4v", b"s263", b"rle ", b"covr"),
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"),
    *(b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x44\x89", b"\x76\x75", b"\x6d\x80"),
    *(b"\x01\xff\xff\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
    *(b"LIST", b"strh", b"strf", b"idx1", b"indx", b"dmlh", b"GAB2", b"movi"),
    *(b"\x47\x40\x00\x10", b"\x00\x00\x01\xba", b"\x00\x00\x01\xbc", b"\x00\x00\x01\xe0"),
    *(b"\x00\x00\x01\x67", b"\x00\x00\x01\xb3", b"#EXTM3U\n", b"ffconcat version 1.0\nfile x\n"),
)


def png_repaired(content: bytes) -> bytes:
    """The same with right checksums in the chunks of a PNG, as far as they can be followed."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    repaired, at = bytearray(content), 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        repaired[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(repaired)


BLOCKLISTS: Final = {
    "domain": (b"example.com # why\n\nb\xc3\xbccher.example\n2001:db8::1\n", b"a.b.c\n127.0.0.1\n"),
    "sha256": (b"0" * 64 + b"\n# x\n" + b"aB" * 32, b"f" * 64 + b"\r\n"),
}
