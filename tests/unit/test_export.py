"""Without torch an export says what is missing; how far two embeddings are apart."""

from importlib.util import find_spec

import numpy as np
import pytest

from jobs import export
from jobs.export import fidelity
from jobs.export.extra import extra
from jobs.export.fidelity import Drift
from jobs.runtime.errors import EnvironmentProblem, ModelProblem

FINE = Drift(image=1.0, image_centred=1.0, text=1.0, text_centred=0.9995, texts_with_other_ids=0)


def test_a_missing_package_is_named_with_what_to_do() -> None:
    with pytest.raises(EnvironmentProblem, match=r"package no_torch does not load .*export\.txt"):
        extra("no_torch")


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here")
def test_an_export_without_torch_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="package torch does not load"):
        export.source("ViT-B-32", seed=1)


def test_the_bound_is_the_precisions() -> None:
    fidelity.check(FINE, "fp16")
    with pytest.raises(ModelProblem, match=r"0\.999500 .* allowed 0\.9999 in fp32"):
        fidelity.check(FINE, "fp32")


@pytest.mark.parametrize("cosine", [0.9, float("nan")])
def test_what_is_off_or_no_number_is_refused(cosine) -> None:
    drift = Drift(1.0, cosine, 1.0, 1.0, 0)
    with pytest.raises(ModelProblem, match="say --precision fp32"):
        fidelity.check(drift, "fp16")


def test_one_text_with_other_ids_is_refused() -> None:
    with pytest.raises(ModelProblem, match="1 texts got other ids"):
        fidelity.check(Drift(1.0, 1.0, 1.0, 1.0, 1), "fp32")


def test_a_shift_that_all_have_in_common_counts() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(50, 8)).astype(np.float32) * 0.01 + np.eye(8, dtype=np.float32)[0]
    shifted = theirs + 0.05 * np.eye(8, dtype=np.float32)[1]
    assert fidelity.least_cosine(shifted, theirs) > 0.99
    assert fidelity.least_cosine(shifted, theirs, is_centred=True) < 0.8


def test_the_examples_are_the_same_each_time() -> None:
    images, texts = fidelity.examples()
    again, _ = fidelity.examples()
    assert len(images) == 32
    assert all(one.tobytes() == two.tobytes() for one, two in zip(images, again, strict=True))
    assert len(set(texts)) == len(texts)
