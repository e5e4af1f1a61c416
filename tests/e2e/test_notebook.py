from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


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
