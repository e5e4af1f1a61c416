from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TOURS = sorted(NOTEBOOKS.glob("*.ipynb"))


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", TOURS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_defines_nothing(path):
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not any(
            line.lstrip().startswith(("def ", "class ")) for line in cell.source.split("\n")
        )


def test_the_tour_runs_on_the_demo_and_tells_what_it_promises(demo, monkeypatch):
    monkeypatch.setenv("SLUICE_CONFIG", str(demo.config_path))
    tour = nbformat.read(NOTEBOOKS / "01_tour.ipynb", as_version=4)
    NotebookClient(
        tour,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(demo.folder)}},
    ).execute()
    shown = str([cell.get("outputs") for cell in tour.cells])
    kept = demo.plan.warehouse.read("gold.default").count()
    assert f"{kept}" in shown
    for promised in ("rejected: clip_score", "truncated_shard", "image/png", "leaves", "run_id"):
        assert promised in shown
