"""Test that nothing unpickles loaded data or opens a network port."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

from foreground.training import presets

ROOT = Path(__file__).parents[2]
OURS = [
    path
    for name in ("agents", "envs", "world_models", "configs", "training", "evaluation")
    for path in (ROOT / name).rglob("*.py")
]
OURS += [*ROOT.glob("*.py"), *(ROOT / "foreground").glob("*.py")]
UNPICKLERS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def imported(tree: ast.AST) -> set[str]:
    names = [
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    ]
    names += [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    return {name.split(".")[0] for name in names}


def called(tree: ast.AST) -> set[str]:
    """Functions by their text, with what they are called on."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_of_ours_unpickles_or_evaluates():
    assert len(OURS) > 60
    for path in OURS:
        tree = ast.parse(path.read_text())
        assert not imported(tree) & UNPICKLERS, path
        assert not called(tree) & {"torch.load", "eval", "exec", "yaml.unsafe_load", "os.system"}, (
            path
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert words.get("allow_pickle", "False") == "False", path
                assert words.get("shell", "False") == "False", path


def test_yaml_makes_plain_values_alone():
    callers = [path.name for path in OURS if "yaml.load" in called(ast.parse(path.read_text()))]
    assert callers == ["presets.py"]
    assert issubclass(presets._Loader, yaml.SafeLoader)


def test_tensorboard_listens_on_loopback_alone(tmp_path):
    recipe = (ROOT / "Makefile").read_text().split("\ntensorboard:")[1].splitlines()[1].split()
    words = [sys.executable, *recipe[1:]]
    words = [str(tmp_path) if "RUNS" in word else word for word in words if word != "$(ARGS)"]
    process = subprocess.Popen(
        [*words, "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        places, end = [], time.monotonic() + 60
        while not places and time.monotonic() < end:
            time.sleep(0.2)
            family = [
                psutil.Process(process.pid),
                *psutil.Process(process.pid).children(recursive=True),
            ]
            places = [
                one.laddr.ip
                for member in family
                for one in member.net_connections("inet")
                if one.status == "LISTEN"
            ]
    finally:
        process.terminate()
        process.wait()
    assert places
    assert set(places) <= {"127.0.0.1", "::1"}
