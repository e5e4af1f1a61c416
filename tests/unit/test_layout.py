"""The rooms of the house, and who may enter which."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql.types import LongType, StringType, StructType

import jobs
import schemas
import udfs

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"jobs", "udfs", "schemas", "notebooks", "tests", "infra"}
VAGUE = {"utils", "helpers", "common", "base", "manager"}
CONTRACT = {"TABLE", "GRAIN", "KEY", "SCHEMA", "VOLATILE", "CLUSTER_BY", "CHECKS"}
SOURCES = [
    file
    for room in ROOMS
    for file in (ROOT / room).rglob("*.py")
    if "__pycache__" not in file.parts
]


def tables():
    modules = [
        importlib.import_module(f"schemas.{m.name}") for m in pkgutil.iter_modules(schemas.__path__)
    ]
    return [module for module in modules if hasattr(module, "TABLE")]


def imports(file: Path) -> set[str]:
    """Dotted names that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", [jobs, udfs, schemas])
def test_the_packages_are_those_of_this_repository(package):
    assert Path(package.__file__).is_relative_to(ROOT)


def test_there_is_no_other_top_level_folder():
    folders = {entry.name for entry in ROOT.iterdir() if entry.is_dir()}
    unknown = {name for name in folders - ROOMS if not name.startswith(".")}

    assert not {name for name in unknown if not _is_ignored(name)}


def test_no_file_has_a_name_that_says_nothing():
    assert not [file for file in SOURCES if VAGUE & {file.stem, file.parent.name}]


def test_tests_are_no_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_schemas_import_nothing_but_spark_types():
    allowed = ("typing.", "collections.abc.", "pyspark.sql.types.", "schemas.")
    foreign = {
        (file.name, name)
        for file in (ROOT / "schemas").glob("*.py")
        for name in imports(file)
        if not name.startswith(allowed)
    }

    assert not foreign


def test_udfs_never_see_a_session():
    assert not [
        file.name
        for file in (ROOT / "udfs").rglob("*.py")
        if "pyspark.sql.SparkSession" in imports(file)
    ]


def test_infra_holds_no_module_that_hides_one_of_the_standard_library():
    assert not {file.stem for file in (ROOT / "infra").glob("*.py")} & sys.stdlib_module_names


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.TABLE)
def test_a_table_says_all_that_its_contract_asks(table):
    assert {*vars(table)} >= CONTRACT
    assert isinstance(table.SCHEMA, StructType)
    columns = set(table.SCHEMA.names)
    assert table.GRAIN
    assert table.KEY
    assert columns >= set(table.KEY)
    assert columns >= set(table.VOLATILE)
    assert columns >= set(table.CLUSTER_BY)
    assert not set(table.KEY) & set(table.VOLATILE)


@pytest.mark.parametrize(
    "table", [t for t in tables() if hasattr(t, "LAYOUT")], ids=lambda table: table.TABLE
)
def test_a_layout_is_of_columns_that_it_fits(table):
    layout, columns = table.LAYOUT, {field.name: field.dataType for field in table.SCHEMA}
    assert layout.sorted_by
    assert {*layout.sorted_by} <= {*columns}
    assert {columns[name] for name in layout.repeating} == {StringType()}
    assert {columns[name] for name in layout.delta} <= {LongType()}


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.TABLE)
def test_a_key_is_never_null(table):
    assert not [name for name in table.KEY if table.SCHEMA[name].nullable]


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.TABLE)
def test_every_column_has_a_comment(table):
    assert not [field.name for field in table.SCHEMA if not field.metadata.get("comment")]


def test_table_names_are_unique():
    names = [table.TABLE for table in tables()]

    assert len(set(names)) == len(names)


def _is_ignored(name: str) -> bool:
    command = ["git", "check-ignore", "-q", f"{name}/"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0
