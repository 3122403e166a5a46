"""Strict YAML files of options, found by name in the presets folder."""

import os
import re
from pathlib import Path
from reprlib import repr as short

import yaml
from yaml.constructor import ConstructorError

from foreground.errors import UserError, nearest

MAX_YAML_BYTES = 1 << 20
MAX_NUMBER_LETTERS = 100  # Python does not print a number of thousands of digits
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

# What construction raises: a tag that does not fit its value (`!!bool x`), an impossible date.
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-4 as a number. Refuses duplicate keys, merges and endless numbers."""

    def construct_object(self, node, deep=False):
        if node.tag in NUMBERS and len(node.value) > MAX_NUMBER_LETTERS:
            raise _refused(f"a number is longer than {MAX_NUMBER_LETTERS} letters", node)
        try:
            return super().construct_object(node, deep)
        except MALFORMED as error:
            text = short(node.value) if isinstance(node, yaml.ScalarNode) else "this"
            raise _refused(f"{text} is no {node.tag.rpartition(':')[2]}", node) from error

    def flatten_mapping(self, node):
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # a few lines of them unfold without end
                raise _refused("the merge key << is not taken", key)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _refused(f"the key {key.value} appears twice", key)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _refused(problem: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+$"),
    list("+-0123456789"),
)


def load_yaml(path: Path | str) -> dict:
    """Return the mapping in a YAML file, empty for an empty file.

    Raises: UserError with the line that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("there is no such file", str(path), "check the path")
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UserError(
                f"the file is larger than {MAX_YAML_BYTES} bytes",
                str(path),
                "give a YAML file of options",
            )
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, RecursionError, OSError, *MALFORMED) as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:120]
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            f"cannot be read as YAML ({problem})", f"{path}{line}", "mend the file"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError("options are expected, one `key: value` a line", str(path), "mend the file")
    return content


def preset_names(folder: Path | str) -> list[str]:
    """Return the names that --config takes: the YAML files of the presets folder."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


def find_preset(name: str, folder: Path | str) -> Path:
    """Return the file of a preset: a name in the folder, or a path to a YAML file.

    Raises: UserError with the nearest name.
    """
    name = os.path.expanduser(name)
    inside = Path(folder) / f"{name}.yaml"
    if re.fullmatch(r"[A-Za-z0-9._-]+", name) and inside.is_file():
        return inside
    if name.endswith((".yaml", ".yml")) and "\0" not in name and Path(name).is_file():
        return Path(name)
    file = name.endswith((".yaml", ".yml"))
    what = f"no such file {short(name)}" if file else f"unknown preset {short(name)}"
    raise UserError(
        what, "--config", nearest((Path(name).stem if file else name)[:80], preset_names(folder))
    )


def first_comment(path: Path) -> str:
    """Return the first line of a file if it is a comment, for the list of presets in --help."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().strip()
    return first.lstrip("# ") if first.startswith("#") else ""
