import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_defines_nothing(path):
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not any(
            line.lstrip().startswith(("def ", "class ")) for line in cell.source.split("\n")
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_is_there(path):
    tree = ast.parse("\n".join(cell.source for cell in cells(path)))
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert taken
    for node in taken:
        for alias in node.names:
            exec(f"from {node.module} import {alias.name}", {})
