import hashlib
import itertools
import tarfile
from collections import Counter

import pytest

from jobs.demo import dump, scenes, trouble, truth
from jobs.demo.photographs import PHOTOGRAPHS
from schemas.error_classes import ERROR_CLASSES, OF_FETCHES
from udfs import image_codec
from udfs.language import Language, lid_176
from udfs.phash import phash, to_hex

MAX_PIXELS = 89_478_485  # the ingest default
AT_SCORING = ("truncated_image", "corrupt_image")


def write(folder, **options):
    dump.write(
        folder,
        **{"scenes": 20, "shards": 2, "plants": dump.Plants.small(), **options},
        progress=lambda _: None,
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("dump"))


@pytest.fixture(scope="module")
def planted(folder):
    return truth.expected(folder)


@pytest.fixture(scope="module")
def contents(folder):
    return bytes_of_members(folder)


def bytes_of_members(folder):
    """Bytes by shard, member name and how often the name came before."""
    found = {}
    for path in sorted(folder.glob("demo-0*.tar")):
        met = Counter()
        with tarfile.open(path) as shard:
            for member in iter(lambda shard=shard: next_member(shard), None):
                if member.isreg():
                    key = (path.name, member.name, met[member.name])
                    found[key] = path.read_bytes()[member.offset_data :][: member.size]
                met[member.name] += 1
    return found


def next_member(shard):
    try:
        return shard.next()
    except tarfile.ReadError:
        return None


def image_of(contents, line):
    return contents[line["shard"], line["member"], line["occurrence"]]


def caption_of(contents, line):
    stem = line["member"].rpartition(".")[0]
    return contents[line["shard"], f"{stem}.txt", line["occurrence"]].decode()


def of_group(planted, *groups):
    return [line for line in planted if line["group"] in groups]


def sound(planted):
    return [line for line in planted if line["fate"] in ("scored", "rejected")]


def original_of(planted, copy):
    return next(line for line in sound(planted) if line["sample_key"] == copy["original"])


def hashes_by_key(planted, contents):
    return {line["sample_key"]: truth.phash(image_of(contents, line)) for line in sound(planted)}


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = digests(write(tmp_path / "again"))
    other = digests(write(tmp_path / "other", seed=1))

    assert again == digests(folder)
    assert not set(other.values()) & set(again.values())


def test_the_truth_names_every_entry_of_the_tars_once_and_in_order(folder, planted):
    named = [(line["shard"], line["sample_key"], line["occurrence"]) for line in planted]

    assert named == [entry[:3] for entry in truth.listing(folder)]
    assert len(set(named)) == len(named)


def test_every_member_that_the_truth_names_is_listed_with_its_entry(folder, planted):
    for line, entry in zip(planted, truth.listing(folder), strict=True):
        assert entry.members[:1] == ((line["member"],) if line["member"] else ())


def test_every_quarantine_class_that_a_dump_can_cause_is_planted(planted):
    caused = {line["error_class"] for line in planted} - {None}

    # The demo is plain tars of media within the limits, that nobody changes.
    others = {"member_too_large", "decompression_bomb", "text_not_scored", "media_gone"}
    others |= {"decoder_crashed", "decoder_timeout", "decoder_memory"}
    others |= {"not_a_video", "damaged_video", "video_compressed"}
    others |= {"corrupt_video", "codec_refused", "video_too_long"}
    others |= {"shard_changed", "damaged_record", "invalid_url", "empty_document", *OF_FETCHES}
    assert caused == set(ERROR_CLASSES) - others


def test_the_counts_of_the_small_dump_are_those_asked(planted):
    plants = dump.Plants.small()
    counts = Counter(line["group"] for line in planted)

    assert counts["scene"] == 20
    assert counts["photograph"] == plants.photographs
    assert counts["exact_copy"] == plants.exact_copies
    assert counts["media_copy"] == plants.media_copies
    assert all(counts[kind] == plants.near_copies_each for kind in trouble.NEAR_COPIES)
    assert counts["swapped_caption"] == plants.swapped_captions
    assert all(counts[kind] == plants.odd_each for kind in trouble.ODD)
    assert counts["duplicate_key"] == counts["truncated_shard"] == counts["unreadable_shard"] == 1


def test_the_demo_plants_what_its_table_promises():
    plants = dump.DEMO

    assert plants.photographs == len(PHOTOGRAPHS)
    assert (plants.exact_copies, plants.media_copies) == (30, 30)
    assert plants.near_copies_each * len(trouble.NEAR_COPIES) == 60
    assert plants.swapped_captions == 60


def test_every_copy_comes_after_its_original(planted):
    place = {line["sample_key"]: number for number, line in enumerate(sound(planted))}
    copies = [line for line in planted if line["original"]]

    assert copies
    assert all(place[copy["original"]] < place[copy["sample_key"]] for copy in copies)


