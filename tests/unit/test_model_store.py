import io
import json
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.models import heads
from jobs.models.card import Card, CardEmbedding, CardFile, check_fits
from jobs.runtime import archives, cards, model_store, trials
from jobs.runtime.errors import ModelProblem
from tests import model_layouts as made

runner = CliRunner()


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Path:
    """An empty store that names are looked up in."""
    monkeypatch.setenv(cards.SEARCH_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setattr(cards, "_STORE", tmp_path / "home")
    return tmp_path / "store"


@pytest.fixture
def here(monkeypatch) -> None:
    """Trials in this process: a new one takes a second."""
    monkeypatch.setattr(trials, "within", lambda _, __, function, *args: function(*args))


def head_file(folder: Path, dimension: int = made.WIDTH, bias: float = 1.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weight = np.random.default_rng(0).normal(size=(1, dimension))
    np.savez(folder / "v1.npz", weight=weight, bias=np.array([bias]))
    return folder / "v1.npz"


# --- adding


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_of_a_model_is_the_same_as_its_folder(tmp_path, store, kind) -> None:
    source = made.two_files(tmp_path / "source")
    archive = tmp_path / f"packed.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in source.rglob("*"):
                packed.write(path, Path("top") / path.relative_to(source))
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(source, "top")

    by_folder = model_store.add(source, name="mine")
    by_archive = model_store.add(archive, name="mine")
    assert (by_folder.is_new, by_archive.is_new) == (True, False)
    assert by_archive.card.files == by_folder.card.files
    # A stored model is itself a source, card and all.
    again = model_store.add(by_folder.folder, name="copy")
    assert again.card.files == by_folder.card.files
    assert {path.name for path in store.iterdir()} == {"mine", "copy"}


@pytest.mark.usefixtures("here")
def test_another_model_under_the_same_name_is_refused(tmp_path, store) -> None:
    model_store.add(head_file(tmp_path / "a"), name="mine")
    card = (store / "mine" / "model.yaml").read_bytes()
    with pytest.raises(ModelProblem, match=r"another model of this name.*--name"):
        model_store.add(head_file(tmp_path / "b", bias=2), name="mine")
    assert (store / "mine" / "model.yaml").read_bytes() == card
    assert [path.name for path in store.iterdir()] == ["mine"]


@pytest.mark.usefixtures("here")
def test_a_head_is_built_named_and_held_to_float64(tmp_path, store) -> None:
    found = model_store.add(head_file(tmp_path), licence="MIT").card

    assert (found.name, found.task, found.licence) == ("v1", "aesthetic", "MIT")
    assert found.dimension == made.WIDTH
    weights = np.load(tmp_path / "v1.npz")
    for golden in found.golden:
        x = heads.probes(made.WIDTH, golden.seed)[0].astype(np.float64)
        assert golden.values[0] == pytest.approx(float(weights["weight"][0] @ x) + 1)
    assert model_store.check("v1")[1].dimension == made.WIDTH
    assert store.is_dir()


@pytest.mark.usefixtures("here", "store")
def test_a_head_belongs_to_its_clip(tmp_path) -> None:
    clip = model_store.add(made.two_files(tmp_path / "clip"), name="clip").card
    head = model_store.add(head_file(tmp_path), clip="clip").card

    assert head.embedding.image_sha256 == clip.files["image"].sha256
    check_fits(head, clip)
    other = clip.model_copy(update={"files": {"image": CardFile(path="x", sha256="0" * 64)}})
    with pytest.raises(ModelProblem, match="image network"):
        check_fits(head, other)
    with pytest.raises(ModelProblem, match="reads embeddings of 9 values, clip gives 8"):
        model_store.add(head_file(tmp_path / "9", 9), clip="clip", name="nine")
    with pytest.raises(ModelProblem, match=r"embedding\.dimension"):
        check_fits(head.model_copy(update={"embedding": None}), clip)


@pytest.mark.usefixtures("here", "store")
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none", {}, "missing"),
        ("a.txt", {}, "no known kind"),
        ("a.pth", {}, "sluice models export"),
        ("a.zip", {}, "no whole archive"),
        ("v1.npz", {"name": "../up"}, "--name"),
        ("v1.npz", {"name": "A"}, "--name"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, source, options, message) -> None:
    head_file(tmp_path)
    for name in ("a.txt", "a.pth", "a.zip"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ModelProblem, match=message):
        model_store.add(tmp_path / source, **options)


@pytest.mark.usefixtures("here", "store")
def test_a_card_that_leaves_its_folder_or_lies_is_refused(tmp_path) -> None:
    folder = model_store.add(head_file(tmp_path)).folder
    content = (folder / "model.yaml").read_text()
    for change, message in (
        (("head.onnx", "../../v1.npz"), "outside"),
        (("head.onnx", "/etc/passwd"), "outside"),
        (("head.onnx", "gone.onnx"), "missing"),
        ((content.split("sha256: ")[1][:64], "f" * 64), "sha256"),
    ):
        changed = content.replace(*change, 1)
        (folder / "model.yaml").write_text(changed)
        with pytest.raises(ModelProblem, match=message):
            model_store.add(folder, name="other")


# --- archives


def hostile_tar(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w") as packed:
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("../up"), "outside"),
        (member("/etc/x"), "outside"),
        (member("a/../../x"), "outside"),
        (member("C:/x"), "outside"),
        (member("a\\..\\..\\x"), "outside"),
        (member("link", tarfile.SYMTYPE), "link or a device"),
        (member("hard", tarfile.LNKTYPE), "link or a device"),
        (member("pipe", tarfile.FIFOTYPE), "link or a device"),
    ],
)
def test_a_tar_that_reaches_out_is_refused(tmp_path, info, message) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ModelProblem, match=message):
        archives.unpack(hostile_tar(tmp_path / "a.tar", info), tmp_path / "in")
    assert not [path for path in tmp_path.rglob("*") if path.name in ("up", "x", "link")]


