"""Each published head, built in torch with random weights under its own names, equals our network.

The layouts are those of the published files; torch evaluates them layer by layer, in float32.
"""

import itertools
import pickle

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from jobs.export import from_pickle
from jobs.models import heads, tensors
from jobs.runtime.errors import ConfigError, ModelProblem

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns freely


def linear_stack(widths, gaps, relus):
    """`layers.N`: affine layers, each followed by what stands between it and the next."""
    layers = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        between = [nn.ReLU()] if place < relus else []
        layers += between + [nn.Dropout(0.2)] * (gaps[place] - len(between))
    model = nn.Module()
    model.layers = nn.Sequential(*layers)
    model.forward = model.layers.forward
    return model


V2 = [1024, 128, 64, 16, 1]
H14 = [1024, 1024, 2048, 1024, 256, 128, 16, 1]
LAYOUTS = {  # improved-aesthetic-predictor and CLIP-based-NSFW-Detector name their layers so
    "aesthetic V1, L/14": lambda: nn.Linear(768, 1),
    "aesthetic V1, B/32": lambda: nn.Linear(512, 1),
    "aesthetic V2, linear": lambda: linear_stack([768, *V2], [1, 1, 1, 0, 0], 0),
    "aesthetic V2, ReLU": lambda: linear_stack([768, *V2], [2, 2, 2, 1, 0], 4),
    "NSFW H/14": lambda: linear_stack(H14, [2, 2, 2, 2, 2, 0, 0], 5),
}
INDICES = {
    "aesthetic V2, linear": [0, 2, 4, 6, 7],
    "aesthetic V2, ReLU": [0, 3, 6, 9, 11],
    "NSFW H/14": [0, 3, 6, 9, 12, 15, 16],
}


def unit(dimension):
    return heads.probes(dimension, seed=9, rows=256)


def run(spec, embeddings):
    network = ort.InferenceSession(heads.to_onnx(spec).SerializeToString())
    return network.run([heads.OUTPUT], {heads.INPUT: embeddings})[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_torch_head_equals_its_network(tmp_path, name):
    torch.manual_seed(7)
    model = LAYOUTS[name]().eval()
    state = model.state_dict()
    if name in INDICES:
        assert list(state) == [
            f"layers.{n}.{kind}" for n in INDICES[name] for kind in ("weight", "bias")
        ]
    torch.save(state, tmp_path / "head.pth")
    from_pickle.write(tmp_path / "head.pth", tmp_path / "head.npz")
    found = heads.published(tensors.read(tmp_path / "head.npz"), name)
    embeddings = unit(found.spec.dimension)
    with torch.no_grad():
        expected = model(torch.from_numpy(embeddings)).numpy()[:, 0]
    assert np.ptp(expected) > 1e-4  # it tells embeddings apart
    assert np.abs(run(found.spec, embeddings) - expected).max() < 1e-5


def test_the_linear_v2_is_fused_into_one_layer_exactly(tmp_path):
    torch.manual_seed(8)
    model = LAYOUTS["aesthetic V2, linear"]().eval()
    with torch.no_grad():
        for value in model.parameters():
            value *= 3  # scores of the size of published ones, up to 10
    torch.save({"state_dict": model.state_dict()}, tmp_path / "head.pth")
    title = from_pickle.write(tmp_path / "head.pth", tmp_path / "head.npz")
    assert "linear" in title
    found = heads.published(tensors.read(tmp_path / "head.npz"), "v2").spec
    assert len(found.layers) == 1
    embeddings = unit(768)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(embeddings).double()).numpy()[:, 0]
    assert np.abs(run(found, embeddings) - expected).max() < 1e-5


@pytest.mark.parametrize(("dimension", "widths"), [(768, [64, 512, 256, 1]), (512, [32, 32, 1])])
def test_a_keras_nsfw_head_equals_its_network(tmp_path, dimension, widths):
    rng = np.random.default_rng(3)
    weights = {
        "normalization/mean:0": rng.normal(size=dimension) * 0.02,
        "normalization/variance:0": rng.uniform(0.5, 2, size=dimension) / dimension,
        "normalization/count:0": np.array(1000.0),
    }
    sizes = [dimension, *widths]
    for place, (inputs, outputs) in enumerate(zip(sizes, widths, strict=False)):
        last = place == len(widths) - 1
        layer = "classification_head_1" if last else f"dense_{place}" if place else "dense"
        weights[f"{layer}/kernel:0"] = rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        weights[f"{layer}/bias:0"] = rng.normal(size=outputs) * 0.1
    np.savez(tmp_path / "head.npz", **weights)
    embeddings = unit(dimension)
    x = torch.from_numpy(embeddings)
    mean, variance = (
        torch.from_numpy(weights[f"normalization/{name}:0"]).float()
        for name in ("mean", "variance")
    )
    x = (x - mean) / torch.clamp(torch.sqrt(variance), min=1e-7)
    kernels = [torch.from_numpy(v).float() for k, v in weights.items() if "kernel" in k]
    biases = [torch.from_numpy(v).float() for k, v in weights.items() if "bias" in k]
    for place, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = x @ kernel + bias
        x = torch.sigmoid(x) if place == len(kernels) - 1 else torch.relu(x)
    found = heads.published(tensors.read(tmp_path / "head.npz"), "keras")
    assert np.ptp(x.numpy()) > 0.05
    assert np.abs(run(found.spec, embeddings) - x.numpy()[:, 0]).max() < 1e-5


@pytest.mark.parametrize("dimension", [768, 512])
def test_the_nearer_of_two_prompts_decides_as_in_torch(tmp_path, dimension):
    prompts = unit(dimension)[:2]
    np.save(tmp_path / "prompts.npy", prompts)
    found = heads.published(tensors.read(tmp_path / "prompts.npy"), "violence")
    embeddings = unit(dimension)[2:]
    both = torch.from_numpy(embeddings) @ torch.from_numpy(prompts).T
    got = run(found.spec, embeddings)
    assert ((got > 0) == (both.argmax(dim=1) == 1).numpy()).all()
    assert np.abs(got - (both[:, 1] - both[:, 0]).numpy()).max() < 1e-5


class Runs:
    def __reduce__(self):
        return (print, ("a pickle was run",))


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys):
    (tmp_path / "head.pth").write_bytes(pickle.dumps(Runs()))
    torch.save({"weight": Runs()}, tmp_path / "other.pth")
    for name in ("head.pth", "other.pth"):
        with pytest.raises(ModelProblem, match="got no torch file of named tensors"):
            from_pickle.write(tmp_path / name, tmp_path / "head.npz")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "head.npz").exists()


def test_an_unknown_head_and_a_target_that_exists_are_refused(tmp_path):
    torch.save(nn.Linear(4, 1).state_dict() | {"more": torch.zeros(1)}, tmp_path / "head.pth")
    with pytest.raises(ModelProblem, match="got weights named bias, more, weight"):
        from_pickle.write(tmp_path / "head.pth", tmp_path / "head.npz")
    with pytest.raises(ConfigError, match=r"allowed a new \.npz"):
        from_pickle.write(tmp_path / "head.pth", tmp_path / "head.pth")
