"""The options of a run, by its command line (`read`) or by its folder (`load`).

A size and an agent are presets: --size NAME is configs/size_NAME.yaml, --agent NAME is
configs/NAME.yaml. The size comes first, then the agent, each --config, and single options. The tree
of options is in `schema.py`.
"""

import os
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short

from foreground.configs.inherited import check_skills, shared
from foreground.configs.manual import manual
from foreground.configs.renamed import answers_in_files
from foreground.configs.rules import by_rule
from foreground.configs.schema import AGENTS, FOLLOWING, PRESETS, SIZES, RunConfig
from foreground.configs.stored import folder_of, load, parts_of, written
from foreground.envs import registry
from foreground.errors import UserError, nearest
from foreground.option import choices_of
from foreground.training import options

__all__ = [
    "AGENTS", "FOLLOWING", "PRESETS", "SIZES", "RunConfig", "by_rule", "check_skills", "folder_of",
    "load", "parts_of", "read", "written",
]  # fmt: skip


def _chosen(flags: dict[str, str], key: str, leaf: options.Leaf) -> str:
    """Return the value of an option that says which presets come first.

    Raises: UserError for an unknown one.
    """
    value, choices = flags.get(key, leaf.default), choices_of(leaf.metadata)
    if value not in choices:
        raise UserError(f"unknown {key} {short(value)}", f"--{key}", nearest(value[:80], choices))
    return value


def read(argv: list[str], cuda: bool, ours: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Return the config of a command line.

    cuda   whether there is a GPU, for --size auto
    ours   flags of the program itself, overridden by those of argv; they may name options that the
           agent does not read
    Raises: UserError in one line for every mistake.
    """
    words = options.Words(RunConfig, argv, PRESETS, manual=manual(PRESETS, AGENTS, by_rule))
    common = options.Words(RunConfig, ours).flags
    flags = common | words.flags
    agent, size, device = (
        _chosen(flags, key, words.known[key]) for key in ("agent", "size", "device")
    )
    given = os.path.expanduser(words.flags.get("init_from", ""))
    there = shared(Path(given), agent) if given else {}
    if size == "auto":
        size = there.get("size", "12m" if cuda and device != "cpu" else "cpu")
    if registry.is_gymnasium(flags.get("task") or there.get("task", "")):
        common |= {"background.source": "none"}  # unless the user gives one
    line = options.Line(RunConfig, PRESETS, answers_in_files())
    # The size comes first: infopower_paper brings its own.
    line.take_preset(f"size_{size}")
    giver = "--init_from" if there else "--size" if "size" in words.flags else "default (auto)"
    line.take({"size": size} | there, giver, ours=True)
    for name in (agent, *words.presets):
        line.take_preset(name)
    line.take_flags(common, ours=True)
    line.take_flags(words.flags)
    config = line.finish(words)
    for name, chosen in (("agent", agent), ("size", size), ("init_from", given)):
        value = getattr(config, name)
        if value != chosen and (name, value) != ("size", "auto"):
            raise UserError(
                f"{name} {value} stands in a file",
                f"--config ({name})",
                f"give --{name} {value} instead",
            )
    config = by_rule(replace(config, size=size))
    check_skills(config, there)
    return config
