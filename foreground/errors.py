"""Errors in one line with a remedy.

Internal errors are one line as well, with their traceback in a file.
"""

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

NEAR = 0.65  # least similarity, 0 to 1, of a name that is suggested for another
MAX_FIELD_CHARS = 1000  # of a part of the line
ELSEWHERE = {"gpu": "cuda", "cuda:0": "cuda"}  # values of other programs -> values here


class UserError(Exception):
    """An error that the user can fix, printed as ``error: what: where: do this``.

    what        what is wrong, without a full stop ("unknown task 'walker-wlak'")
    where       the option, file or folder ("--task")
    remedy      what to do ("did you mean walker-walk?")
    exit_code   of the process
    """

    def __init__(self, what: str, where: str, remedy: str, exit_code: int = 2):
        super().__init__(clean(f"error: {shortened(what)}: {shortened(where)}: {remedy}"))
        self.what, self.where, self.remedy = what, where, remedy
        self.exit_code = exit_code


def shortened(text: str) -> str:
    """Return a text without its middle where it is very long."""
    return (
        text
        if len(text) <= MAX_FIELD_CHARS
        else f"{text[: MAX_FIELD_CHARS // 2]}...{text[-MAX_FIELD_CHARS // 2 :]}"
    )


class WorkerLost(Exception):
    """An environment process was lost and replaced: drop the transition; a reset follows."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the remedy for an unknown name: its equivalent here, the closest name, or the list of
    all.
    """
    names = sorted(names)
    if (known := ELSEWHERE.get(name.lower())) in names:
        return f"did you mean {known}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=NEAR)
    return f"did you mean {close[0]}?" if close else "choose one of " + ", ".join(names)


def clean(text: str) -> str:
    """Return a text for a terminal, with "?" for each control character, as in escape codes in file
    names.

    A warning or an error is one line; other texts, such as tables, keep their lines.
    """
    kept = "" if text.startswith(("warning: ", "error: ")) else "\n\t"
    return "".join(
        character if character.isprintable() or character in kept else "?" for character in text
    )


def say(text: str, stream=None) -> None:
    """Print a text, `clean`, on stderr unless a stream is given.

    Ignore a failed write (a full disk, a closed reader): the run matters more than the line.
    """
    stream = stream or sys.stderr
    try:
        print(_encodable(clean(text), stream), file=stream, flush=True)
    except (OSError, ValueError):  # ValueError: the stream is closed
        return


def say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Print a warning in one line, without the place in the code that Python shows."""
    say(f"warning: {' '.join(str(message).split())}", file)


def _encodable(text: str, stream) -> str:
    """Return a text with escapes for characters that the stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


# Error number of the file system -> remedy.
REFUSALS = {
    errno.ENOSPC: "make room, then the same command continues",
    errno.EDQUOT: "make room, then the same command continues",
    errno.EROFS: "choose another folder",
    errno.EACCES: "choose another folder, or change its permissions",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "choose a smaller --size, batch or --training.capacity",
}


def open_streams() -> None:
    """Open closed standard streams as the null device, so that no later file gets their
    descriptors.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def run_main(main: Callable[[list[str]], None], argv: list[str]) -> None:
    """Run a program: errors become one line and an exit code; with --debug they keep their
    traceback.

    A UserError has its own exit code. Refusals of the system (files, folders, memory) have 2 or 4,
    other errors 1.
    """
    debug = "--debug" in argv
    open_streams()
    warnings.showwarning = say_warning  # ty: ignore[invalid-assignment]
    if not sys.warnoptions:  # imported packages may silence all warnings
        warnings.simplefilter("default", UserWarning)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # after the imports, see train.py
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
        remedy = REFUSALS.get(
            error.errno, "fix it, then run the same command again; --debug shows where it was"
        )
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
    """Return the line of an internal error.

    Its traceback goes to a file: it may not occur again.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    remedy = "this is an internal error; --debug shows more of it"
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    for folder in ("runs", None):  # a container loses its temporary files, but not its runs
        with contextlib.suppress(OSError):
            with tempfile.NamedTemporaryFile(
                dir=folder, prefix="foreground-", suffix=".txt", delete=False
            ) as file:
                file.write(text)
            remedy = f"this is an internal error, please report it with {file.name}"
            break
    return UserError(
        f"{type(error).__name__}: {error}".strip(": "),
        f"{last.filename}, line {last.lineno}",
        remedy,
        1,
    )
