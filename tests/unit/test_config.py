"""A configuration is taken whole or refused with every problem and what is allowed."""

from typing import get_args

import pytest

from jobs.dedup import schemes
from jobs.runtime import config, strict_yaml
from jobs.runtime.errors import ConfigError
from jobs.sources.formats import FORMATS
from udfs import crop_match
from udfs.clip_match import LEAST_SIMILARITY
from udfs.minhash import RMINHASH, Scheme

SMALLEST = "warehouse: tables\ndumps: [{name: crawl, path: tars}]\n"


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return config.load(str(file), overrides)

    return load


@pytest.fixture
def refusal(load):
    def refusal(text, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        return str(caught.value)

    return refusal


def test_two_keys_are_enough(load):
    loaded = load(SMALLEST)

    assert [dump.name for dump in loaded.dumps] == ["crawl"]
    assert loaded.models == config.Models(clip="demo-clip", nsfw="open-nsfw", device="auto")
    assert loaded.recipe == config.RecipeRef(name="default", overrides={})
    assert loaded.ingest.max_pixels == 89_478_485


def test_relative_paths_mean_relative_to_the_file(load, tmp_path):
    loaded = load(SMALLEST + "models: {clip: ./clip}\nrecipe: {name: mine/strict.yaml}")

    assert loaded.warehouse == str(tmp_path / "tables")
    assert loaded.dumps[0].path == str(tmp_path / "tars")
    assert loaded.models.clip == str(tmp_path / "clip")
    assert loaded.recipe.name == str(tmp_path / "mine" / "strict.yaml")


@pytest.mark.parametrize("path", ["/data/tars", "s3a://bucket/tars", "file:/data/tars"])
def test_absolute_paths_and_addresses_stay_as_they_are(load, path):
    assert load(SMALLEST, f"dumps.0.path={path}").dumps[0].path == path


@pytest.mark.parametrize(
    ("override", "where", "value"),
    [
        ("warehouse=/w", lambda c: c.warehouse, "/w"),
        ("dumps.0.name=other", lambda c: c.dumps[0].name, "other"),
        ("quality.min_rows=7", lambda c: c.quality.min_rows, 7),
        ("lineage.tracking_uri=null", lambda c: c.lineage.tracking_uri, None),
        (
            "recipe.overrides.alignment.min=0.25",
            lambda c: c.recipe.overrides["alignment"]["min"],
            0.25,
        ),
        (
            "recipe.overrides.language.one_of=[en, de]",
            lambda c: c.recipe.overrides["language"]["one_of"],
            ["en", "de"],
        ),
        (
            "spark.conf.spark.sql.ansi.enabled=true",
            lambda c: c.spark.conf["spark.sql.ansi.enabled"],
            "true",
        ),
        ("spark.conf.spark.executor.cores=2", lambda c: c.spark.conf["spark.executor.cores"], "2"),
    ],
)
def test_an_override_replaces_one_value_with_what_yaml_makes_of_it(load, override, where, value):
    assert where(load(SMALLEST, override)) == value


def test_an_override_leaves_its_neighbours_alone(load):
    text = SMALLEST + "quality: {min_rows: 3, max_quarantined_share: 0.5}"

    assert load(text, "quality.min_rows=4").quality.max_quarantined_share == 0.5


def test_the_last_override_of_a_key_counts(load):
    assert load(SMALLEST, "quality.min_rows=4", "quality.min_rows=5").quality.min_rows == 5


def test_an_unknown_key_is_refused_with_the_likely_one_and_all_allowed(refusal):
    assert refusal(SMALLEST + "modls: {}") == (
        "configuration got modls; did you mean models? allowed warehouse, dumps, models, signals,"
        " recipe, quality, lineage, spark, ingest, scoring, video, dedup, fetch, guard, breaker"
    )
    assert refusal(SMALLEST, "dumps.0.pth=x") == (
        "dumps.0 got pth; did you mean path? allowed name, path, format, options"
    )


def test_every_problem_gets_its_line(refusal):
    lines = refusal(SMALLEST + "models: {clp: a, device: gpu}\ningest: {max_pixels: 0}").split("\n")

    assert sorted(lines) == [
        "ingest.max_pixels got 0; allowed greater than or equal to 1",
        "models got clp; did you mean clip? allowed clip, nsfw, language, text_area, faces,"
        " sentence, toxicity, watermark, aesthetic, nsfw_head, violence, speech, shots,"
        " device, tasks_per_gpu",
        "models.device got 'gpu'; allowed 'auto', 'cpu' or 'cuda'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "configuration got None; allowed keys and their values"),
        ("- a", "configuration got ['a']; allowed keys and their values"),
        ("dumps: []\nwarehouse: w", "dumps got none; allowed one or more"),
        ("dumps: [{name: a, path: b}]", "warehouse got nothing; allowed a value"),
        (
            "warehouse: w\ndumps: [{name: a, path: b}, {name: a, path: c}]",
            "dumps got names a, a; allowed each name once",
        ),
        ("warehouse: w\ndumps: [{name: A b, path: p}]", "dumps.0.name got 'A b'; allowed match"),
        (SMALLEST + "quality: {max_quarantined_share: 1.5}", "allowed less than or equal to 1"),
        (SMALLEST + "spark: {driver_memory: lots}", "spark.driver_memory got 'lots'; allowed"),
        (SMALLEST + "warehouse: again", "got key warehouse twice; allowed once"),
        ("a: [", "is no usable YAML"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(refusal, text, message):
    assert message in refusal(text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"warehouse: \xff\xfe")

    with pytest.raises(ConfigError, match="no usable YAML"):
        config.load(str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no file; allowed a file `sluice init` wrote"):
        config.load(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("quality.min_rows", "--set got quality.min_rows; allowed key=value"),
        ("dumps.1.path=x", "--set dumps.1.path got index 1; allowed 0 to 0"),
        ("dumps.first.path=x", "--set dumps.first.path got index first; allowed 0 to 0"),
        ("warehouse.x=1", "--set warehouse.x got x below a plain value; allowed below a section"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(refusal, override, message):
    assert refusal(SMALLEST, override) == message


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]"])
def test_a_gpu_amount_is_refused_in_local_mode_where_spark_would_hang(refusal, load, master):
    gpu = "spark.conf.spark.executor.resource.gpu.amount=1"

    assert "allowed on a cluster only" in refusal(SMALLEST, f"spark.master='{master}'", gpu)
    assert load(SMALLEST, "spark.master='spark://h:7077'", gpu).spark.conf
    assert load(SMALLEST, "spark.master='local-cluster[2,1,1024]'", gpu).spark.conf


@pytest.mark.parametrize(
    "override",
    [
        "spark.conf.spark.hadoop.fs.s3a.secret.key=hunter2",
        "spark.conf.spark.hadoop.fs.s3a.access.key=hunter2",
        "spark.conf.spark.ssl.keyPassword=hunter2",
        "lineage.tracking_uri=https://me:hunter2@host/",
    ],
)
def test_a_secret_is_refused_and_not_shown(refusal, override):
    message = refusal(SMALLEST, override)

    assert "environment" in message
    assert "hunter2" not in message


def test_equal_settings_have_equal_digests(load):
    digests = {
        config.digest(load(SMALLEST)),
        config.digest(load(SMALLEST + "quality: {min_rows: 1}")),
    }

    assert len(digests) == 1
    assert len(digests.pop()) == 16


def test_any_other_setting_has_another_digest(load):
    assert config.digest(load(SMALLEST)) != config.digest(load(SMALLEST, "quality.min_rows=2"))


def test_a_loaded_configuration_cannot_be_changed(load):
    with pytest.raises(ValueError, match="frozen"):
        load(SMALLEST).warehouse = "elsewhere"


def test_every_format_can_be_configured_and_no_other():
    allowed = get_args(config.Dump.model_fields["format"].annotation)
    assert set(allowed) == set(FORMATS)


def test_kinds_of_samples_and_of_clips_are_asked_for_apart(load, refusal):
    asked = load(SMALLEST).dedup
    assert asked.clip_kinds == ("exact_clip", "video")
    assert asked.least_similarity("video") == asked.video.threshold == LEAST_SIMILARITY
    assert asked.crop.radius == crop_match.RADIUS
    assert asked.least_similarity("crop") == 1 - crop_match.RADIUS / 64
    assert load(SMALLEST, "dedup.clip_kinds=[]").dedup.clip_kinds == ()
    assert "video without exact_clip" in refusal(SMALLEST, "dedup.clip_kinds=[video]")
    assert "boilerplate without exact_media" in refusal(SMALLEST, "dedup.kinds=[boilerplate]")
    assert "dedup.kinds got kind video" in refusal(SMALLEST, "dedup.kinds=[video]")
    assert "dedup.clip_kinds got kind phash" in refusal(SMALLEST, "dedup.clip_kinds=[phash]")
    assert "neighbours without minhash" in refusal(SMALLEST, "dedup.text_scope=neighbours")


def test_texts_are_signed_by_the_family_that_is_asked_for(load, refusal):
    assert schemes.minhash(load(SMALLEST).dedup) == Scheme()
    asked = load(SMALLEST, "dedup.minhash.permutations=rminhash").dedup
    assert schemes.minhash(asked) == Scheme(permutations=RMINHASH)
    assert "affine32" in refusal(SMALLEST, "dedup.minhash.permutations=legacy")


@pytest.mark.parametrize(
    ("video", "tasks"),
    [
        ({}, {"speech"}),
        ({"hears_speech": False}, set()),
        ({"hears_speech": False, "cut_by": "transnetv2"}, {"shots"}),
    ],
)
def test_models_of_videos_are_in_use_where_they_are_asked(video, tasks):
    settings = config.Config(
        warehouse="w", dumps=(config.Dump(name="a", path="b"),), video=config.Video(**video)
    )

    assert {"speech", "shots"} & settings.models_in_use().keys() == tasks


def test_mirror_images_are_copies_only_where_they_are_measured(load, refusal):
    asked = "dedup.phash.mirrored=true"
    assert "add mirrored_phash to signals.image" in refusal(SMALLEST, asked)
    loaded = load(SMALLEST, asked, "signals.image=[phash, mirrored_phash]")
    assert loaded.dedup.phash.mirrored


def test_crops_are_looked_for_only_where_segments_are_measured(load, refusal):
    asked = "dedup.kinds=[exact_media, crop]"
    assert "got crop in dedup.kinds without the signal" in refusal(SMALLEST, asked)
    loaded = load(SMALLEST, asked, "signals.image=[phash, crop_hash]", "dedup.crop.radius=4")
    assert loaded.dedup.kinds == ("exact_media", "crop")
    assert loaded.dedup.least_similarity("crop") == 1 - 4 / 64
    assert "dedup.crop.radius" in refusal(SMALLEST, "dedup.crop.radius=11")


@pytest.mark.parametrize("text", ["a: 2026-13-45", "? [a]\n: b", "!!int x", "[" * 600])
def test_what_yaml_itself_stumbles_over_is_one_line(text) -> None:
    with pytest.raises(ConfigError, match="got text that is no usable YAML"):
        strict_yaml.parse(text, origin="it")
