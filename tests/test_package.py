"""The package `foreground`: a checkout imports its own code, and a wheel holds all of it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
    for name in ("pyproject.toml", "setup.py", "train.py", "eval.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(*words: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(words, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [["probe.py"], ["-m", "probe"]])
def test_a_checkout_and_its_workers_import_their_own_code(checkout, words):
    """Though another checkout is installed, for which PYTHONPATH stands here."""
    (checkout / "probe.py").write_text(PROBE)
    printed = run(sys.executable, *words, cwd=checkout, PYTHONPATH=str(ROOT)).split()
    assert printed == [str(checkout / name) for name in ("foreground/errors.py", "training/presets.py")] * 2


def test_pytest_imports_the_checkout():
    import foreground.training

    assert [Path(path).parent for path in foreground.training.__path__] == [ROOT]


def test_a_wheel_holds_every_module_and_its_data(checkout, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), ".", cwd=checkout)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    assert {path.name for path in (tmp_path / "site").iterdir() if "dist-info" not in path.name} == {"foreground"}
    data = (".py", ".yaml", ".md", ".webm")
    sources = {path.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("*") if path.suffix in data}
    sources = {path.relative_to("foreground") if path.parts[0] == "foreground" else path for path in sources}
    packed = {path.relative_to(tmp_path / "site/foreground") for path in (tmp_path / "site/foreground").rglob("*.*")}
    assert packed == sources | {Path("train.py"), Path("eval.py")}
    code = "from foreground.training.presets import load_yaml; from foreground import configs; import importlib.util as u;"
    code += "print(configs.__file__, u.find_spec('foreground.train').origin, u.find_spec('foreground.numpy'))"
    printed = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")).split()
    assert printed == [str(tmp_path / "site/foreground" / name) for name in ("configs/__init__.py", "train.py")] + ["None"]
