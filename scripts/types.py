"""Check the types of the package: ``python -m scripts.types``. `make lint` runs it.

A type checker does not run foreground/__init__.py, so it does not find the folders of a checkout.
It reads a tree of links instead, laid out as a wheel is: .types/foreground/agents, and so on.
`[tool.ty]` of pyproject.toml points there.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / ".types"
PROGRAMS = ("train", "eval")  # setup.py puts them into the package


def lay_out() -> None:
    """Link every module to its place in the package."""
    shutil.rmtree(TREE, ignore_errors=True)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    places = {package: ROOT / folder for package, folder in settings["package-dir"].items()}
    links = {f"foreground/{name}.py": ROOT / f"{name}.py" for name in PROGRAMS}
    for package, folder in places.items():
        links |= {f"{package.replace('.', '/')}/{path.name}": path for path in folder.glob("*.py")}
    for name, path in links.items():
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        (TREE / name).symlink_to(path)


def main() -> int:
    lay_out()
    words = [
        "check",
        "--python",
        sys.prefix,
        "--output-format",
        "concise",
        "--no-progress",
        str(TREE),
    ]
    return subprocess.run([sys.executable, "-m", "ty", *words], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
