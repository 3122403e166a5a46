"""Test imports: no circles, and none from a lower folder to a higher one."""

import ast
import graphlib
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "configs", "envs", "evaluation", "foreground", "training", "world_models")
FILES = {
    f"foreground.{'' if folder == 'foreground' else folder + '.'}{path.stem}".removesuffix(
        ".__init__"
    ): path
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
}


def imports(node: ast.AST) -> Iterator[str]:
    """Yield what a module imports, also within functions, but not for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom):
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in FILES else child.module for name in names)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imports(child)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    found = {name: set(imports(ast.parse(path.read_text()))) for name, path in FILES.items()}
    return {
        name: {other for other in others if other in FILES and other != name}
        for name, others in found.items()
    }


def test_no_modules_import_each_other(graph):
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("folder", "may"),
    [
        ("world_models", ("ranks", "world_models")),
        ("agents", ("agents", "ranks", "world_models")),
        ("envs", ("envs",)),
        ("configs", ("agents", "configs", "envs", "training", "world_models")),
    ],
)
def test_no_import_goes_back(graph, folder, may):
    allowed = ("foreground.errors", "foreground.option", *(f"foreground.{name}" for name in may))
    for name, others in graph.items():
        if name.startswith(f"foreground.{folder}."):
            assert [other for other in others if not other.startswith(allowed)] == [], name


def programs() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
    # export_bmi has an environment of its own.
    return [name for name in names if name != "benchmarks.export_bmi"]


@pytest.mark.parametrize("name", programs())
def test_every_benchmark_imports(name):
    importlib.import_module(name)
