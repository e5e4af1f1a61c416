import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from jobs.demo import openclipart, prepare
from jobs.runtime.config import load
from jobs.runtime.errors import NotFound
from jobs.sources import webdataset
from jobs.sources.entry import Limits

LIMITS = Limits(
    max_member_bytes=10**6,
    max_pixels=10**6,
    max_decompression_ratio=100,
    max_decompressed_bytes=10**9,
)
DRAWING = """<?xml version="1.0"?>{doctype}
<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<dc:title>{title}</dc:title><dc:subject><rdf:Bag>
<rdf:li>wild_animal</rdf:li><rdf:li/><rdf:li>Hündchen</rdf:li>
</rdf:Bag></dc:subject></rdf:RDF></metadata></svg>"""


def draw(root: Path, name: str, title: str = "A bored dog", doctype: str = "") -> None:
    for kind, content in (
        ("svg", DRAWING.format(title=title, doctype=doctype).encode()),
        ("png", png()),
    ):
        path = root / kind / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (70, 90), "red").save(file, "PNG")
    return file.getvalue()


def said(_line: str) -> None:
    pass


def titles(root: Path) -> list[str]:
    return [clipart.title for clipart in openclipart.pairs(root)]


def test_an_image_carries_its_title_and_keywords_in_their_order(tmp_path):
    draw(tmp_path, "animals/dog", "  A bored dog ")
    (clipart,) = openclipart.pairs(tmp_path)
    assert clipart.path == tmp_path / "png/animals/dog.png"
    assert clipart.caption() == "A bored dog, wild animal, Hündchen"


def test_pairs_come_in_path_order(tmp_path):
    for name in ("b/one", "a/two", "c"):
        draw(tmp_path, name, name)
    assert titles(tmp_path) == ["a/two", "b/one", "c"]


@pytest.mark.parametrize("damage", ["untitled", "no image", "cut drawing"])
def test_what_makes_no_pair_is_left_out_and_its_neighbour_stays(tmp_path, damage):
    draw(tmp_path, "a", "" if damage == "untitled" else "a dog")
    draw(tmp_path, "b", "a cat")
    if damage == "no image":
        (tmp_path / "png/a.png").unlink()
    if damage == "cut drawing":
        path = tmp_path / "svg/a.svg"
        path.write_bytes(path.read_bytes()[:-20])
    assert titles(tmp_path) == ["a cat"]


@pytest.mark.parametrize(
    "entities",
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/hostname">',
        f'<!ENTITY a "{"ha" * 100}">',
    ],
    ids=["nested", "external", "long"],
)
def test_a_drawing_with_a_hostile_entity_is_left_out(tmp_path, entities):
    draw(tmp_path, "a", "&a;", doctype=f"<!DOCTYPE svg [{entities}]>")
    draw(tmp_path, "b", "a cat")
    assert titles(tmp_path) == ["a cat"]


def test_a_drawing_with_a_short_plain_entity_is_read(tmp_path):
    draw(tmp_path, "a", "&a; dog", doctype='<!DOCTYPE svg [<!ENTITY a "bored">]>')
    assert titles(tmp_path) == ["bored dog"]


def test_a_folder_without_drawings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="openclipart-svg"):
        list(openclipart.pairs(tmp_path))


def test_tars_hold_every_pair_once_and_the_source_reads_them(tmp_path):
    for number in range(7):
        draw(tmp_path, f"c{number}", f"dog number {number}")
    openclipart.write(tmp_path / "dump", tmp_path, shards=3, progress=said)
    found = []
    for path in sorted((tmp_path / "dump").iterdir()):
        with path.open("rb") as stream:
            found += webdataset.entries(stream, LIMITS)
    assert [entry.error_class for entry in found] == [None] * 7
    assert [entry.sample_key for entry in found] == [f"{number:06d}" for number in range(7)]
    assert [entry.caption.split(",")[0] for entry in found] == [f"dog number {n}" for n in range(7)]
    assert found[0].content == png()
    assert found[0].extra["file"] == "png/c0.png"
    assert json.loads(found[0].extra["keywords"]) == ["wild animal", "Hündchen"]


def test_the_same_source_gives_the_same_bytes(tmp_path):
    draw(tmp_path, "a")
    for name in ("one", "two"):
        openclipart.write(tmp_path / name, tmp_path, shards=1, progress=said)
    one, two = (next((tmp_path / name).iterdir()).read_bytes() for name in ("one", "two"))
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert {member.mtime for member in tar} == {0}


@pytest.mark.parametrize("shards", [0, 2])
def test_more_shards_than_pairs_or_none_are_refused(tmp_path, shards):
    draw(tmp_path, "a")
    with pytest.raises(ValueError, match="ask for 1 to 1"):
        openclipart.write(tmp_path / "dump", tmp_path, shards=shards, progress=said)


def test_preparing_writes_the_dump_once_with_a_usable_configuration(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_SHARDS", 1)
    draw(tmp_path / "source", "a")
    config = load(str(prepare.openclipart(tmp_path / "demo", tmp_path / "source")))
    assert config.dumps[0].path == str(tmp_path / "demo/dump")
    assert config.recipe.overrides["shorter_side"] == {"min": 64}
    (shard,) = (tmp_path / "demo/dump").iterdir()
    written = shard.stat().st_mtime_ns
    prepare.openclipart(tmp_path / "demo", tmp_path / "source")
    assert shard.stat().st_mtime_ns == written


def test_preparing_from_a_folder_that_is_no_openclipart_leaves_no_dump(tmp_path):
    with pytest.raises(NotFound, match="openclipart-svg"):
        prepare.openclipart(tmp_path / "demo", tmp_path)
    assert not (tmp_path / "demo/dump").exists()
