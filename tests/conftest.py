"""Distribute tests over processes: one at a time; files that share a run stay together."""

import functools
import re
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from foreground.training import system
from tests.faults import start

system.prepare_environment()  # as train.py does before torch is imported

pytest_plugins = ["tests.support.clip_runs"]  # fixtures: a run, its clips

SHARING = (
    *("api", "cli", "cluster", "doors", "durability", "games", "identity"),
    *("ranks", "ranks_runs", "refusals", "resume", "skill_runs", "trouble"),
)

# Modules that start programs or train a run. `make check` omits test files that import one.
STARTERS = re.compile(
    r"^(?:import|from) (?:subprocess|multiprocessing|tests\.faults"
    r"|tests\.support\.(?:programs|together|training_runs))\b"
    r"|^from tests\.support import loopback$",
    re.MULTILINE,
)


@functools.cache
def starts_programs(path: Path) -> bool:
    return bool(STARTERS.search(path.read_text()))


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if starts_programs(item.path):
            item.add_marker("programs")


class BySharedRun(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).stem.removeprefix("test_") in SHARING else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> BySharedRun:
    return BySharedRun(config, log)  # xdist 3.8's own groups do not come through pytest 9.2


def pytest_collection_finish(session: pytest.Session) -> None:
    # Of many tests some run programs: they are forked from here.
    several = hasattr(session.config, "workerinput")
    if several and any(item.get_closest_marker("programs") for item in session.items):
        start.serve()


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Decoded clips go to a cache of this test alone, and folders are looked at anew."""
    from foreground.envs import backgrounds

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    backgrounds.forget()
    yield
    backgrounds.forget()
