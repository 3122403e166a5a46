"""Test several ranks of one run: shared values are bit-identical; a lost rank is noticed."""

import os
import signal
import time

import pytest
import torch

from foreground import ranks
from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.adaptation import META, Adaptation
from foreground.agents.optimiser import Divergence
from foreground.agents.returns import ReturnScale
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import system
from foreground.world_models.objective import ObjectiveConfig
from tests.agents.test_contract import make
from tests.agents.test_set_policy import episodes
from tests.agents.test_set_policy import make_agent as make_set_policy
from tests.faults import runs as fault_runs
from tests.faults.states import described, differing
from tests.support.latent import batch_of
from tests.support.latent import make_agent as make_latent_agent
from tests.support.small import DREAMER, INFOPOWER, make_agent, make_batch
from tests.support.together import Raised, together

# ----------------------------------------------------------------------------------------- messages


def messages() -> dict:
    own = ranks.rank()
    kernel = torch.arange(8.0).view(1, 2, 2, 2).contiguous(memory_format=torch.channels_last) * (
        1 + own
    )
    scalar, means = torch.tensor(float(own), requires_grad=True), ranks.mean([kernel])
    return {
        "mean": ranks.mean([scalar, torch.tensor([1.0, 3.0 * own])]),
        "layout": means[0].stride() == kernel.stride()
        and torch.equal(means[0], kernel / (1 + own) * 1.5),
        "table": ranks.mean_of({"a": scalar})["a"],
        "summed": ranks.summed(torch.tensor([own, 1])),
        "gathered": ranks.gathered(torch.tensor([own, 5])),
        "total": ranks.total(own, 7),
        "least": ranks.least(3 - own),
        "same": (ranks.same("weights"), ranks.same(f"weights {own}")),
        "seed": ranks.seed(5),
    }


def test_messages():
    for rank, found in enumerate(together(messages)):
        assert [value.tolist() for value in found["mean"]] == [0.5, [1.0, 1.5]]
        assert not found["mean"][0].requires_grad
        assert found["layout"]
        assert float(found["table"]) == 0.5
        assert found["summed"].tolist() == [1, 2]
        assert found["gathered"].tolist() == [[0, 5], [1, 5]]
        assert (found["total"], found["least"], found["same"]) == ([1, 14], 2, (True, False))
        assert (found["seed"] == 5) == (rank == 0)


def test_in_a_process_of_its_own_nothing_is_done():
    tensor = torch.ones(2, requires_grad=True)
    ranks.join()
    assert ranks.mean([tensor])[0] is tensor
    assert ranks.summed(tensor) is tensor
    assert ranks.gathered(tensor).shape == (1, 2)
    assert (ranks.number(), ranks.rank(), ranks.total(3), ranks.least(4), ranks.seed(5)) == (
        1,
        0,
        [3],
        4,
        5,
    )
    assert ranks.same("text")
    assert ranks.alone(lambda: True) is ranks.agreed(lambda: True) is True
    assert ranks.folder(runs.PRESETS) == runs.PRESETS


def long_work() -> tuple:
    """Rank 0 is busy for longer than anyone waits, and takes no step with the others meanwhile."""
    kept = []
    answers = [
        ranks.alone(lambda: kept.append(ranks.number()) or time.sleep(3) or True),
        ranks.alone(lambda: False),
    ]
    return answers, kept, ranks.number()


def test_rank_0_may_work_alone_for_long():
    assert together(long_work, waits=1.0) == [([True, False], [1], 2), ([True, False], [], 2)]


def refuse() -> None:
    raise UserError(f"no {ranks.rank()}", "there", "do this")


def refused_somewhere(where: int) -> int:
    return ranks.agreed(lambda: refuse() if ranks.rank() >= where else 5)


def refused_alone() -> None:
    ranks.alone(refuse)


def test_what_is_refused_is_said_once():
    assert together(refused_somewhere, 2) == [5, 5]
    silent = Raised("SystemExit", "2", 2)
    said = [Raised("UserError", f"error: no {rank}: there: do this", 2) for rank in range(2)]
    assert together(refused_somewhere, 0) == [said[0], silent]
    assert together(refused_somewhere, 1) == [silent, said[1]]
    assert together(refused_alone) == [said[0], silent]


def leave_in(way: str) -> None:
    ranks.total(1)
    if ranks.rank():
        if way == "killed":
            os._exit(9)
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.total(1)


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_rank_that_is_lost_or_hangs_is_noticed(way):
    began = time.monotonic()
    left, _ = together(leave_in, way, waits=2.0)
    assert (left.kind, left.code) == ("UserError", ranks.LOST)
    assert "rank 0 of 2" in left.text
    assert time.monotonic() - began < 20


