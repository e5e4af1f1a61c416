"""Turn the linear classifier of alt-profanity-check into model.onnx and tokenizer.json.

    pip install --target .cache/profanity --no-deps --require-hashes -r infra/locks/profanity.txt
    python -m infra.profanity.convert --source .cache/profanity/profanity_check/data

The package's files are pickles: they are read here, once, after their digests were checked, and
never where Sluice runs. The weights are not ours and stay out of the repository.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, models, normalizers, pre_tokenizers

HERE: Final = Path(__file__).parent
OPSET: Final = 17
IR_VERSION: Final = 8  # of that opset
PICKLES: Final = {  # alt-profanity-check 1.9.1
    "model.joblib": "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
    "vectorizer.joblib": "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
}
_WORD: Final = r"[\p{L}\p{N}_]{2,}"  # what Python's \b\w\w+\b finds, the vectorizer's pattern
_UNKNOWN: Final = "[UNK]"  # id 0, as padding: it weighs nothing


def tokenizer(words: list[str]) -> tokenizers.Tokenizer:
    """Words to ids from 1 in the order given; others are 0."""
    vocabulary = {word: n for n, word in enumerate([_UNKNOWN, *words])}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    return made


def network(
    idf: np.ndarray, weights: np.ndarray, biases: np.ndarray, slopes: np.ndarray, shifts: np.ndarray
) -> onnx.ModelProto:
    """TF-IDF, k linear machines, Platt's sigmoid of each, their mean.

    The sum of squares over distinct words, which scales a text to length 1, is the sum over all
    pairs of equal ids: so no vector as long as the vocabulary is ever made.

    Args:
        idf: (words,) float.
        weights: (k, words) float.
        biases: (k,) float.
        slopes: (k,) float, Platt's A.
        shifts: (k,) float, Platt's B.

    Returns:
        A network input_ids: (n, tokens) int64 -> toxicity: (n, 1) float32 in [0, 1].
    """
    padded = np.concatenate([[0.0], idf])
    table = np.concatenate([np.zeros((1, len(weights))), (weights * idf).T])
    constants = {
        "idf": padded,
        "table": table,
        "slopes": -slopes,
        "offsets": -(slopes * biases + shifts),
        "tiny": np.array(1e-12),  # a text of unknown words has length 0
    }
    axes = {"last": np.array([2]), "words": np.array([1])}
    nodes = [
        ("Gather", ["idf", "input_ids"], "weight", {}),
        ("Unsqueeze", ["input_ids", "words"], "row", {}),
        ("Unsqueeze", ["input_ids", "last"], "column", {}),
        ("Equal", ["row", "column"], "same", {}),
        ("Cast", ["same"], "pairs", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["weight", "last"], "weights", {}),
        ("MatMul", ["pairs", "weights"], "sums", {}),
        ("Mul", ["sums", "weights"], "squares", {}),
        ("ReduceSum", ["squares", "words"], "square", {"keepdims": 1}),
        ("Squeeze", ["square", "last"], "flat", {}),
        ("Max", ["flat", "tiny"], "positive", {}),
        ("Sqrt", ["positive"], "length", {}),
        ("Gather", ["table", "input_ids"], "parts", {}),
        ("ReduceSum", ["parts", "words"], "whole", {"keepdims": 0}),
        ("Div", ["whole", "length"], "scaled", {}),
        ("Mul", ["scaled", "slopes"], "sloped", {}),
        ("Add", ["sloped", "offsets"], "shifted", {}),
        ("Sigmoid", ["shifted"], "each", {}),
        ("ReduceMean", ["each"], "toxicity", {"axes": [1], "keepdims": 1}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [name], **kw) for kind, inputs, name, kw in nodes],
        "profanity",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("toxicity", TensorProto.FLOAT, ["n", 1])],
        [
            *(numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()),
            *(numpy_helper.from_array(v, k) for k, v in axes.items()),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model


def converted(vectorizer: Any, classifier: Any) -> tuple[tokenizers.Tokenizer, onnx.ModelProto]:
    """Both files of scikit-learn's TfidfVectorizer and sigmoid-calibrated LinearSVC."""
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    members = classifier.calibrated_classifiers_
    return tokenizer(words), network(
        vectorizer.idf_,
        np.concatenate([member.estimator.coef_ for member in members]),
        np.concatenate([member.estimator.intercept_ for member in members]),
        np.array([member.calibrators[0].a_ for member in members]),
        np.array([member.calibrators[0].b_ for member in members]),
    )


def main() -> None:
    """Write ``model.onnx`` and ``tokenizer.json`` beside the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the folder of the pickles")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the files go")
    arguments = parser.parse_args()
    for name, expected in PICKLES.items():
        digest = hashlib.sha256((arguments.source / name).read_bytes()).hexdigest()
        if digest != expected:
            sys.exit(f"{name} of sha256 {digest}; allowed {expected}; take the locked wheel")
    vectorizer, classifier = (
        joblib.load(arguments.source / name) for name in ("vectorizer.joblib", "model.joblib")
    )
    words, model = converted(vectorizer, classifier)
    (arguments.folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    words.save(str(arguments.folder / "tokenizer.json"), pretty=False)
    for path in (arguments.folder / "model.onnx", arguments.folder / "tokenizer.json"):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
