"""Run a program: ``foreground train ...`` or ``python -m foreground eval RUN ...``."""

import runpy
import sys

PROGRAMS = ("train", "eval")


def main() -> None:
    """Run the program that the first argument names, with the others."""
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        program = sys.argv.pop(1)
        runpy.run_module(f"foreground.{program}", run_name="__main__", alter_sys=True)
    elif sys.argv[1:2] in (["-h"], ["--help"]):
        print("usage: foreground train [options]\n       foreground eval RUN [options]")
    else:
        print(
            f"error: no such program: command line: foreground {' or '.join(PROGRAMS)}",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