def test_what_torchrun_must_have_set(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="RANK is not"):
        ranks.join()
    for name in ranks.VARIABLES:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(UserError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        ranks.join()


def test_memory_and_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(system, "_available", lambda: 1000)
    monkeypatch.setattr(system, "_cgroup_room", lambda: [])
    assert system.free_memory() == 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert system.free_memory() == 250
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert system.pick_device("auto") == torch.device("cuda")
    monkeypatch.setattr(ranks, "number", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert system.pick_device("auto") == torch.device("cuda:1")
    assert chosen == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="torch can use 2 on this machine"):
        system.pick_device("auto")


# ----------------------------------------------------------------------------------------- learning


def learned(agent, batches) -> tuple[dict[str, str], dict[str, str]]:
    """All that learning changes, before and after updates with the rank's noise and batches."""
    before = described(
        agent.training_state() if hasattr(agent, "training_state") else dict(agent.state_dict())
    )
    torch.manual_seed(ranks.seed(0))
    for batch in batches:
        agent.update(batch)
    return before, described(
        agent.training_state() if hasattr(agent, "training_state") else dict(agent.state_dict())
    )


def of_preset(name: str) -> tuple[dict, dict]:
    """A small agent: modes learn at its last update, a multiplier moves from the second one on."""
    words = ["--modes.update_every", "3"] if name in ("mra", "task_conditioned", "unimodal") else []
    pilots = fault_runs.PILOT[0] in fault_runs.small(["--agent", name])
    if pilots and name != "infopower_progress":  # whose rule has no pilot phase
        words += [fault_runs.PILOT[0], "2"]
    torch.manual_seed(0)
    agent, first = make(name, pytest.MonkeyPatch(), *words)
    first = {key: value[:3, :6] for key, value in first.items()}
    told = {key: value for key, value in first.items() if key not in ("image", "action", "reward")}
    if "game" in told and ranks.rank():  # a game that one rank alone sees
        told["game"] = told["game"][:1].expand_as(told["game"])
    return learned(
        agent, [make_batch(3, 6, seed=10 * ranks.rank() + seed) | told for seed in range(3)]
    )


def of_presets() -> dict[str, tuple[dict, dict]]:
    return {name: of_preset(name) for name in runs.AGENTS}


@pytest.fixture(scope="module")
def presets_on_two_ranks() -> list[dict[str, tuple[dict, dict]]]:
    """What `of_preset` returns of every agent, on each rank: one pair of processes for all."""
    found = together(of_presets, within=400.0)
    assert all(isinstance(each, dict) for each in found), found
    return found


@pytest.mark.parametrize("name", runs.AGENTS)
def test_ranks_stay_equal_to_the_bit(presets_on_two_ranks, name):
    (before, zero), (_, one) = (found[name] for found in presets_on_two_ranks)
    assert zero == one, differing(zero, one)
    assert zero != before


def of_set_policy() -> tuple[dict, dict]:
    agent = make_set_policy()
    return learned(
        agent, [episodes(agent, number=16, seed=10 * ranks.rank() + seed) for seed in range(3)]
    )


def test_ranks_of_a_set_policy_stay_equal():
    (before, zero), (_, one) = together(of_set_policy)
    assert zero == one, differing(zero, one)
    assert zero != before


def adapted(meta: str) -> dict[str, str]:
    agent = make_latent_agent()
    torch.manual_seed(ranks.seed(0))
    seeds = iter(range(100 * ranks.rank(), 100 * ranks.rank() + 100))
    source = ({k: v for k, v in batch_of(agent, seed).items() if k != "signals"} for seed in seeds)
    META[meta](Adaptation(agent, "actor", 1e-3), source, agent.modes.games, 2, 2, 0.5)
    return described(dict(agent.state_dict()))


@pytest.mark.parametrize("meta", META)
def test_ranks_stay_equal_while_they_adapt(meta):
    zero, one = together(adapted, meta)
    assert zero == one, differing(zero, one)


def adapted_once() -> dict[str, str]:
    agent = make_latent_agent()
    torch.manual_seed(ranks.seed(0))
    batch = batch_of(agent, ranks.rank())
    Adaptation(agent, "actor", 1e-3).step(batch, agent.modes.games[0])
    return described(dict(agent.state_dict()))


def test_scales_are_equal_after_a_step_of_adaptation():
    zero, one = together(adapted_once)
    assert zero == one, differing(zero, one)


def constrained() -> list[list[float]]:
    """Rank 0 has one state of the first game, rank 1 three; only rank 1 has one of the second."""
    modes = make_latent_agent(modes=2).modes
    index = torch.tensor([0, 0, 0, 1] if ranks.rank() else [0])
    modes.constrain(torch.full((len(index), 2), 1.0 + 4 * ranks.rank()), index)
    return [modes.returns[:, 0].tolist(), modes.seen.tolist(), modes.log_multiplier.tolist()]


def test_returns_of_modes_are_over_the_states_of_all_ranks():
    zero, one = together(constrained)
    assert zero == one
    assert zero[:2] == [[4.0, 5.0, 0.0], [1, 1, 0]]


def scales() -> list[list[float]]:
    """Both ranks see the first of three games, rank 1 alone the second, none the third."""
    scale = ReturnScale(ActorCriticConfig(norm_rate=0.5), games=3)
    seen = torch.eye(3)[[0, 0]] if not ranks.rank() else torch.eye(3)[[0, 1]]  # (N, M)
    scale.update(torch.full((4, 2), 1.0 + ranks.rank()), seen)
    scale.agree()
    return [scale.high.tolist(), scale.updates.tolist()]


def test_a_game_that_one_rank_saw_has_its_scale():
    assert together(scales) == [[[1.5, 2.0, 0.0], [1, 1, 0]]] * 2


def validated() -> list[float]:
    """State of the rule that asks for progress, when episodes end on one rank or on both."""
    objective = ObjectiveConfig(INFOPOWER, tuple(INFOPOWER)[1:], progress=0.5)
    agent = make_agent(objective=objective)
    agent.world_model.rule.episodes.fill_(20)  # as after 20 episodes, all of C 0
    torch.manual_seed(ranks.seed(0))
    for ended in ((0,), (0, 1), (1,)):
        agent.validate(make_batch(1, seed=ranks.rank()) if ranks.rank() in ended else None)
    rule = agent.world_model.rule
    return [int(rule.episodes), float(rule.log_multiplier), *rule.past.tolist()]


def test_every_rank_sees_the_episodes_of_all():
    zero, one = together(validated)
    assert zero == one
    assert zero[0] == 24
    assert len(set(zero[2:6])) == 4
    assert set(zero[6:]) == {0.0}


UPDATES = 10


def fixed_noise(patch: pytest.MonkeyPatch) -> None:
    """The same draw for every row: a half of a batch draws what it draws within the whole."""
    patch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 0.37))
    patch.setattr(
        torch,
        "randn_like",
        lambda value: torch.linspace(-0.5, 0.8, value.shape[-1]).expand_as(value).clone(),
    )


