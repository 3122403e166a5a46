"""Test the set-up: pinned versions, the two commands, error messages of the script."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINS, PROJECT = "constraints.txt", "pyproject.toml"
SETUP_FILES = [
    PINS,
    PROJECT,
    "setup.py",
    "Makefile",
    "Dockerfile",
    ".ci/run",
    "scripts/setup.sh",
    "scripts/egl.py",
]
# Written so that this file does not match itself.
PACKAGE_HOST = re.compile(
    r"py[p]i\.org|python[h]osted\.|download\.py[t]orch\.|https?://[^\s\"']*(?:py[p]i|de[b]ian|npm[j]s)[^\s\"']*/"
)


def pins() -> dict[str, str]:
    """Return package -> its whole line in constraints.txt, without comments."""
    lines = (line.split("#")[0].strip() for line in (ROOT / PINS).read_text().splitlines())
    return {canonical(re.split(r"[=<>~!\[; ]", line)[0]): line for line in lines if line}


def needed() -> dict[str, list[str]]:
    """Return extra ("" for none) -> the requirement lines of pyproject.toml."""
    project = tomllib.loads((ROOT / PROJECT).read_text())["project"]
    return {"": project["dependencies"]} | project["optional-dependencies"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def tracked_files() -> list[Path]:
    """What git tracks or would track; in an image without git, the files of the set-up."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    names = listing.stdout.split("\0") if listing.returncode == 0 else SETUP_FILES
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def make(*arguments: str, tree: Path = ROOT, **environment: str) -> str:
    """What make prints.

    The make that runs these tests must not pass its own flags and variables down.
    """
    command = ["make", "--no-print-directory", *arguments]
    environment = {"PATH": os.environ["PATH"]} | environment
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_every_package_has_one_version():
    lines = pins().values()
    assert len(lines) > 80
    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)
    ] == []


@pytest.mark.parametrize("extra", ["", "dev", "cluster", "docs", "games", "outside"])
def test_every_requirement_allows_its_pin(extra):
    for line in needed()[extra]:
        requirement = Requirement(line)
        version = pins()[canonical(requirement.name)].split("==")[1]
        assert requirement.specifier.contains(version), line


def test_what_is_installed_has_the_pinned_version():
    """Where one is missing from constraints.txt, next year's set-up is another one."""
    installed = {
        canonical(found.name): found.version.split("+")[0]
        for found in importlib.metadata.distributions()
    }
    direct = [
        canonical(Requirement(line).name) for extra in ("", "dev") for line in needed()[extra]
    ]
    waiting, wrong = [*direct], []
    for name in waiting:
        if name in installed and not name.startswith(("nvidia-", "cuda-", "triton")):
            if f"=={installed[name]}" not in pins().get(name, ""):
                wrong.append((name, installed[name]))
            lines = map(Requirement, importlib.metadata.requires(name) or [])
            more = {
                canonical(one.name)
                for one in lines
                if not one.marker or one.marker.evaluate({"extra": ""})
            }
            waiting += sorted(more - set(waiting))
    assert wrong == []


def test_opencv_is_the_headless_wheel_alone():
    everything = [
        *pins(),
        *(canonical(Requirement(line).name) for lines in needed().values() for line in lines),
    ]
    assert {package for package in everything if package.startswith("opencv")} == {
        "opencv-python-headless"
    }


def test_no_package_host_is_named():
    assert PACKAGE_HOST.search("https://py" + "pi.org/simple")
    named = [
        path
        for path in tracked_files()
        if PACKAGE_HOST.search(path.read_bytes().decode(errors="ignore"))
    ]
    assert named == []


def test_make_train_sets_up_then_runs_the_default_job():
    setup, train = make("-n", "train").splitlines()[-2:]
    assert setup.strip() == "scripts/setup.sh"
    assert train.split() == [".venv/bin/python", "train.py", "--config", "job"]