def test_exact_copies_share_bytes_and_caption_and_media_copies_only_bytes(planted, contents):
    for copy in of_group(planted, "exact_copy", "media_copy"):
        original = original_of(planted, copy)
        is_same_caption = caption_of(contents, copy) == caption_of(contents, original)

        assert image_of(contents, copy) == image_of(contents, original)
        assert is_same_caption == (copy["group"] == "exact_copy")


def test_near_copies_are_rejected_exactly_within_the_radius(planted, contents):
    hashes = hashes_by_key(planted, contents)
    for copy in of_group(planted, *trouble.NEAR_COPIES):
        bits = (hashes[copy["sample_key"]] ^ hashes[copy["original"]]).bit_count()

        assert copy["hamming"] == bits
        assert (copy["reason"] == "duplicate_perceptual") == (bits <= 3)
        assert (copy["fate"] == "rejected") == (bits <= 3)


def test_four_in_five_near_copies_of_each_kind_are_within_the_radius(planted):
    for kind in trouble.NEAR_COPIES:
        near = [line["hamming"] <= 3 for line in of_group(planted, kind)]
        assert sum(near) >= 0.8 * len(near)


def test_no_image_is_near_another_but_a_copy_and_its_original(planted, contents):
    hashes = hashes_by_key(planted, contents)
    copies = {(line["sample_key"], line["original"]) for line in planted if line["original"]}
    near = {
        (one, other)
        for one, a in hashes.items()
        for other, b in hashes.items()
        if one > other and (a ^ b).bit_count() <= 3
    }

    assert near <= copies | {(other, one) for one, other in copies}


def test_unplanted_captions_are_not_taken_for_another_language(planted, contents):
    captions = [
        caption_of(contents, line)
        for line in sound(planted)
        if not line["group"].startswith("text_")
    ]
    found = Language(lid_176()).finish(captions)
    foreign = [
        caption
        for caption, code, score in zip(
            captions, found["language"], found["language_score"], strict=True
        )
        if code != "en" and score >= 0.8
    ]

    assert captions
    assert foreign == []


@pytest.mark.parametrize("code", trouble.SENTENCES)
def test_foreign_sentences_are_surely_foreign(code):
    found = Language(lid_176()).finish(trouble.SENTENCES[code])

    assert set(found["language"]) == {code}
    assert min(found["language_score"]) >= 0.9


def test_photographs_have_english_captions_of_five_words_and_decode():
    found = Language(lid_176()).finish([photograph.caption for photograph in PHOTOGRAPHS])

    assert set(found["language"]) == {"en"}
    for photograph in PHOTOGRAPHS:
        assert len(photograph.caption.split()) >= 5
        assert min(truth.as_seen(photograph.content()).size) >= 100


def test_texts_are_as_long_as_they_should_be(planted, contents):
    lengths = {
        line["group"]: len(caption_of(contents, line))
        for line in of_group(planted, "text_empty", "text_one_word", "text_long")
    }

    assert lengths["text_empty"] == 0
    assert 0 < lengths["text_one_word"] < 20
    assert lengths["text_long"] == 5_000


def test_bad_sizes_are_bad_and_the_others_are_not(planted, contents):
    for line in sound(planted):
        shorter, longer = sorted(truth.as_seen(image_of(contents, line)).size)
        if line["group"] == "small_image":
            assert (shorter, longer) == (40, 40)
        elif line["group"] == "banner":
            assert longer == 12 * shorter >= 1_200
        else:
            assert shorter >= 100
            assert longer <= 3 * shorter


def test_odd_formats_are_what_they_are_called(planted):
    flags = {line["group"]: line["flags"] for line in of_group(planted, *trouble.ODD)}

    assert flags["cmyk"]["mode"] == "CMYK"
    assert flags["16_bit"]["mode"] == "I;16"
    assert (flags["palette_alpha"]["mode"], flags["palette_alpha"]["has_alpha"]) == ("P", True)
    assert flags["exif_rotated"]["exif_orientation"] == 6
    assert flags["gif"]["mode"] == "P"
    assert flags["animated_webp"]["frames"] == 3
    assert [group for group in flags if flags[group]["is_extension_mismatch"]] == [
        "wrong_extension"
    ]


def test_a_16_bit_colour_image_keeps_its_colours():
    picture = truth.as_seen(PHOTOGRAPHS[2].content())

    assert truth.as_seen(trouble.colour_16_bit_png(picture).content).tobytes() == picture.tobytes()


