"""An export gives what torch gives: images, texts and token ids, through the stages' own code.

Weights are random, so embeddings lie close together: each figure is also taken after the mean of
the set was taken off. Run by `make test-export`.
"""

import dataclasses
import hashlib
import io
import json
import random
import unicodedata
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from jobs import export
from jobs.demo import scenes
from jobs.demo.photographs import PHOTOGRAPHS
from jobs.export import fidelity, network
from jobs.runtime import cards
from jobs.runtime.errors import ConfigError, ModelProblem
from tests.export import pictures
from udfs.clip import Preprocessing
from udfs.clip_tokenizer import Tokenizer as Ours
from udfs.clip_tokenizer import clip_bpe
from udfs.image_codec import decode
from udfs.model_file import ModelFile

pytestmark = pytest.mark.filterwarnings("ignore")  # torch, timm and transformers warn freely


@pytest.fixture(scope="module")
def files():
    return pictures.two_hundred()


@pytest.fixture(scope="module")
def images(files):
    return [decode(file.content, max_pixels=pictures.MAX_PIXELS).image for file in files]


@pytest.fixture(scope="module")
def texts():
    return strings(200)


def strings(count: int) -> list[str]:
    """Captions as they are, in other scripts, with marks, entities, noise and any character."""
    rng, chars = np.random.default_rng(3), random.Random(3)
    fixed = [*(p.caption for p in PHOTOGRAPHS), *fidelity._ODD_TEXTS]
    blocks = [(0x20, 0x7F), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF)]
    blocks += [(0x2000, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)]
    blocks += [(0x1F300, 0x1F6FF)]
    made = list(fixed)
    while len(made) < count:
        caption = scenes.caption(scenes.draw(rng, split="held_out"), rng)
        first, last = chars.choice(blocks)
        drawn = (chr(chars.randint(first, last)) for _ in range(chars.randint(1, 60)))
        noise = "".join(c for c in drawn if unicodedata.category(c) != "Cn")
        odd = [caption.upper(), f"“{caption}” &amp; <b>{len(made)}</b>", f"{caption} {noise}"]
        odd += [noise, noise.replace("a", " "), caption * 9, f"{caption}'s {len(made) / 7:.3f} %"]
        made.append(chars.choice([caption, *odd]))
    return made[:count]


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    """A folder with a tokenizer of SigLIP's kind: sentence pieces, </s> ends and pads."""
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    made.train_from_iterator([text for text in strings(3000) if text.isascii()], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit_b_32():
    return export.source("ViT-B-32", seed=1)


@pytest.fixture(scope="module")
def siglip(unigram, tmp_path_factory):
    """SigLIP 2's ViT-B/32 tower and text tower at full size, but for the vocabulary."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-B-32-SigLIP2-256")
    config["text_cfg"] |= {"vocab_size": 900, "hf_tokenizer_name": "of the folder"}
    config["text_cfg"] |= {"width": 384, "heads": 6, "layers": 6}
    config |= {"embed_dim": 768}
    folder = tmp_path_factory.mktemp("siglip")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "size": 256}
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    for file in unigram.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(2)
    model = open_clip.create_model(f"local-dir:{folder}")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return export.source(str(folder))


@pytest.fixture(scope="module")
def transformers_siglip(unigram, tmp_path_factory):
    """A small SigLIP as transformers saves it."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    small = {"hidden_size": 96, "intermediate_size": 192}
    small |= {"num_hidden_layers": 4, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config=small | {"vocab_size": 900, "max_position_embeddings": 64},
        vision_config=small | {"image_size": 96, "patch_size": 16},
    )
    folder = tmp_path_factory.mktemp("transformers") / "siglip"
    torch.manual_seed(3)
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    for file in unigram.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return export.source(str(folder))


@pytest.fixture(scope="module")
def transformers_clip(tmp_path_factory):
    """A small CLIP as transformers saves it, with CLIP's tokenizer as a tokenizer.json."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    small = {"hidden_size": 96, "intermediate_size": 192}
    small |= {"num_hidden_layers": 4, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=small, vision_config=small | {"image_size": 96, "patch_size": 16}
    )
    folder = tmp_path_factory.mktemp("transformers") / "clip"
    torch.manual_seed(4)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 112}, crop_size=96).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(Ours("clip_bpe", clip_bpe()).load().to_str()),
        pad_token="<|endoftext|>",
    ).save_pretrained(folder)
    return export.source(str(folder))


SOURCES = ["vit_b_32", "siglip", "transformers_siglip", "transformers_clip"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", SOURCES)
def test_images_and_texts_are_embedded_as_torch_does(
    request, tmp_path, record_property, images, texts, name, precision
):
    source = request.getfixturevalue(name)
    folder = tmp_path / "model"
    export.write(source, folder, precision=precision, is_verified=False)
    card, found = cards.find(str(folder), "clip")
    drift = fidelity.measure(source, fidelity.clip(card, found), images, texts)
    print(name, precision, drift)
    record_property("drift", str(drift))
    assert drift.texts_with_other_ids == 0
    assert drift.least >= fidelity.LEAST_COSINE[precision]


@pytest.mark.parametrize("name", SOURCES)
def test_pixels_are_the_frameworks_own(request, images, name):
    source = request.getfixturevalue(name)
    ours = Preprocessing(**source.preprocessing.model_dump())
    step = 1 / 255 / min(source.preprocessing.std)
    for image in images:
        apart = np.abs(ours.normalise([ours.crop(image)])[0] - source.pixels(image))
        is_strip = max(image.size) > 8 * min(image.size)
        # a strip's middle is made alone, in two passes of which each rounds to bytes
        assert apart.max() < (2.01 * step if is_strip else 1e-5), image.size


def test_plain_files_are_decoded_as_the_reference_decodes_them(files, vit_b_32):
    """For these, torch gets the file itself; for the others our decoding is the reference."""
    plain = [file for file in files if file.is_plain]
    assert len(plain) >= 140
    ours = Preprocessing(**vit_b_32.preprocessing.model_dump())
    for file in plain:
        image = decode(file.content, max_pixels=pictures.MAX_PIXELS).image
        theirs = vit_b_32.pixels(Image.open(io.BytesIO(file.content)))
        apart = np.abs(ours.normalise([ours.crop(image)])[0] - theirs)
        assert apart.max() < 0.0151, file.name  # one step of a byte


def test_ids_equal_open_clips_for_every_character_of_unicode():
    """But for those that are newer than this Python: two packages know them from a date on."""
    import open_clip

    known = (c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs"))
    # private ones are no letters anywhere; the ideographs and syllables are sampled
    some = [c for c in known if unicodedata.category(c) != "Co"]
    given = [f"a{c}b{c}1'{c}" for n, c in enumerate(some) if ord(c) < 0x3400 or n % 7 == 0]
    theirs = open_clip.get_tokenizer("ViT-B-32")(given).numpy()
    ours = Ours("clip_bpe", clip_bpe()).encode(given).ids
    assert [t for t, a, b in zip(given, ours, theirs, strict=True) if (a != b).any()] == []


def test_ids_equal_open_clips_on_ten_thousand_strings():
    import open_clip

    given = strings(10_000)
    assert len(set(given)) > 9_000
    theirs = open_clip.get_tokenizer("ViT-B-32")(given).numpy()
    ours = Ours("clip_bpe", clip_bpe()).encode(given).ids
    assert [t for t, a, b in zip(given, ours, theirs, strict=True) if (a != b).any()] == []


@pytest.mark.parametrize("name", ["siglip", "transformers_siglip"])
def test_ids_equal_a_siglips_on_ten_thousand_strings(request, name, tmp_path):
    source = request.getfixturevalue(name)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(source.tokenizer_json)
    file = ModelFile(hashlib.sha256(source.tokenizer_json).hexdigest(), partial(str, path))
    given = strings(10_000)
    ours = Ours(file=file, **source.tokenizer.model_dump()).encode(given).ids
    assert (ours == source.ids(given)).all()


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_every_resize_mode_of_open_clip(images, mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(size=96, resize_mode=mode, interpolation=interpolation, fill_color=127)
    theirs = image_transform_v2(config, is_train=False)
    ours = Preprocessing(size_px=96, resize=mode, interpolation=interpolation, fill=127)
    for image in images:
        try:
            expected = theirs(image).numpy()
        except ValueError:  # open_clip has no picture of a side below half a pixel
            assert mode == "longest"
            continue
        apart = np.abs(ours.normalise([ours.crop(image)])[0] - expected)
        # a strip's middle is made alone, in two passes of which each rounds to bytes
        is_strip = mode == "shortest" and max(image.size) > 8 * min(image.size)
        assert apart.max() < (2.01 / 255 / 0.26130258 if is_strip else 1e-5), image.size


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_same_weights_give_the_same_bytes(transformers_clip, tmp_path, precision):
    for name in ("one", "two"):
        export.write(transformers_clip, tmp_path / name, precision=precision, is_verified=False)
    for file in ("image.onnx", "text.onnx", "tokenizer.json", "model.yaml"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_export_states_its_drift_and_no_path_of_this_machine(transformers_siglip, tmp_path):
    drift = export.write(transformers_siglip, tmp_path / "model", licence="Apache-2.0")
    assert drift.least > 0.9999
    card, _ = cards.find(str(tmp_path / "model"), "clip")
    assert card.licence == "Apache-2.0"
    assert card.origin["least_cosine_to_torch_image"] == f"{drift.image:.6f}"
    for file in (tmp_path / "model").iterdir():
        assert b"site-packages" not in file.read_bytes()


def test_what_is_off_is_refused_and_leaves_nothing(transformers_siglip, tmp_path):
    other = dataclasses.replace(
        transformers_siglip,
        preprocessing=transformers_siglip.preprocessing.model_copy(update={"resize": "shortest"}),
    )
    with pytest.raises(ModelProblem, match=r"least cosine of .* allowed 0\.9999 in fp32"):
        export.write(other, tmp_path / "model")
    other = dataclasses.replace(
        transformers_siglip,
        tokenizer=transformers_siglip.tokenizer.model_copy(update={"pad_id": 0}),
    )
    with pytest.raises(ModelProblem, match="texts got other ids"):
        export.write(other, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(transformers_siglip, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="not empty"):
        export.write(transformers_siglip, tmp_path)


def test_what_is_no_dual_encoder_is_refused(tmp_path):
    import torch

    with pytest.raises(ModelProblem, match=r"output of shape \(2, 3, 4, 4\); allowed \(n, dim"):
        network.to_onnx(
            torch.nn.Identity(),
            np.zeros((2, 3, 4, 4), np.float32),
            names=("a", "b"),
            precision="fp32",
        )
    with pytest.raises(ModelProblem, match="transformers cannot read"):
        export.source(str(tmp_path))
    with pytest.raises(ModelProblem, match="open_clip cannot make ViT-Z"):
        export.source("ViT-Z", seed=1)
    with pytest.raises(ModelProblem, match="ViT-B-32 got no weights"):
        export.source("ViT-B-32")
