"""The committed demonstration model does what its card says, on scenes it has never seen."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from infra.demo_clip import evaluate
from jobs.demo import scenes
from udfs.clip_tokenizer import CLIP_BPE_SHA256

FOLDER = evaluate.HERE
LIMIT_BYTES = 12_000_000


@pytest.fixture(scope="module")
def card():
    return yaml.safe_load((FOLDER / "model.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def encoders():
    return evaluate.Encoders()


def test_the_card_states_the_digest_of_every_file(card):
    for tower in ("image", "text"):
        file = card["files"][tower]
        assert hashlib.sha256((FOLDER / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert card["files"]["tokenizer"]["sha256"] == CLIP_BPE_SHA256


def test_the_card_says_that_it_is_a_demonstration(card):
    assert card["is_demonstration"] is True
    assert "demonstration" in card["description"]


def test_both_networks_fit_in_twelve_megabytes():
    assert sum((FOLDER / f"{t}.onnx").stat().st_size for t in ("image", "text")) <= LIMIT_BYTES


def test_the_networks_are_a_two_file_clip_export(card):
    image, text = (
        onnxruntime.InferenceSession(FOLDER / card["files"][tower]["path"])
        for tower in ("image", "text")
    )
    size = card["preprocessing"]["size_px"]
    assert [(i.name, i.shape, i.type) for i in image.get_inputs()] == [
        ("pixel_values", ["batch", 3, size, size], "tensor(float)")
    ]
    assert [(i.name, i.shape, i.type) for i in text.get_inputs()] == [
        ("input_ids", ["batch", 77], "tensor(int64)")
    ]
    assert [(o.name, o.shape) for o in image.get_outputs() + text.get_outputs()] == [
        ("image_embeds", ["batch", card["output"]["dimension"]]),
        ("text_embeds", ["batch", card["output"]["dimension"]]),
    ]


def test_held_out_scenes_find_their_caption_among_a_hundred(encoders):
    figures = evaluate.measure_scenes(encoders)
    assert figures["scenes"] == 2000
    assert figures["recall_at_1"] >= 0.90
    assert figures["auc"] >= 0.99


def test_the_threshold_rejects_swapped_captions_and_keeps_fitting_ones(encoders, card):
    rates = evaluate.measure_threshold(encoders, card["threshold"]["clip_score"])
    assert rates["swapped_rejected"] >= 0.95
    assert rates["fitting_rejected"] <= 0.05


def test_a_query_holds_a_hundred_meanings_absent_from_training():
    rng = np.random.default_rng(0)
    [query] = evaluate.draw_queries(1, split="held_out", rng=rng)
    meanings = {tuple(getattr(s, a) for a in scenes.MAIN_ATTRIBUTES) for s in query}
    assert len(meanings) == len(query) == 100
    assert all(scenes.is_held_out(s) for s in query)


def test_what_follows_the_end_token_changes_no_embedding():
    session = onnxruntime.InferenceSession(FOLDER / "text.onnx")
    ids = evaluate.tokenize(["two striped red stars at the top of the picture"])
    end = ids[0].tolist().index(49407)
    other = ids.copy()
    other[0, end + 1 :] = 49407  # how other exports pad
    first, second = (session.run(None, {"input_ids": i})[0] for i in (ids, other))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_an_embedding_does_not_depend_on_its_batch(encoders):
    rng = np.random.default_rng(1)
    drawn = [scenes.draw(rng, split="held_out") for _ in range(5)]
    pictures = [scenes.render(s, rng, width_px=150, height_px=110) for s in drawn]
    captions = [scenes.caption(s, rng) for s in drawn]
    alone = np.concatenate([encoders.images([p]) for p in pictures])
    np.testing.assert_allclose(encoders.images(pictures), alone, atol=1e-5)
    alone = np.concatenate([encoders.texts([c]) for c in captions])
    np.testing.assert_allclose(encoders.texts(captions), alone, atol=1e-5)


def test_a_title_is_in_one_split_however_it_is_written():
    titles = [f"title {i}" for i in range(2000)]
    splits = [evaluate.split_of(t) for t in titles]
    assert [evaluate.split_of(f" {t.upper()} ") for t in titles] == splits
    assert splits.count("held_out") / len(splits) == pytest.approx(0.15, abs=0.03)


DRAWING = """<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<dc:title>{title}</dc:title><dc:subject><rdf:Bag><rdf:li>wild_animal</rdf:li><rdf:li/></rdf:Bag>
</dc:subject></rdf:RDF></metadata></svg>"""


def write_clipart(folder: Path, name: str, title: str) -> None:
    for kind in ("svg", "png"):
        (folder / kind).mkdir(exist_ok=True)
    (folder / "svg" / f"{name}.svg").write_text(DRAWING.format(title=title), encoding="utf-8")
    scene = scenes.draw(np.random.default_rng(0), split="train")
    picture = scenes.render(scene, np.random.default_rng(0), width_px=40, height_px=30)
    picture.save(folder / "png" / f"{name}.png")


def test_every_titled_clipart_is_in_exactly_one_split(tmp_path):
    for i in range(30):
        write_clipart(tmp_path, f"c{i:02}", f"thing {i // 2}")
    write_clipart(tmp_path, "untitled", "")
    train, held_out = (evaluate.read_openclipart(tmp_path, s) for s in ("train", "held_out"))
    assert train
    assert held_out
    assert len(train) + len(held_out) == 30
    assert not {c.title for c in train} & {c.title for c in held_out}
    assert train[0].keywords == ("wild animal",)


def test_clipart_that_is_missing_or_declares_too_many_pixels_is_left_out(tmp_path, monkeypatch):
    write_clipart(tmp_path, "huge", "a thing")
    write_clipart(tmp_path, "gone", "a thing")
    (tmp_path / "png" / "gone.png").unlink()
    split = evaluate.split_of("a thing")
    assert len(evaluate.read_openclipart(tmp_path, split)) == 1
    monkeypatch.setattr(evaluate, "MAX_PIXELS", 40 * 30 - 1)
    assert evaluate.read_openclipart(tmp_path, split) == []


def test_a_folder_without_clipart_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="openclipart-svg"):
        evaluate.read_openclipart(tmp_path, "train")


def test_auc_is_the_chance_that_a_matched_score_is_the_larger():
    rng = np.random.default_rng(2)
    matched, shuffled = rng.integers(0, 9, 40), rng.integers(0, 7, 50)
    difference = matched[:, None] - shuffled[None]
    expected = (difference > 0).mean() + (difference == 0).mean() / 2
    assert evaluate.auc(matched, shuffled) == pytest.approx(expected)
