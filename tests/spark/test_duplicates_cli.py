"""`sluice duplicates` on a small warehouse: what stands now, the survivor first."""

import json
from pathlib import Path

import pytest
import typer
from selectolax.lexbor import LexborHTMLParser
from typer.testing import CliRunner

from jobs import duplicate_clusters, duplicates_cli
from jobs.duplicate_clusters import MOST_CHARS, clusters_of, largest
from jobs.report import cluster_page
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse
from tests.told_rows import append, jpeg

VERDICTS = (
    "kind string, sample_id string, ingest_ordinal long, node long, is_duplicate boolean, "
    "representative_id string, similarity float, cluster_id string, revision int"
)
HOSTILE = "</bdi><script>alert(1)</script>" * 2000
CAPTIONS = {
    "a": "a cat on a mat",
    "b": "a cat on the mat",
    "c": HOSTILE,
    "d": "a dog " + "and another " * 3000,
    "e": "a bird",
    "v": "a film",
}
URL = "http://a.example/?<script>"


def verdict(kind, name, survivor, similarity=1.0, *, cluster=None, revision=0):
    place = ord(name) - ord("a")
    return (
        *(kind, name, place, place, name != survivor, survivor, similarity),
        *(cluster or survivor, revision),
    )


ROWS = [
    # phash: a and c and v stand for the cluster; b was alone, then a bridge joined it.
    verdict("phash", "a", "a"),
    verdict("phash", "b", "b"),
    verdict("phash", "b", "a", 0.953125, cluster="a", revision=1),
    verdict("phash", "c", "a", 0.890625),
    verdict("phash", "v", "b", 0.9, cluster="b"),
    verdict("phash", "v", "b", 0.9, cluster="a", revision=1),
    verdict("phash", "e", "e"),
    # d left its cluster: the newest verdict counts, not one that an earlier file holds.
    verdict("phash", "d", "d", cluster="d", revision=2),
    verdict("phash", "d", "a", 0.9, revision=1),
    verdict("minhash", "a", "a"),
    verdict("minhash", "b", "a", 0.8),
    verdict("minhash", "c", "a", 0.7),
    verdict("minhash", "d", "a", 0.75),
    verdict("minhash", "g", "a", 0.9),  # taken down since: no sample any more
    verdict("exact_url", "a", "a"),
    verdict("exact_url", "c", "a"),
    verdict("video", "x", "x"),
    verdict("video", "y", "x", 0.8),
]


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    for layer in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP DATABASE IF EXISTS {layer} CASCADE")  # what other tests registered
    filled = Warehouse(spark, str(tmp_path_factory.mktemp("warehouse")))
    frame = spark.createDataFrame(ROWS, VERDICTS).coalesce(1)
    frame.where("revision = 0").write.format("delta").save(filled.path("silver.duplicates"))
    later = frame.where("revision > 0").write.format("delta").mode("append")
    later.save(filled.path("silver.duplicates"))
    append(
        filled,
        "bronze.samples",
        *(
            {"sample_id": s, "media_sha256": f"m{s}", "caption": caption, "url": URL}
            | {"modality": "video_text" if s == "v" else "image_text", "size_bytes": 1000}
            for s, caption in CAPTIONS.items()
        ),
    )
    append(
        filled,
        "bronze.media",
        *(
            {"media_sha256": f"m{s}", "content": b"no image" if s == "e" else jpeg(30 * place)}
            for place, s in enumerate(CAPTIONS)
        ),
    )
    append(
        filled,
        "silver.image_signals",
        *({"media_sha256": f"m{s}", "nsfw_score": score} for s, score in [("a", 0.1), ("b", 0.9)]),
        {"media_sha256": "ma", "nsfw_score": None},
    )
    # Two clips of one film; the second was measured twice.
    append(
        filled,
        "silver.clip_pairs",
        *(
            {"sample_id": clip, "video_sample_id": "v", "signal_set": signal_set}
            for clip, signal_set in (("x", "s"), ("y", "s"), ("y", "t"))
        ),
    )
    return filled


@pytest.fixture
def run(warehouse):
    """The commands as the command line has them, but with this warehouse."""
    group = typer.Typer()
    settings = Config(warehouse=warehouse.root, dumps=(Dump(name="d", path="x"),))

    def opened(config, *, verbose):
        assert config is settings
        assert not verbose
        return warehouse

    duplicates_cli.add_to(group, lambda function: function, lambda *_: settings, opened, opened)

    def run(*arguments):
        return CliRunner().invoke(group, arguments, catch_exceptions=False)

    return run


def of(warehouse, name, limit=10, **options):
    return {c.kind: c for c in clusters_of(warehouse, name, limit=limit, **options)}


@pytest.fixture(scope="module")
def of_a(warehouse):
    return of(warehouse, "a")


def names(cluster):
    return [member.sample_id for member in cluster.members]


def test_a_sample_is_shown_with_the_cluster_it_is_in_now(warehouse, of_a):
    assert set(of_a) == {"minhash", "phash", "exact_url"}
    found = of(warehouse, "b")
    assert set(found) == {"minhash", "phash"}
    phash = found["phash"]
    assert phash == of_a["phash"]
    assert names(phash) == ["a", "b", "v", "c"]  # survivor first, then by similarity
    assert [m.is_duplicate for m in phash.members] == [False, True, True, True]
    assert phash.members[1].similarity == 0.953125
    assert phash.members[2].representative_id == "b"
    assert phash.samples == 4


