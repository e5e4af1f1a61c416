"""Models of other frameworks as folders that Sluice reads: two ONNX networks and a card.

Needs `infra/locks/export.txt`; nothing of it is imported before an export is asked for.
"""

from pathlib import Path

from jobs.export import from_open_clip, from_transformers
from jobs.export.folder import write
from jobs.export.source import Source

__all__ = ["source", "write"]


def source(model: str, *, pretrained: str | None = None, seed: int | None = None) -> Source:
    """The dual encoder of a name or a folder.

    Args:
        model: a name of open_clip's, or a folder that open_clip or transformers wrote.
        pretrained: open_clip's tag of weights, or a checkpoint.
        seed: of random weights, to try an export without any.

    Raises:
        EnvironmentProblem: the packages of `infra/locks/export.txt` are not there.
        ModelProblem: there is no such model, or no card describes it.
    """
    folder = Path(model)
    if folder.is_dir() and not (folder / from_open_clip.CONFIG_FILE).is_file():
        return from_transformers.read(folder)
    return from_open_clip.read(model, pretrained=pretrained, seed=seed)
