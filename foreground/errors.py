"""A user's mistake is one sentence with its remedy; a fault of ours is one, too, and its traceback is in a file."""

import contextlib
import difflib
import errno
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable

NEAR = 0.65  # how alike two names are, 0 to 1, where one may be meant by the other
LONGEST = 1000  # letters of a part of the line
ELSEWHERE = {"gpu": "cuda", "cuda:0": "cuda"}  # names of values in other programs, and what they are here


class UserError(Exception):
    """Something the user can mend. Printed as ``error: what: where: do this``; the process ends with `exit_code`.

    what    what is wrong, without a full stop ("unknown task 'walker-wlak'")
    where   the option, file or folder it concerns ("--task")
    remedy  what to do ("did you mean walker-walk?")
    """

    def __init__(self, what: str, where: str, remedy: str, exit_code: int = 2):
        super().__init__(clean(f"error: {shortened(what)}: {shortened(where)}: {remedy}"))
        self.exit_code = exit_code


def shortened(text: str) -> str:
    """Of what a user may have given, so that a line stays a line: the middle goes where it is very long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


class WorkerLost(Exception):
    """A process of an environment was lost and replaced: what was under way there is nobody's, a reset comes next."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the remedy for an unknown name: the one that it stands for, the closest one, or the list of all."""
    names = sorted(names)
    if (known := ELSEWHERE.get(name.lower())) in names:
        return f"did you mean {known}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=NEAR)
    return f"did you mean {close[0]}?" if close else "choose one of " + ", ".join(names)


def clean(text: str) -> str:
    """Return a text for a terminal: names from files may hold escape codes, and a "?" takes the place of each letter of them.

    A warning or an error is one line; other texts, such as tables, keep their lines.
    """
    kept = "" if text.startswith(("warning: ", "error: ")) else "\n\t"
    return "".join(letter if letter.isprintable() or letter in kept else "?" for letter in text)


def say(text: str, stream=None) -> None:
    """Print a text for people, `clean`, on stderr unless a stream is given.

    Where it cannot be written, since a disk is full or a reader gone, the run is worth more than the line.
    """
    stream = stream or sys.stderr
    try:
        print(_encodable(clean(text), stream), file=stream, flush=True)
    except (OSError, ValueError):  # the latter: closed
        return


def say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Say a warning in one line, without the place in the code that Python shows."""
    say(f"warning: {' '.join(str(message).split())}", file)


def _encodable(text: str, stream) -> str:
    """With escapes for what the stream's alphabet lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


# What a file system says that a person can mend -> what to do.
REFUSALS = {
    errno.ENOSPC: "make room, then the same command goes on",
    errno.EDQUOT: "make room, then the same command goes on",
    errno.EROFS: "choose another folder",
    errno.EACCES: "choose another folder, or change its permissions",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "choose a smaller --size, batch or --training.capacity",
}


def open_streams() -> None:
    """Standard streams that were closed lead nowhere, and no file that is opened later takes their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def run_main(main: Callable[[list[str]], None], argv: list[str]) -> None:
    """Run a program: a UserError becomes its one line and exit code; with --debug it keeps its traceback.

    So does what the system refuses: files, folders, memory. What nobody foresaw is one line and exit code 1.
    """
    debug = "--debug" in argv
    open_streams()
    warnings.showwarning = say_warning  # ty: ignore[invalid-assignment]
    if not sys.warnoptions:  # packages that are imported may silence all warnings, ours with them
        warnings.simplefilter("default", UserWarning)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # imports are over, see train.py
    try:
        main([word for word in argv if word != "--debug"])
    except UserError as error:
        if debug:
            raise
        say(str(error))
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if debug:
            raise
        what = f"the system refused to read or write ({error.strerror or error})"
        remedy = REFUSALS.get(error.errno, "see to it, then the same command goes on; --debug shows where it was")
        code = 4 if error.errno == errno.ENOMEM else 2
        say(str(UserError(what, str(error.filename or "a file")[:200], remedy, code)))
        raise SystemExit(code) from None
    except MemoryError as error:
        if debug:
            raise
        say(str(UserError("out of memory", str(error) or "the program", REFUSALS[errno.ENOMEM], 4)))
        raise SystemExit(4) from None
    except KeyboardInterrupt:
        if debug:
            raise
        say("interrupted")
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        say(str(unforeseen(error)))
        raise SystemExit(1) from None


def unforeseen(error: Exception) -> UserError:
    """The line of a fault of ours. Its traceback is kept in a file, since a long run may not meet it again."""
    last, remedy = traceback.extract_tb(error.__traceback__)[-1], "this is a fault of the program; --debug shows more of it"
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    for folder in ("runs", None):  # a container's temporary files go with it, its runs do not
        with contextlib.suppress(OSError):
            with tempfile.NamedTemporaryFile(dir=folder, prefix="foreground-", suffix=".txt", delete=False) as file:
                file.write(text)
            remedy = f"this is a fault of the program, please report it with {file.name}"
            break
    return UserError(f"{type(error).__name__}: {error}".strip(": "), f"{last.filename}, line {last.lineno}", remedy, 1)
