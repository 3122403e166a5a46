"""Test one run per folder: renamed folders, deleted lock files, file systems without locks."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foreground.errors import UserError
from foreground.training import lock as locks
from foreground.training.files import Displaced
from foreground.training.lock import IN_USE, lock


def refused(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        lock(folder)
    assert error.value.exit_code == IN_USE == 6


def test_one_run_per_folder(tmp_path):
    held = lock(tmp_path / "run")
    refused(
        tmp_path / "run",
        f"^error: the run folder is in use by process {os.getpid()}: .*: wait for it",
    )
    held.release()
    with lock(tmp_path / "run"):
        pass
    lock(tmp_path / "run").release()


@pytest.mark.parametrize("name", ["a/b/run", "run"])
def test_the_names_of_a_new_folder_are_synced(tmp_path, monkeypatch, name):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (synced.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)),
    )
    with lock(tmp_path / name):
        parents = (tmp_path / name).relative_to(tmp_path).parents
        assert set(synced) == {str(tmp_path / parent) for parent in parents}


def test_a_refused_run_leaves_no_folder_and_takes_none_away(tmp_path):
    with lock(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with lock(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    with lock(tmp_path / "begun"):
        (tmp_path / "begun" / "config.yaml").write_text("")
    assert (tmp_path / "begun" / "config.yaml").exists()


def test_of_two_that_start_at_once_the_refused_one_takes_nothing_away(tmp_path):
    """Neither saw the folder, so that each believes to have made it."""
    holder, late = locks.Lock(tmp_path, True), locks.Lock(tmp_path, True)
    holder.take()
    with pytest.raises(UserError, match="in use"):
        late.take()
    late.release()
    assert (tmp_path / ".lock").exists()
    holder.check()
    holder.release()
    assert not tmp_path.exists()


def test_a_lock_on_a_folder_that_goes_away_is_none(tmp_path, monkeypatch):
    """Opened while its holder is refused: the holder removes the folder between our opening and our
    locking it.
    """
    flock = fcntl.flock

    def too_late(descriptor, how):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    refused(tmp_path / "run", "in use")
    assert not (tmp_path / "run").exists()


def test_deleting_the_lock_file_frees_nothing(tmp_path):
    with lock(tmp_path / "run") as held:
        (tmp_path / "run" / ".lock").unlink()
        refused(tmp_path / "run", "in use")
        held.check()


def test_a_lock_of_an_earlier_version_counts(tmp_path):
    """It held RUN/.lock alone, and wrote its process into it."""
    with (tmp_path / ".lock").open("w") as file:
        file.write("17\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(tmp_path, "in use by process 17:")


@pytest.mark.parametrize("how", ["renamed", "replaced", "deleted"])
def test_a_folder_that_is_another_one_is_noticed(tmp_path, how):
    run = tmp_path / "run"
    with lock(run) as held:
        held.check()
        shutil.rmtree(run) if how == "deleted" else run.rename(tmp_path / "moved")
        if how == "replaced":
            run.mkdir()
        now = "it was deleted" if how == "deleted" else f"it is now {tmp_path / 'moved'}"
        with pytest.raises(Displaced, match=rf"renamed, moved or replaced \({now}\): move it back"):
            held.check()
        if how == "renamed":
            (tmp_path / "moved").rename(run)
            held.check()
            return
    assert run.is_dir() == (how == "replaced")  # what is not ours is not removed


def test_a_link_to_the_run_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with lock(tmp_path / "run") as held:
        held.check()
        refused(tmp_path / "real", "in use")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        lock(tmp_path / "file" / "run")


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "victim").write_text("mine")
    os.link(tmp_path / "victim", tmp_path / ".lock")
    with pytest.raises(UserError, match=r"its \.lock is a link"):
        lock(tmp_path)
    assert (tmp_path / "victim").read_text() == "mine"


# ----------------------------------------------------------------------------- file systems without


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP])
def lockless(request, monkeypatch):
    """A file system whose flock answers so."""

    def flock(descriptor, how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_file_stands_for_a_lock_that_cannot_be_had(tmp_path, lockless, capsys):
    with lock(tmp_path / "run"):
        assert "cannot lock" in capsys.readouterr().err
        refused(
            tmp_path / "run",
            f"in use by process {os.getpid()}, and its file system cannot lock: .*remove "
            ".*exclusive",
        )
    assert not (tmp_path / "run" / ".lock-exclusive").exists()


def test_a_process_that_ended_holds_nothing(tmp_path, lockless):
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout
    (tmp_path / ".lock-exclusive").write_text(f"{int(ended)} {locks.socket.gethostname()}\n")
    with lock(tmp_path):
        pass
    (tmp_path / ".lock-exclusive").write_text(f"{int(ended)} another-host\n")
    refused(tmp_path, f"in use by process {int(ended)} on another-host")


def test_two_that_find_a_left_over_file_are_not_both_let_in(tmp_path, lockless, monkeypatch):
    """The second one read it before the first took it over, and removes it after that."""
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout
    (tmp_path / ".lock-exclusive").write_text(f"{int(ended)} {locks.socket.gethostname()}\n")
    named, first = locks.files.temporary_name, []

    def meanwhile(path):
        monkeypatch.setattr(locks.files, "temporary_name", named)
        first.append(lock(tmp_path))
        return named(path)

    monkeypatch.setattr(locks.files, "temporary_name", meanwhile)
    refused(tmp_path, f"in use by process {os.getpid()}, and its file system cannot lock")
    first[0].release()
    assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_file_that_stood_for_the_lock_is_noticed(tmp_path, lockless, replaced):
    file = tmp_path / "run" / ".lock-exclusive"
    with lock(tmp_path / "run") as held:
        held.check()
        file.unlink()
        if replaced:
            other = lock(tmp_path / "run")
            other.check()
        with pytest.raises(
            Displaced, match=r"\.lock-exclusive was deleted or replaced, so that another process"
        ):
            held.check()
    assert file.exists() == replaced  # the other's lock is not taken away


@pytest.fixture
def folders_unlockable(monkeypatch):
    """As on NFS, where a folder answers EBADF."""
    flock = fcntl.flock

    def of_files(descriptor, how):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", of_files)


def test_a_lock_file_that_is_the_only_lock_is_checked(tmp_path, folders_unlockable):
    with lock(tmp_path) as held:
        held.check()
        (tmp_path / ".lock").unlink()
        with pytest.raises(
            Displaced,
            match=r"\.lock was deleted or replaced, so that another process may train here",
        ):
            held.check()
        with lock(tmp_path) as second:  # it got in
            second.check()
            with pytest.raises(Displaced, match="deleted or replaced"):
                held.check()


def test_a_folder_that_cannot_be_locked_has_a_file_that_can(tmp_path, folders_unlockable, capsys):
    with lock(tmp_path):
        refused(tmp_path, f"in use by process {os.getpid()}:")
    assert capsys.readouterr().err == ""


# -------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", ["replay", "checkpoints"])
def test_a_link_into_another_run_is_refused(tmp_path, name):
    """Each run would delete the other's files there."""
    other, run = tmp_path / "other", tmp_path / "run"
    (other / name).mkdir(parents=True)
    run.mkdir()
    (run / name).symlink_to(other / name)
    lock(run).release()  # a folder on another disk
    (other / "config.yaml").write_text("")
    with pytest.raises(UserError, match=f"its {name} is a link into another run, {other}") as error:
        lock(run)
    assert error.value.exit_code == 2


def test_two_runs_that_share_a_linked_folder_are_two(tmp_path):
    (tmp_path / "disk" / "replay").mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "replay").symlink_to(tmp_path / "disk" / "replay")
    with lock(tmp_path / "one"):
        refused(tmp_path / "two", "in use")
    lock(tmp_path / "two").release()