@pytest.mark.parametrize("make", [make for makers in trouble.ODD.values() for make in makers])
def test_odd_formats_show_the_picture_that_was_stored(make):
    picture = truth.as_seen(PHOTOGRAPHS[2].content())
    seen = truth.as_seen(make(picture).content)
    reference = picture.convert("L") if make is trouble.grey_16_bit_png else picture
    centre = tuple(side // 2 for side in picture.size)
    differences = [
        abs(a - b)
        for a, b in zip(
            seen.reduce(8).getpixel((centre[0] // 8, centre[1] // 8)),
            reference.convert("RGB").reduce(8).getpixel((centre[0] // 8, centre[1] // 8)),
            strict=True,
        )
    ]

    assert seen.size == picture.size
    assert max(differences) <= 12  # 256 colours and lossy coding


def test_the_pipeline_decodes_sound_images_as_the_reference_does(planted, contents):
    for line in sound(planted):
        content = image_of(contents, line)
        decoded = image_codec.decode(content, max_pixels=MAX_PIXELS)

        assert decoded.image.tobytes() == truth.as_seen(content).tobytes()
        assert to_hex(phash(decoded.image)) == f"{truth.phash(content):016x}"
        assert {
            "mode": decoded.mode,
            "exif_orientation": decoded.exif_orientation,
            "frames": decoded.frames,
            "has_alpha": decoded.has_alpha,
            "is_extension_mismatch": not image_codec.extension_matches(
                image_codec.header(content, max_pixels=MAX_PIXELS).mime, line["member"]
            ),
        } == line["flags"]


@pytest.mark.parametrize(
    ("error_class", "make"),
    [(name, make) for name, makers in trouble.DAMAGED.items() for make in makers],
)
@pytest.mark.parametrize("number", [0, 2, 9])
def test_damaged_images_are_refused_under_their_class(error_class, make, number):
    content = make(truth.as_seen(PHOTOGRAPHS[number].content())).content
    read = image_codec.decode if error_class in AT_SCORING else image_codec.header

    with pytest.raises(image_codec.ImageRefused) as refused:
        read(content, max_pixels=MAX_PIXELS)

    assert refused.value.error_class == error_class


def test_the_giant_image_is_small():
    picture = truth.as_seen(PHOTOGRAPHS[0].content())

    assert len(trouble.giant_png(picture).content) < 200


def test_members_climb_out_link_out_and_repeat(planted, contents):
    by_class = {line["error_class"]: line for line in planted if line["error_class"]}
    link = by_class["unsafe_member_type"]

    assert by_class["unsafe_member_name"]["member"].startswith("../../x.")
    assert by_class["duplicate_key"]["occurrence"] == 1
    assert (link["shard"], link["member"], 0) not in contents  # listed, but no regular file


def test_a_scene_that_looks_like_another_image_is_drawn_again(tmp_path, monkeypatch):
    pictures = []

    def stutter(scene, rng, *, width_px, height_px):
        is_repetition = len(pictures) % 2
        fresh = scenes.render(scene, rng, width_px=width_px, height_px=height_px)
        pictures.append(pictures[-1].resize((width_px, height_px)) if is_repetition else fresh)
        return pictures[-1]

    monkeypatch.setattr(dump, "render", stutter)
    folder = write(tmp_path, plants=dump.Plants(**dict.fromkeys(vars(dump.Plants.small()), 0)))
    hashes = hashes_by_key(truth.expected(folder), bytes_of_members(folder)).values()

    assert len(hashes) == 20
    assert all((a ^ b).bit_count() > 3 for a, b in itertools.combinations(hashes, 2))


def test_a_cut_shard_keeps_what_came_before(folder, planted):
    last = [line for line in planted if line["shard"] == "demo-00001.tar"]

    with (
        pytest.raises(tarfile.ReadError, match="unexpected end of data"),
        tarfile.open(folder / "demo-00001.tar") as shard,
    ):
        shard.getmembers()
    assert last[-1]["error_class"] == "truncated_shard"
    assert len(last) > 20


def test_a_broken_shard_is_no_tar(folder, planted):
    (broken,) = [line for line in planted if line["shard"] == "demo-broken.tar"]
    assert broken["error_class"] == "unreadable_shard"
    with pytest.raises(tarfile.ReadError), tarfile.open(folder / "demo-broken.tar", "r:"):
        pass


def test_a_dump_without_its_truth_is_not_complete(tmp_path):
    with pytest.raises(FileNotFoundError):
        truth.expected(tmp_path)


@pytest.mark.parametrize(("scenes", "shards"), [(19, 1), (20, 0), (20, 6)])
def test_too_few_scenes_are_refused_with_the_least_number(tmp_path, scenes, shards):
    with pytest.raises(ValueError, match=f"{scenes} scenes in {shards} shards"):
        write(tmp_path, scenes=scenes, shards=shards)
    assert list(tmp_path.iterdir()) == []


def test_more_copies_than_scenes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fewer scenes than copies"):
        write(tmp_path, plants=dump.Plants(photographs=0, exact_copies=21))