def dreamer_of(halves: int) -> dict[str, torch.Tensor]:
    """How far a dreamer's weights go in some updates, on one of the halves or on the whole."""
    patch, plain = pytest.MonkeyPatch(), ReturnScale.update
    agent = make_agent(DREAMER, (), policy={"imag_starts": 0})
    fixed_noise(patch)

    def of_all(scale, returns, member=None):
        return plain(scale, torch.cat(list(ranks.gathered(returns)), 1), member)

    patch.setattr(ReturnScale, "update", of_all)
    before = {name: value.clone() for name, value in agent.named_parameters()}
    own = slice(ranks.rank() * 8 // halves, (ranks.rank() + 1) * 8 // halves)
    for seed in range(UPDATES):
        batch = make_batch(batch=8, seed=seed)
        batch["is_first"][:] = False
        agent.update({name: value[own] for name, value in batch.items()})
    patch.undo()
    return {name: (value - before[name]).detach() for name, value in agent.named_parameters()}


def test_two_halves_of_a_batch_are_one_whole():
    torch.set_num_threads(1)
    whole = dreamer_of(1)
    zero, one = together(dreamer_of, 2)
    assert all(torch.equal(zero[name], one[name]) for name in whole)
    way = torch.cat([value.flatten() for value in whole.values()]).norm()
    apart = torch.cat([(zero[name] - whole[name]).flatten() for name in whole]).norm()
    assert float(apart / way) < 1e-6
    assert float(way) > 0.1


def meets_nan() -> tuple[str, bool]:
    """The module that was stopped, and whether all weights are those of the update before."""
    agent, batch = make_agent(), make_batch(seed=9 + ranks.rank())
    agent.update(make_batch(seed=ranks.rank()))
    before = {name: value.detach().clone() for name, value in agent.named_parameters()}
    if ranks.rank():
        batch["reward"][0, 0] = float("nan")
    try:
        agent.update(batch)
    except Divergence as error:
        return error.module, all(
            torch.equal(before[name], value) for name, value in agent.named_parameters()
        )
    return "", False


def test_a_nan_on_one_rank_ends_all_with_their_weights_untouched():
    assert together(meets_nan) == [("world_model", True), ("world_model", True)]