@pytest.mark.parametrize("name", ["../up", "/x", "link"])
def test_a_zip_that_reaches_out_is_refused(tmp_path, name) -> None:
    info = zipfile.ZipInfo(name)
    if name == "link":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    (tmp_path / "in").mkdir()
    with pytest.raises(ModelProblem, match=r"outside|link"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "in")


def test_a_bomb_a_crowd_and_a_name_twice_are_refused(tmp_path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(10_000_000))
    (tmp_path / "a").mkdir()
    with pytest.raises(ModelProblem, match="unpacks to more"):
        archives.unpack(tmp_path / "bomb.zip", tmp_path / "a", max_bytes=5_000_000)
    with zipfile.ZipFile(tmp_path / "2.zip", "w") as packed:
        packed.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("x", b"2")
    (tmp_path / "b").mkdir()
    with pytest.raises(ModelProblem, match="twice"):
        archives.unpack(tmp_path / "2.zip", tmp_path / "b")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 0)
    (tmp_path / "c").mkdir()
    with pytest.raises(ModelProblem, match="members"):
        archives.unpack(tmp_path / "2.zip", tmp_path / "c")


# --- checking, each in a process of its own


def stored(folder: Path, model: onnx.ModelProto | bytes, **changes: object) -> str:
    """A head's folder with a network of one's own."""
    folder.mkdir(parents=True, exist_ok=True)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "head.onnx").write_bytes(content)
    card = {
        "name": "bad",
        "task": "aesthetic",
        "files": {"model": {"path": "head.onnx", "sha256": cards.sha256(folder / "head.onnx")}},
        "embedding": {"dimension": 4},
        **changes,
    }
    (folder / "model.yaml").write_text(json.dumps(card))
    return f"{folder}/"


def network(*nodes: onnx.NodeProto, opset: int = 17, domain: str = "") -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def first(*more: onnx.NodeProto) -> onnx.ModelProto:
    return network(helper.make_node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=0), *more)