def test_a_sample_that_left_its_cluster_is_not_in_it(warehouse):
    found = of(warehouse, "d", kind="phash")
    assert set(found) == {"phash"}
    assert names(found["phash"]) == ["d"]
    assert found["phash"].samples == 1


def test_a_limit_keeps_the_survivor_and_the_sample_itself(warehouse):
    found = of(warehouse, "c", limit=2, kind="minhash")["minhash"]
    assert names(found) == ["a", "c"]
    assert found.samples == 5


def test_texts_are_bounded_and_those_taken_down_are_told(of_a):
    by_name = {m.sample_id: m for m in of_a["minhash"].members}
    assert len(by_name["d"].text) == MOST_CHARS
    assert by_name["d"].is_cut
    assert not by_name["a"].is_cut
    assert by_name["g"].text is None


def test_a_clip_is_shown_with_the_text_of_its_video(warehouse):
    found = of(warehouse, "y")["video"]
    assert [(m.sample_id, m.text, m.modality) for m in found.members] == [
        ("x", "a film", "video_text"),
        ("y", "a film", "video_text"),
    ]


def test_a_sample_without_a_verdict_is_not_found(warehouse, spark, tmp_path):
    with pytest.raises(NotFound, match=r"sample 'nobody' has no verdict .* `sluice why`"):
        of(warehouse, "nobody")
    with pytest.raises(
        NotFound, match="no verdict of kind semantic; it has exact_url, minhash, phash"
    ):
        of(warehouse, "a", kind="semantic")
    with pytest.raises(NotFound, match=r"silver\.duplicates is not in"):
        of(Warehouse(spark, str(tmp_path)), "a")


def test_the_largest_clusters_come_first(warehouse):
    found = largest(warehouse, min_size=2, limit=2)
    assert [(row["kind"], row["sample_id"], row["samples"]) for row in found] == [
        ("minhash", "a", 5),
        ("phash", "a", 4),
    ]
    assert found[0]["contents"] == 5
    assert found[0]["duplicates"] == 4
    assert found[1]["least_similarity"] == 0.890625
    assert largest(warehouse, kind="exact_url", min_size=100, limit=10) == []
    with pytest.raises(NotFound, match=r"kind x in .*; there are exact_url, minhash, phash, video"):
        largest(warehouse, kind="x", min_size=2, limit=10)


def test_the_page_is_one_harmless_file(run, warehouse, tmp_path):
    before = warehouse.version("silver.duplicates")
    path = tmp_path / "new" / "page.html"
    said = run("show", "a", "--html", str(path)).output
    assert str(path) in said.replace("\n", "")
    assert "survivor" in said
    tree = LexborHTMLParser(path.read_text(encoding="utf-8"))
    assert [node.text() for node in tree.css("h2")] == ["exact_url", "minhash", "phash"]
    assert len(tree.css(".pair")) == 5
    assert len(tree.css("figure")) == 4 + 2
    assert not tree.css("script")
    sources = [node.attributes["src"] for node in tree.css("[src]")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert [node.attributes["href"] for node in tree.css("[href]")] == ["data:,"]
    # b is not safe, c was never scored, v is a film.
    assert [node.attributes["alt"] for node in tree.css("figure img")][2:] == [
        "Image of sample a",
        *["Blurred image"] * 3,
    ]
    assert URL in tree.css("figure")[0].text()
    assert "no longer stored" in tree.body.text()
    assert warehouse.version("silver.duplicates") == before


def test_media_are_read_in_groups_that_fit_and_machines_get_the_rows(run, warehouse, monkeypatch):
    monkeypatch.setattr(cluster_page, "_BATCH_BYTES", 1500)
    asked = []
    reading = cluster_page.media
    monkeypatch.setattr(
        cluster_page, "media", lambda w, keys: asked.append([*keys]) or reading(w, keys)
    )
    said = run("show", "b", "--kind", "phash", "--unblurred", "--json", "--limit", "3").output
    (line,) = map(json.loads, said.splitlines())
    assert [member["sample_id"] for member in line["members"]] == ["a", "b", "v"]
    assert asked == [["ma"], ["mb"], []]  # films are not opened
    page = Path(warehouse.root) / "_report" / "duplicates" / "b.html"
    html = page.read_text(encoding="utf-8")
    assert len(LexborHTMLParser(html).css("figure")) == 3
    assert "Blurred" not in html


def test_clusters_are_listed(run, warehouse, monkeypatch):
    found = largest(warehouse, kind="phash", min_size=1, limit=20)
    assert [row["samples"] for row in found] == [4, 1, 1]
    monkeypatch.setattr(
        duplicate_clusters, "largest", lambda *_, min_size, **__: found[: 4 - min_size]
    )
    said = run("list", "--kind", "phash").output
    assert "least similarity" in said
    assert "0.891" in said
    assert [json.loads(line) for line in run("list", "--json").output.splitlines()] == found[:2]
    assert "no cluster of 4 samples or more" in run("list", "--min-size", "4").output


def test_a_page_that_cannot_be_written_is_an_argument_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(duplicate_clusters, "clusters_of", lambda *_, **__: [])
    with pytest.raises(ConfigError, match=r"--html got .*; name a file that can be written"):
        run("show", "e", "--html", str(tmp_path))
    assert run("show", "e", "--limit", "1").exit_code == 2
