"""Test process start-up: the user's settings, limits of a container, devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foreground.errors import MAX_FIELD_CHARS, UserError
from foreground.training import system


def test_start_up_keeps_what_the_user_set_and_imports_no_torch():
    code = (
        "import os, sys; from foreground.training.system import prepare_environment; "
        "prepare_environment(); "
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    for given, wanted in (({}, "0 False"), ({"GOMP_SPINCOUNT": "7"}, "7 False")):
        environment = {
            name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"
        } | given
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == wanted


def test_free_memory_minds_the_limit_of_a_container(tmp_path, monkeypatch):
    assert 2**24 < system.free_memory() <= system._meminfo()["MemTotal"]
    for name, content in (
        ("max", "1000000"),
        ("current", "700000"),
        ("stat", "anon 5\ninactive_file 100000\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(content)
    monkeypatch.setattr(system, "CGROUP", tmp_path)
    lines = "0::/\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, **named: lines if str(path) == "/proc/self/cgroup" else read(path, **named),
    )
    assert system.free_memory() == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert system.free_memory() > 2**24
    (tmp_path / "inner").mkdir()
    for name, content in (("max", "500"), ("current", "100"), ("stat", "")):
        (tmp_path / "inner" / f"memory.{name}").write_text(content)
    lines = "0::/inner\n"
    assert system.free_memory() == 400


def test_running_out_of_memory_is_one_line():
    line = "out of memory: here: choose a smaller --size"
    with (
        pytest.raises(UserError, match=line) as caught,
        system.one_line_without_memory(lambda: "here"),
    ):
        torch.empty(10**14)
    assert caught.value.exit_code == 4
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        with (
            pytest.raises(UserError, match="out of memory"),
            system.one_line_without_memory(lambda: "here"),
        ):
            raise error
    with (
        pytest.raises(RuntimeError, match="another matter"),
        system.one_line_without_memory(lambda: "here"),
    ):
        raise RuntimeError("another matter")


def test_hardware_and_commit():
    found = system.hardware()
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert all(isinstance(value, str | int | float) for value in found.values())
    assert (
        system.git_commit() == "unknown" or len(system.git_commit().removesuffix("+changes")) == 40
    )


@pytest.mark.parametrize(
    ("name", "mark"),
    [("results/a.json", ""), ("a.py", "+changes"), ("agents/results.py", "+changes")],
)
def test_a_new_result_is_no_change_of_the_source(tmp_path, name, mark):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("before")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / name).write_text("after")
    commit = system.git_commit(tmp_path)
    assert len(commit.removesuffix("+changes")) == 40
    assert commit[40:] == mark


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert system.pick_device("auto") == system.pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="no CUDA device"):
        system.pick_device("cuda")
    with pytest.raises(UserError, match="unknown device"):
        system.pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert system.pick_device("auto") == torch.device("cuda")


def test_a_line_stays_a_line_whatever_it_is_about():
    error = UserError("no " + "x\n\udc80" * 5000, "--a", "do this")
    assert str(error).isprintable()
    assert len(str(error)) < MAX_FIELD_CHARS + 100
    assert str(error).startswith("error: no x??x")
    assert str(error).endswith(": --a: do this")


def test_bfloat16_products_are_for_cpus_with_amx(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with pytest.raises(UserError, match=r"no AMX.*--matmul float32"):
        system.set_matmul("bfloat16")
    system.set_matmul("float32")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    try:
        system.set_matmul("bfloat16")
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        system.set_matmul("float32")
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
