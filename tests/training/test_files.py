"""Test file access: temporary names, folders without sync, transient errors, text."""

import errno
import io
import json
import math
import multiprocessing
import os
import stat
import time

import numpy as np
import pytest
import torch

from foreground.errors import UserError, say
from foreground.training import checkpoint, files
from foreground.training.files import Damaged, Unreadable

PASSING = [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES]


def write_often(path, number: int) -> None:
    for _ in range(200):
        files.write_json(path, {"writer": number, "fill": "x" * 5000})


def test_two_processes_write_one_name_and_neither_fails(tmp_path):
    """When two evaluations end together, the name always holds all of one of them."""
    path = tmp_path / "scores.json"
    files.write_json(path, {"writer": 0, "fill": ""})
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(json.loads(path.read_text())["writer"])
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(seen) >= 2
    assert os.listdir(tmp_path) == ["scores.json"]


def test_a_temporary_name_fits_where_the_name_does(tmp_path):
    name = "ü" * 127 + "x"
    files.write_atomic(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    assert files.TEMPORARY.fullmatch(files.temporary_name(tmp_path / name).name)


def test_only_our_own_old_temporary_files_go(tmp_path):
    names = [
        ".tmp-0123abcd-scores.json",
        ".tmp-a_b2c3d4.mp4",
        ".tmp-ffffffff-new",
        ".tmp-notes",
        "scores.json",
    ]
    for name in names:
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0) if name != ".tmp-ffffffff-new" else None)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("")
    for name in ("00000000-old", "00000001-new"):
        (tmp_path / f".tmp-{name}").mkdir()
        (tmp_path / f".tmp-{name}" / "scores.json").write_text("")
    os.utime(tmp_path / ".tmp-00000000-old", (0, 0))
    (tmp_path / ".tmp-00000002-link").symlink_to(tmp_path / "elsewhere")
    os.utime(tmp_path / ".tmp-00000002-link", (0, 0), follow_symlinks=False)
    files.remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *names[2:],
        "elsewhere",
        ".tmp-00000001-new",
    }
    assert (tmp_path / "elsewhere" / "kept").exists()
    files.remove_abandoned(tmp_path / "absent")


def test_numbers_that_json_lacks_are_null(tmp_path):
    value = {"a": math.nan, "b": [1.5, math.inf, (np.float64("-inf"), 2)], "c": "NaN", "d": None}
    files.write_json(tmp_path / "x.json", value)
    kept = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert kept == {"a": None, "b": [1.5, None, [None, 2]], "c": "NaN", "d": None}


def fails_to_sync(monkeypatch, code: int, kind) -> None:
    fsync = os.fsync

    def refuse(descriptor):
        if kind(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_one_warning(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(files, "_unsynced", set())
    fails_to_sync(monkeypatch, code, stat.S_ISDIR)
    files.make_folder(tmp_path / "a" / "b", parents=True)
    files.write_atomic(tmp_path / "a" / "b" / "x", b"1")
    path = checkpoint.save(tmp_path / "a" / "checkpoints", 1, {"x": torch.ones(3)})
    checkpoint.verify(path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("warning: the file system of ")
    assert os.strerror(code) in said


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EIO, stat.S_ISDIR), (errno.EINVAL, stat.S_ISREG)]
)
def test_other_refusals_are_errors_that_name_the_file(tmp_path, monkeypatch, code, kind):
    fails_to_sync(monkeypatch, code, kind)
    with pytest.raises(OSError, match=os.strerror(code)) as error:
        files.write_atomic(tmp_path / "x", b"1")
    assert str(tmp_path) in error.value.filename


def fails_to_open(monkeypatch, code: int, name: str) -> None:
    opened = os.open

    def refuse(path, *words, **options):
        if str(path).endswith(name):
            raise OSError(code, os.strerror(code))
        return opened(path, *words, **options)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("name", ["MANIFEST.json", "state.json", "tensors.safetensors"])
@pytest.mark.parametrize("code", PASSING)
def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, name, code):
    old, new = (checkpoint.save(tmp_path, step, {"x": torch.ones(3)}) for step in (1, 2))
    with monkeypatch.context() as patched:
        fails_to_open(patched, code, name)
        with pytest.raises(Unreadable, match=rf"cannot be read \({os.strerror(code)}\).*try again"):
            checkpoint.latest(tmp_path)
        with pytest.raises(Unreadable):
            checkpoint.load(new)
        assert checkpoint.prune(tmp_path) == []
    assert checkpoint.steps(tmp_path) == [old, new]
    assert checkpoint.latest(tmp_path) == (new, [])


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ELOOP, errno.ENXIO])
def test_what_is_proven_is_damage(tmp_path, monkeypatch, code):
    old, _ = (checkpoint.save(tmp_path, step, {"x": torch.ones(3)}) for step in (1, 2))
    fails_to_open(monkeypatch, code, "2/state.json")
    path, [sentence] = checkpoint.latest(tmp_path)
    assert path == old
    assert "is damaged" in sentence


def test_a_size_that_a_listing_claims_takes_no_memory(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    for size in (2**40, 2**53):
        with pytest.raises(Damaged, match="truncated to 5"):
            files.read_listed(tmp_path, {"name": "x", "bytes": size, "sha256": "0" * 64})
    assert not files.valid_listing({"name": "x", "bytes": 2**63, "sha256": "0" * 64})


def test_a_large_state_is_refused_before_it_is_read(tmp_path):
    """JSON takes up to 36 times its size in memory. The file has holes: it takes no room."""
    path = checkpoint.save(tmp_path, 1, {"x": torch.ones(3)})
    os.truncate(path / "state.json", checkpoint.MAX_STATE_BYTES + 1)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    for listing in manifest["files"]:
        listing["bytes"] = (path / listing["name"]).stat().st_size
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    began = time.monotonic()
    with pytest.raises(Damaged, match="the most"):
        checkpoint.load(path)
    assert time.monotonic() - began < 1


ESCAPES = "\x1b]0;title\x07\x1b[2J\nerror: forged\r\x9b31m"


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (f"warning: chunk {ESCAPES}", "warning: chunk ?]0;title??[2J?error: forged??31m\n"),
        (f"error: {ESCAPES}", "error: ?]0;title??[2J?error: forged??31m\n"),
        ("background  return\nclean\t9 ☃\x1b[1m", "background  return\nclean\t9 ☃?[1m\n"),
    ],
)
def test_text_from_files_reaches_a_terminal_clean(said, heard):
    stream = io.StringIO()
    say(said, stream)
    assert stream.getvalue() == heard
    assert str(UserError(said, "x\x1b", "y")).isprintable()
