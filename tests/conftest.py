"""How tests are dealt out to processes: one at a time, but for files that share a run, which stay together."""

import pytest
from xdist.scheduler import LoadScopeScheduling

from benchmarks.fault import start

SHARING = ("api", "cli", "cluster", "doors", "durability", "games", "hierarchical", "identity", "ranks_runs")
SHARING += ("resume", "trouble")


class BySharedRun(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in {f"tests/test_{name}.py" for name in SHARING} else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> BySharedRun:
    return BySharedRun(config, log)  # xdist 3.8's own groups do not come through pytest 9.2


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # of many tests some run programs: they are forked from here
        start.serve()


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Decoded clips go to a cache of this test alone, and folders are looked at anew."""
    from foreground.envs import backgrounds

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    backgrounds.forget()
    yield
    backgrounds.forget()
