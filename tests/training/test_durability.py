"""Test durable writes by a trace of system calls: data is on disk before it gets its name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import runs

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += \d+", re.MULTILINE)
BEGUN = re.compile(r"^(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
SMALL_CHUNKS = (
    "import sys; from foreground import train; from foreground.training import chunks; "
    "chunks.CHUNK_ROWS = 16; train.main(sys.argv[1:])"
)
CALLS = "trace=write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,socket"
TRACED = ["strace", "-f", "-y", "-s", "0", "-e", CALLS]

Event = tuple[str, str, str]  # (write, fsync or rename; path; the new path)


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> tuple[Path, str]:
    """(run folder, trace) of a run that saves eight times and prunes."""
    folder = tmp_path_factory.mktemp("traced")
    run, trace = folder / "run", folder / "trace"
    if (
        not shutil.which("strace")
        or subprocess.run([*TRACED, "-o", str(trace), "true"], capture_output=True).returncode
    ):
        pytest.skip("no strace here, or it may not trace")
    words = [
        *TRACED,
        "-o",
        str(trace),
        sys.executable,
        "-c",
        SMALL_CHUNKS,
        *runs.SMALL,
        "--total_frames",
        "320",
    ]
    # Nothing is learned: saving is looked at.
    words += ["--training.prefill", "310", "--folder", str(run)]
    subprocess.run(words, cwd=ROOT, env=runs.variables(folder), check=True, capture_output=True)
    return run, trace.read_text()


@pytest.fixture(scope="module")
def calls(traced) -> list[Event]:
    run, trace = traced
    return read(trace, run)


def whole(trace: str) -> str:
    """The trace with each call in one line, where it ended: strace splits one in two when another
    thread calls meanwhile.
    """
    lines, begun = [], {}
    for line in trace.splitlines():
        if match := BEGUN.match(line):
            begun[match[1]] = match[2]
        elif match := RESUMED.match(line):
            lines.append(f"{match[1]} {begun.pop(match[1], '')}{match[2]}")
        else:
            lines.append(line)
    return "\n".join(lines)


def read(trace: str, run: Path) -> list[Event]:
    """Calls on files of the run, in order."""
    found = []
    for name, arguments in CALL.findall(whole(trace)):
        names = re.findall(r"<(/[^>]*)>" if "rename" not in name else r'"([^"]*)"', arguments)
        names = [path for path in names if path.startswith(f"{run}/") or path == str(run)]
        if names:
            kind = "rename" if "rename" in name else "fsync" if "sync" in name else "write"
            found.append((kind, names[0], names[-1]))
    return found


def unsafe(events: list[Event]) -> list[str]:
    """What got its name too early: not all on the disk, or its name not on the disk before an older
    one went.
    """
    found, unwritten, unnamed = [], set(), set()
    for kind, path, target in events:
        if kind == "write":
            unwritten |= {path, str(Path(path).parent)} if "/.tmp-step-" in path else {path}
        elif kind == "fsync":
            unwritten.discard(path)
            unnamed = {name for name in unnamed if str(Path(name).parent) != path}
        else:
            missing = {name for name in unwritten if name == path or name.startswith(f"{path}/")}
            found += [f"{name} is not on the disk as it becomes {target}" for name in missing]
            if ".tmp-delete-" in target:
                found += [f"{path} goes before the name {name} is on the disk" for name in unnamed]
                continue
            # A checkpoint lists chunks, which must be there before it.
            if target.endswith(tuple("0123456789")):
                found += [f"{target} may be there without {name}" for name in unnamed]
            unnamed.add(target)
    return found + [f"the name {name} is not on the disk" for name in unnamed]


def test_nothing_gets_its_name_before_it_is_on_the_disk(calls):
    renamed = [target for kind, _, target in calls if kind == "rename"]
    assert sum("/checkpoints/step-" in name for name in renamed) == 8
    assert sum("/replay/" in name and name.endswith(".safetensors") for name in renamed) >= 8
    assert any(".tmp-delete-" in name for name in renamed)
    assert unsafe(calls) == []


@pytest.mark.parametrize(
    ("left_out", "word"),
    [
        (("fsync", "state.json"), "state.json is not on the disk as it becomes"),
        (("fsync", ".tmp-step"), "is not on the disk as it becomes"),
        (("fsync", "replay"), "may be there without"),
        (("fsync", "checkpoints"), "before the name"),
        (("fsync", "run"), "is not on the disk"),
    ],
)
def test_a_call_that_is_left_out_is_found(calls, left_out, word):
    kind, name = left_out
    less = [call for call in calls if not (call[0] == kind and Path(call[1]).name.startswith(name))]
    assert len(less) < len(calls)
    assert any(word in sentence for sentence in unsafe(less))


def test_a_run_opens_no_door_to_a_network(traced):
    assert set(re.findall(r"socket\((AF_\w+)", traced[1])) <= {"AF_UNIX"}


def test_the_trace_is_read():
    text = """7  write(3</r/.tmp-config.yaml>, ""..., 5) = 5
7  fsync(3</r/.tmp-config.yaml> <unfinished ...>
8  write(5</elsewhere>, ""..., 5) = 5
9  fsync(6</r/.tmp-other> <unfinished ...>
7  <... fsync resumed>)              = 0
8  rename("/r/.tmp-config.yaml", "/r/config.yaml") = 0
8  rename("/r/a", "/r/b") = -1 ENOENT (No such file or directory)
8  fsync(4</elsewhere>) = 0
"""
    assert read(text, Path("/r")) == [
        ("write", "/r/.tmp-config.yaml", "/r/.tmp-config.yaml"),
        ("fsync", "/r/.tmp-config.yaml", "/r/.tmp-config.yaml"),
        ("rename", "/r/.tmp-config.yaml", "/r/config.yaml"),
    ]
