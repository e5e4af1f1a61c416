import importlib.util
import subprocess
import sys
import zipfile

import numpy as np

from udfs.compiled import compiled

SOURCE = """
from udfs.compiled import compiled

@compiled
def doubled(values):
    for i in range(len(values)):
        values[i] *= 2
"""
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, kernel
values = np.arange(3)
kernel.doubled(values)
print(values.tolist())
"""


def test_machine_code_is_kept_beside_its_source(tmp_path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("kernel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = np.arange(3)
    module.doubled(values)
    assert values.tolist() == [0, 2, 4]
    assert list((tmp_path / "__pycache__").glob("kernel.doubled*.nbc"))


def test_from_a_zip_it_runs_where_no_home_can_be_written(tmp_path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        code.writestr("kernel.py", SOURCE)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    command = [sys.executable, "-c", RUN, str(tmp_path / "code.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 2, 4]"
    assert not done.stderr


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(monkeypatch) -> None:
    monkeypatch.setattr("udfs.compiled._njit", _unwilling_to_keep)
    assert compiled(_length)("ab") == 2


def _length(text: str) -> int:
    return len(text)


def _unwilling_to_keep(function, *, cache):
    if cache:
        raise RuntimeError("no locator available")
    return function


def test_code_without_a_file_runs() -> None:
    made: dict = {}
    exec("def tripled(value):\n    return 3 * value", made)
    assert compiled(made["tripled"])(2) == 6
