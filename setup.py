"""Put train.py and eval.py into the package `foreground`; all else is in pyproject.toml."""

from setuptools import setup
from setuptools.command.build_py import build_py

PROGRAMS = ("train", "eval")


class BuildPackage(build_py):
    """Package-dir maps folders only; this maps two modules."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of each module of a package."""
        modules = super().find_package_modules(package, package_dir)
        if package == "foreground":
            modules += [(package, name, f"{name}.py") for name in PROGRAMS]
        return modules


setup(cmdclass={"build_py": BuildPackage})