def test_make_passes_arguments_on():
    assert make("-n", "train", ARGS="--task cheetah-run").split()[-2:] == ["--task", "cheetah-run"]


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("test", '-m pytest -n 2 -m "not long and not outside"'),
        ("test-long", "-m pytest -m long"),
        ("outside", "-m pytest -o python_files"),
        ("lint", "-m ruff check ."),
        ("tensorboard", '-m tensorboard.main --logdir "runs"'),
    ],
)
def test_make_targets_set_up_first(target, runs):
    lines = make("-n", target).splitlines()
    assert lines[0].strip() == "scripts/setup.sh"
    assert runs in lines[-1]


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "1 0"), ({"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "7"}, "3 7")]
)
def test_threads_are_set_for_tests_unless_given(tmp_path, given, expected):
    shutil.copy(ROOT / "Makefile", tmp_path)
    write(tmp_path / "scripts/setup.sh", "#!/bin/sh\n")
    write(tmp_path / ".venv/bin/python", '#!/bin/sh\necho "$OMP_NUM_THREADS $GOMP_SPINCOUNT"\n')
    assert make("test", tree=tmp_path, **given).strip() == expected


def test_make_alone_is_help():
    printed = make()
    assert all(
        f"make {target}: " in printed
        for target in ("setup", "train", "test", "lint", "tensorboard")
    )


def test_dockerfile():
    lines = [line.strip() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1] not in ("root", "0")
    assert "ARG DEVICE=cpu" in lines
    assert 'CMD ["make", "train"]' in lines
    assert any(line.startswith("VOLUME") and line.endswith("/runs") for line in lines)


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ""), ("cuda", "gcc libc6-dev python3-dev")]
)
def test_dockerfile_brings_what_compiling_on_cuda_needs(device, expected):
    [extra] = re.findall(r"\$\(test .*\)", (ROOT / "Dockerfile").read_text())
    done = subprocess.run(
        ["sh", "-ec", f"echo {extra}"],
        env={"DEVICE": device},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


# A tree with the real script in it and a PATH that holds these tools alone: no apt-get, no sudo, no
# nvidia-smi.
TOOLS = ["bash", "cat", "cut", "dirname", "flock", "id", "rm", "sed", "sha256sum"]


@pytest.fixture
def tree(tmp_path):
    for name in [PINS, PROJECT, "scripts/setup.sh"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    write(tmp_path / "scripts/egl.py", "")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def run_setup(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(tree / "scripts/setup.sh"), *arguments]
    environment = {"PATH": str(tree / "bin")} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line that the script printed; it ended with 2."""
    assert done.returncode == 2, done
    assert re.fullmatch(r"error: [^\n]+: [^\n]+: [^\n]+\n", done.stderr)
    return done.stderr


def fake_python(tree: Path, version: str = "3.11", ensurepip: bool = True) -> None:
    """Stands for an interpreter of that version in what the script asks of one; runs egl.py as a
    shell script.
    """
    answers = f"""#!{shutil.which("bash")}
case "$*" in
*version_info*) echo {version} ;;
*_base_executable*) echo "$0" ;;
*tomllib*) echo dependencies ;;
*ensurepip*) exit {0 if ensurepip else 1} ;;
scripts/egl.py) exec bash scripts/egl.py ;;
*) echo "$*" >>calls ;;
esac
"""
    write(tree / "bin" / f"python{version}", answers)


@pytest.mark.parametrize("arguments", [[], ["--system"]])
def test_missing_egl_without_apt(tree, arguments):
    fake_python(tree)
    write(tree / "scripts/egl.py", "printf 'libEGL.so.1 is not installed'\nexit 1\n")
    line = refused(run_setup(tree, *arguments))
    assert "libEGL.so.1 is not installed" in line
    assert "libegl1" in line
    assert not (tree / ".venv").exists()


def test_missing_egl_without_rights(tree):
    fake_python(tree)
    write(tree / "scripts/egl.py", "printf 'EGL lists no devices'\nexit 1\n")
    write(tree / "bin/apt-get", "#!/bin/sh\nexit 1\n")
    (tree / "bin/id").unlink()
    write(tree / "bin/id", "#!/bin/sh\necho 1000\n")
    line = refused(run_setup(tree))
    assert "run: sudo apt-get update && sudo apt-get install" in line


def test_missing_venv_names_its_package(tree):
    fake_python(tree, "3.12", ensurepip=False)
    assert "python3.12-venv" in refused(run_setup(tree))


def test_a_python_that_can_make_an_environment_goes_first(tree):
    fake_python(tree, "3.12", ensurepip=False)
    fake_python(tree, "3.11")
    assert run_setup(tree, "--system").returncode == 0


def test_no_working_python(tree):
    # As a version manager's.
    write(tree / "bin/python3.12", "#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    assert "no working Python 3.11 or 3.12" in refused(run_setup(tree))


@pytest.mark.parametrize("variable", [{"PYTHON": "/no/such/python"}, {"DEVICE": "tpu"}])
def test_a_wrong_choice_is_named(tree, variable):
    fake_python(tree)
    [(name, value)] = variable.items()
    line = refused(run_setup(tree, **variable))
    assert name in line
    assert value in line


@pytest.mark.parametrize("name", ["nosuch", ""])
def test_an_unknown_extra_is_refused(name):
    done = subprocess.run(
        [ROOT / "scripts/setup.sh", "--extra", name], capture_output=True, text=True, check=False
    )
    assert f"there is no extra '{name}'" in refused(done)


def test_egl_is_not_asked_for_with_another_renderer(tree):
    fake_python(tree)
    write(tree / "scripts/egl.py", "exit 1\n")
    assert run_setup(tree, "--system", MUJOCO_GL="osmesa").returncode == 0
