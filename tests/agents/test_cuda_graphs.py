"""Test recorded functions with a stand-in for the CUDA graph; test_cuda.py has a real one."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.cuda_graphs import PLAIN, Recorded, Recording
from foreground.agents.skills import SkillConfig
from tests.support.small import make_agent, make_batch


class Graph:
    """Replays by running the function again on the same memory, and writing where it wrote."""

    def replay(self):
        outputs, row = self.run()
        for mine, new in zip([*self.outputs, self.row], [*outputs, row]):
            if mine is not None:
                mine.detach().copy_(new)


@contextmanager
def record(graph, capture_error_mode):
    yield


@pytest.fixture
def stand_in(monkeypatch):
    """Recording as it is but for the graph; what a real one would leave as it is while it records,
    a list of modules.
    """
    modules = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    plain = Recording.__init__

    def init(self, function, inputs, tree):
        drawn, kept = (
            torch.get_rng_state(),
            [{k: v.clone() for k, v in module.state_dict().items()} for module in modules],
        )
        plain(self, function, inputs, tree)
        torch.set_rng_state(drawn)
        for module, state in zip(modules, kept):
            module.load_state_dict(state)
        self.graph.outputs, self.graph.row = self.outputs, self.row
        self.graph.run = lambda: self.written(function, tree)

    monkeypatch.setattr(Recording, "__init__", init)
    return modules


def test_kept_numbers_stay_and_larger_tensors_are_written_over(stand_in):
    function = Recorded(
        lambda x, table: ({"sum": x.sum(), "double": 2 * x}, None if table["none"] is None else x)
    )
    results = [
        function(torch.full((3,), float(index)), {"none": None}) for index in range(PLAIN + 3)
    ]
    assert [float(row["sum"]) for row, _ in results] == [3.0 * index for index in range(PLAIN + 3)]
    assert [rest for _, rest in results] == [None] * len(results)
    doubles = [row["double"] for row, _ in results]
    assert doubles[-1] is doubles[-2]
    assert doubles[-1].tolist() == [2.0 * (PLAIN + 2)] * 3
    assert len(function.recordings) == 1


def test_each_sizes_have_a_recording(stand_in):
    function = Recorded(lambda x: x + 1)
    for size in (2, 3):
        for _ in range(PLAIN + 1):
            assert function(torch.zeros(size)).shape == (size,)
    assert len(function.recordings) == 2


def test_another_order_of_a_table_is_another_recording(stand_in):
    """Else its rows would be taken for each other: episode ends for terminal states, say."""
    function = Recorded(lambda table: table["one"] - table["two"])
    tables = [
        {"one": torch.ones(2), "two": torch.zeros(2)},
        {"two": torch.zeros(2), "one": torch.ones(2)},
    ]
    for _ in range(PLAIN + 2):
        assert all(function(table).tolist() == [1.0, 1.0] for table in tables)


def test_workers_do_not_import_the_compiler():
    """They unpickle what makes their environment, and with it come the agents."""
    code = "import sys; from foreground import build; sys.exit('torch._inductor' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=120
        ).returncode
        == 0
    )


def test_an_agent_learns_the_same_recorded(stand_in):
    plain, recorded = make_agent(), make_agent()
    stand_in.append(recorded)
    for learner in recorded.learners.values():
        learner.gradients = Recorded(learner.gradients)
    rows = []
    for agent in (plain, recorded):
        torch.manual_seed(1)
        rows.append([agent.update(make_batch(seed=seed)) for seed in range(PLAIN + 3)])
    assert recorded.learners["imagination"].gradients.recordings
    for ours, theirs in zip(*rows):
        assert ours.keys() == theirs.keys()
        assert all(float(ours[name]) == float(theirs[name]) for name in ours)
    for one, two in zip(plain.parameters(), recorded.parameters()):
        assert torch.equal(one, two)


def as_on_cuda(agent: WorldModelAgent, cuda_graphs: str) -> WorldModelAgent:
    """Return the agent with what `--cuda_graphs` asks for on CUDA, on the CPU with the stand-in."""
    agent.config = replace(agent.config, cuda_graphs=cuda_graphs, compile="false")
    agent.device = torch.device("cuda")
    agent._begin()
    agent.device = torch.device("cpu")
    return agent


def skilled() -> WorldModelAgent:
    """Return an agent that draws a skill every second step."""
    plain = make_agent()
    skill = SkillConfig(size=2, duration=2)
    config = replace(plain.config, skill=skill)
    torch.manual_seed(0)
    return WorldModelAgent(config, plain.spaces._replace(condition=2))


def acted(agent: WorldModelAgent, steps: int) -> list[list[torch.Tensor]]:
    """Return action and memory of each step, as they stand when all are done."""
    torch.manual_seed(1)
    memory = agent.initial_state(3)
    rows = []
    for step in range(steps):
        image = make_batch(3, 1, seed=step)["image"][:, 0]
        first = torch.tensor([step == 0, step == 5, False])
        action, memory = agent.act(memory, image, first)
        rows.append([action, *memory.state, *memory[1:]])
    return rows


@pytest.mark.parametrize("make", [make_agent, skilled])
def test_an_agent_acts_the_same_recorded(stand_in, make):
    """Images, skills and noise go into each step, and no later step changes an earlier one."""
    plain, recorded = as_on_cuda(make(), "auto"), as_on_cuda(make(), "act")
    assert not isinstance(plain.explore, Recorded)
    one, two = (acted(agent, PLAIN + 5) for agent in (plain, recorded))
    assert len(recorded.explore.recordings) == 1
    for ours, theirs in zip(one, two, strict=True):
        for here, there in zip(ours, theirs, strict=True):
            assert (here is there is None) or torch.equal(here, there)
    assert not torch.equal(two[-1][0], two[-2][0])


def test_an_evaluation_is_not_recorded(stand_in):
    agent = as_on_cuda(make_agent(), "act")
    image, first = make_batch(3, 1)["image"][:, 0], torch.ones(3, dtype=torch.bool)
    for _ in range(PLAIN + 2):
        agent.act(agent.initial_state(3), image, first, explore=False)
    assert not agent.explore.calls