def endless() -> onnx.ModelProto:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["going"]),
            helper.make_node("Sin", ["v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    rounds = helper.make_tensor("rounds", TensorProto.INT64, [], [2**62])
    return first(
        helper.make_node("Constant", [], ["rounds"], value=rounds),
        helper.make_node("Loop", ["rounds", "", "m"], ["y"], body=body),
    )


BAD = {
    "NaN": (
        lambda: first(
            helper.make_node("Sub", ["m", "m"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])
        ),
        {},
        "not finite",
    ),
    "shape": (lambda: network(helper.make_node("Relu", ["x"], ["y"])), {}, "one score each"),
    "dimension": (
        lambda: first(helper.make_node("Relu", ["m"], ["y"])),
        {"embedding": {"dimension": 5}},
        r"allowed one input \(n, 5\)",
    ),
    "opset": (
        lambda: network(helper.make_node("Relu", ["x"], ["y"]), opset=99),
        {},
        "opset 99; allowed 1 to 26",
    ),
    "domain": (
        lambda: network(helper.make_node("Own", ["x"], ["y"], domain="evil"), domain="evil"),
        {},
        "operators of evil",
    ),
    "operator": (
        lambda: network(helper.make_node("NoSuch", ["x"], ["y"])),
        {},
        "NoSuch",
    ),
    "pickle": (lambda: b"\x80\x04N.", {}, "sluice models export"),
    "rubbish": (lambda: b"rubbish", {}, "no ONNX network"),
    "golden": (
        lambda: first(helper.make_node("Relu", ["m"], ["y"])),
        {"golden": [{"role": "model", "seed": 0, "values": [7.0]}]},
        "golden",
    ),
    "no embedding": (
        lambda: first(helper.make_node("Relu", ["m"], ["y"])),
        {"embedding": None},
        r"embedding\.dimension",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_is_one_message_before_a_job(tmp_path, kind) -> None:
    make, changes, message = BAD[kind]
    place = stored(tmp_path / "bad", make(), **changes)
    with pytest.raises(ModelProblem, match=message):
        model_store.check(place, deadline_s=60)


def test_a_model_that_hangs_is_ended(tmp_path) -> None:
    place = stored(tmp_path / "bad", endless())
    started = time.monotonic()
    with pytest.raises(ModelProblem, match=r"not done within 8 s.*--deadline"):
        model_store.check(place, deadline_s=8)
    assert time.monotonic() - started < 20


def test_a_model_that_ends_its_process_is_a_message() -> None:
    with pytest.raises(ModelProblem, match="ended its process with code 7"):
        trials.within(60, "bad", os._exit, 7)


def test_a_wrong_digest_and_a_missing_file_are_named(tmp_path) -> None:
    place = stored(tmp_path / "bad", first(helper.make_node("Relu", ["m"], ["y"])))
    (tmp_path / "bad" / "head.onnx").write_bytes(b"altered")
    with pytest.raises(ModelProblem, match="sha256"):
        model_store.check(place)
    (tmp_path / "bad" / "head.onnx").unlink()
    with pytest.raises(ModelProblem, match=r"head\.onnx"):
        model_store.check(place)


@pytest.mark.parametrize(("name", "roles"), [("demo-clip", {"image", "text"}), ("open-nsfw", 1)])
def test_the_bundled_models_pass(name, roles) -> None:
    _, tried = model_store.check(name)
    assert set(tried.providers) == (roles if roles != 1 else {"model"})


# --- finding


def test_an_export_without_a_card_is_used_as_it_lies(tmp_path) -> None:
    source = made.two_files(tmp_path / "source")
    card, folder = cards.find(str(source), "clip")
    assert folder == source
    assert card.files["image"].path == "onnx/vision_model.onnx"
    assert model_store.check(str(source))[1].dimension == made.WIDTH


def test_an_export_that_must_be_cut_is_sent_to_add(tmp_path) -> None:
    source = made.combined(tmp_path / "source")
    with pytest.raises(ModelProblem, match="sluice models add"):
        cards.find(str(source), "clip")
    with pytest.raises(ModelProblem, match="sluice models add"):
        cards.find(str(source / "config.json"), "clip")


def test_a_model_in_an_installed_package_is_found_by_its_name(tmp_path, store, monkeypatch) -> None:
    package = tmp_path / "site" / "my_models"
    stored(package / "inner", first(helper.make_node("Relu", ["m"], ["y"])))
    (package / "__init__.py").write_text("raise SystemExit('never imported')")
    (package / "inner" / "__init__.py").touch()
    info = tmp_path / "site" / "my_models-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_models\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sluice.models]\nmine = my_models.inner\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    assert cards.find("mine", "aesthetic")[1] == package / "inner"
    assert "mine" in {name for _, name, _ in cards.every()}
    assert not store.exists()


def test_an_address_goes_to_what_fetches_it(tmp_path) -> None:
    place = stored(tmp_path / "m", first(helper.make_node("Relu", ["m"], ["y"])))
    asked = []

    def fetch(address: str) -> Path:
        asked.append(address)
        return Path(place)

    for address in ("models:/mine/1", "hdfs://host/m"):
        assert cards.find(address, "aesthetic", fetch)[1] == Path(place)
        with pytest.raises(ModelProblem, match="got an address"):
            cards.find(address, "aesthetic")
    assert asked == ["models:/mine/1", "hdfs://host/m"]


# --- the command line


@pytest.mark.usefixtures("here")
def test_the_commands_add_list_and_check(tmp_path, store) -> None:
    said = runner.invoke(app, ["models", "add", str(head_file(tmp_path)), "--name", "mine"])
    assert said.exit_code == 0, said.output
    assert "added mine (aesthetic" in said.output
    assert "licence is not stated" in said.output.replace("\n", " ")

    (store / "broken").mkdir()
    (store / "broken" / "model.yaml").write_text("name: [")
    listed = json.loads(runner.invoke(app, ["models", "list", "--json"]).output)
    by_name = {row["name"]: row for row in listed}
    assert by_name["mine"]["task"] == "aesthetic"
    assert by_name["mine"]["dimension"] == made.WIDTH
    assert by_name["broken"]["task"] == "unreadable"
    assert {"open-nsfw", "lid-176", "demo-clip"} <= set(by_name)
    assert runner.invoke(app, ["models", "list"]).exit_code == 0

    assert runner.invoke(app, ["models", "check", "mine"]).exit_code == 0
    failed = runner.invoke(app, ["models", "check", "mine", "broken", "nowhere", "--json"])
    assert failed.exit_code == 6
    assert '"model": "mine model"' in failed.output
    assert "nowhere is no bundled card" in failed.output
    assert "no usable YAML" in failed.output


@pytest.mark.usefixtures("here")
def test_check_without_a_name_checks_those_of_the_configuration(tmp_path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("warehouse: w\ndumps: [{name: d, path: p}]\n")
    for command in (["models", "check", str(config)], ["models", "check", "-c", str(config)]):
        said = runner.invoke(app, command)
        assert said.exit_code == 0, said.output
        assert "demo-clip" in said.output
        assert "open-nsfw" in said.output


def test_a_card_says_its_dimension() -> None:
    card = Card(name="a", task="nsfw", files={})
    assert card.dimension is None
    assert card.model_copy(update={"embedding": CardEmbedding(dimension=3)}).dimension == 3


@pytest.mark.usefixtures("here", "store")
def test_a_network_that_mixes_its_batch_or_gives_other_numbers_is_refused(tmp_path) -> None:
    folder = model_store.add(made.two_files(tmp_path / "s"), name="mine").folder
    card = yaml.safe_load((folder / "model.yaml").read_text())
    assert model_store.check("mine")[1].providers.keys() == {"image", "text"}

    card["golden"][1]["values"][0] += 0.01
    (folder / "model.yaml").write_text(json.dumps(card))
    with pytest.raises(ModelProblem, match=r"text network gives 0\.01 away"):
        model_store.check("mine")

    mixing = made.image_nodes("pixel_values", "each")
    mixing.append(helper.make_node("ReduceMean", ["each"], ["all"], axes=[0], keepdims=1))
    mixing.append(helper.make_node("Add", ["each", "all"], ["image_embeds"]))
    pixels = made.port("pixel_values", TensorProto.FLOAT, "n", 3, made.SIDE, made.SIDE)
    output = made.port("image_embeds", TensorProto.FLOAT, "n", made.WIDTH)
    made.save(folder / "mixing.onnx", mixing, [pixels], [output])
    digest = cards.sha256(folder / "mixing.onnx")
    card["files"]["image"] = {"path": "mixing.onnx", "sha256": digest}
    (folder / "model.yaml").write_text(json.dumps(card))
    with pytest.raises(ModelProblem, match="free batch axis"):
        model_store.check("mine")


@pytest.mark.usefixtures("here", "store")
def test_a_width_that_no_file_says_is_tried_out(tmp_path) -> None:
    source = made.two_files(tmp_path / "s")
    nodes = made.image_nodes("pixel_values", "image_embeds")
    pixels = made.port("pixel_values", TensorProto.FLOAT, "n", 3, made.SIDE, made.SIDE)
    output = made.port("image_embeds", TensorProto.FLOAT, "n", "wide")
    made.save(source / "onnx" / "vision_model.onnx", nodes, [pixels], [output])
    made.text(source / "onnx" / "text_model.onnx", width="wide")
    made.write(source, "config.json", {"model_type": "clip"})

    assert model_store.add(source, name="mine").card.dimension == made.WIDTH
