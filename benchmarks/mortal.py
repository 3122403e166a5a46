"""Become a program that gets SIGTERM when its starter ends.

    python mortal.py PID_OF_STARTER PROGRAM.py WORDS

Linux keeps the request (PR_SET_PDEATHSIG) over exec. A run whose starter is killed can so save.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(starter: int, words: list[str]) -> None:
    """Ask for the signal, then become the program.

    A starter that ended before that stops it as the signal would.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != starter:
        os.kill(os.getpid(), signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
