"""Test the package `foreground`: a checkout imports its own code, a wheel holds all of it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agents", "configs", "envs", "evaluation", "foreground", "training", "world_models")

PROBE = """
import multiprocessing
from foreground import errors
from foreground.training import presets

def show():
    print(errors.__file__, presets.__file__, sep="\\n", flush=True)

if __name__ == "__main__":
    show()
    process = multiprocessing.get_context("forkserver").Process(target=show)
    process.start()
    process.join()
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return a copy of what the package is built from."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "train.py", "eval.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(*words: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [["probe.py"], ["-m", "probe"]])
def test_a_checkout_and_its_workers_import_their_own_code(checkout, words):
    """Though another checkout is installed, for which PYTHONPATH stands here."""
    (checkout / "probe.py").write_text(PROBE)
    printed = run(sys.executable, *words, cwd=checkout, PYTHONPATH=str(ROOT)).split()
    assert (
        printed
        == [str(checkout / name) for name in ("foreground/errors.py", "training/presets.py")] * 2
    )


def test_pytest_imports_the_checkout():
    import foreground.training

    assert [Path(path).parent for path in foreground.training.__path__] == [ROOT]


def test_a_wheel_holds_every_module_and_its_data(checkout, tmp_path):
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
        cwd=checkout,
    )
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    assert {
        path.name for path in (tmp_path / "site").iterdir() if "dist-info" not in path.name
    } == {"foreground"}
    data = (".py", ".yaml", ".md", ".webm")
    sources = {
        path.relative_to(ROOT)
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.suffix in data
    }
    sources = {
        path.relative_to("foreground") if path.parts[0] == "foreground" else path
        for path in sources
    }
    packed = {
        path.relative_to(tmp_path / "site/foreground")
        for path in (tmp_path / "site/foreground").rglob("*.*")
    }
    assert packed == sources | {Path("train.py"), Path("eval.py")}
    code = "from foreground import configs; from importlib.util import find_spec;"
    code += (
        "print(configs.__file__, find_spec('foreground.train').origin, "
        "find_spec('foreground.numpy'))"
    )
    printed = run(
        sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    ).split()
    assert printed == [
        str(tmp_path / "site/foreground" / name) for name in ("configs/__init__.py", "train.py")
    ] + ["None"]


def test_pages_and_programs_name_benchmarks_as_modules():
    """`python benchmarks/NAME.py` finds no neighbours. results/ keeps commands as they were."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += [path for kind in ("py", "yaml") for path in (ROOT / "benchmarks").rglob(f"*.{kind}")]
    old = re.compile(r"python\s+benchmarks/\w+\.py")
    assert [path.name for path in pages if old.search(path.read_text())] == []


def test_a_result_says_a_command_that_runs():
    from benchmarks import result_files

    told = result_files.origin("studies.policy RUN", ["--every", "2"])["command"]
    assert told == "python -m benchmarks.studies.policy RUN --every 2"


def test_the_package_is_a_command():
    words = [sys.executable, "-m", "foreground"]
    done = subprocess.run([*words, "trian"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: no such program: command line: foreground train or eval\n",
    )
    done = subprocess.run(
        [*words, "train", "--agent", "infopwer"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean infopower" in done.stderr


def test_licence_and_citation_agree_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == project["license"] == "MIT"
    assert project["version"].removesuffix(".dev0") == citation["version"]
    assert f"## {citation['version']} " in (ROOT / "CHANGELOG.md").read_text()
    [author] = project["authors"]
    assert citation["authors"] == [author]
    assert f"Copyright (c) 2026 {author['name']}" in (ROOT / "LICENSE").read_text()
