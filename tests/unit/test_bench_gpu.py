"""What measures on a GPU runs on a machine without one too, small."""

import json
import subprocess
import time
from dataclasses import replace

import pytest

from tests import gpu_device
from tests.bench import bench_gpu
from tests.bench.bench_gpu import Asked


def test_without_a_device_it_says_so_and_ends(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu_device, "missing", lambda: "no device")
    bench_gpu.main([])
    assert json.loads(capsys.readouterr().out) == {"skipped": "no device"}


def test_all_sides_are_measured(tmp_path) -> None:
    asked = Asked("cpu", ["small"], workers=[2], images=16, batch=4, repeats=1, runs=1)
    found = bench_gpu.measure(replace(asked, cache=tmp_path))["small"]
    assert all(found["network_alone_images_per_s"][how] > 0 for how in ("plain", "bound"))
    (figures,) = found["workers"].values()
    rates = [figures[side]["images_per_s"] for side in ("bare", "ours", "decode")]
    assert min(rates) > 0
    assert figures["ratio"] == pytest.approx(rates[1] / rates[0], rel=0.01)
    assert figures["of_decode"] == pytest.approx(rates[1] / rates[2], rel=0.01)


@pytest.mark.parametrize(
    ("providers", "smi", "expected"),
    [
        (["CPUExecutionProvider"], "GPU 0: x", "no CUDAExecutionProvider"),
        (["CUDAExecutionProvider"], "", "lists no device"),
        (["CUDAExecutionProvider"], OSError("no such file"), "answers: no such file"),
        (["CUDAExecutionProvider"], "GPU 0: x", None),
    ],
)
def test_what_is_missing_for_a_gpu_is_named(monkeypatch, providers, smi, expected) -> None:
    def run(*_, **__):
        if isinstance(smi, OSError):
            raise smi
        return subprocess.CompletedProcess([], 0, stdout=smi)

    monkeypatch.setattr(gpu_device.onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(gpu_device.subprocess, "run", run)
    problem = gpu_device.missing()
    assert problem is None if expected is None else expected in problem


def test_utilisation_is_the_mean_of_what_is_printed_meanwhile() -> None:
    endless = "printf '10\\n[N/A]\\n90\\n'; exec sleep 600"
    with gpu_device.utilisation(["sh", "-c", endless]) as told:
        while len(told.samples) < 2:
            time.sleep(0.01)
    assert (told.samples, told.mean) == ([10.0, 90.0], 50.0)
