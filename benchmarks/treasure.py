"""MRA on its own first game, `collect_treasure`.

    python -m benchmarks.treasure --seeds 0,1,2
    python -m benchmarks.treasure --arms mra,joint --collectors 6,9,12 --response 400

Agents train on 3, 6 and 9 collectors, or on those of --collectors, and are scored on 3, 4, 6, 9
and 12. Arms: `mra`, six modes; `reptile`, one mode by Reptile over the games; `joint`, one mode on
all of them at once; `single`, one mode on 6 only. Then one collector learns against frozen others:
its gain is an estimate of NashConv. Each arm and seed has its own process. Results go to
results/treasure/. A stopped program continues where it was. One JSON line last.
"""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch

from benchmarks import pool, reading, result_files
from benchmarks.skills import cell
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.config import ModesConfig, OptimiserConfig
from foreground.agents.set_policy import SetPolicy, SetPolicyConfig
from foreground.envs import treasure
from foreground.errors import UserError, nearest, run_main
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.replay import Replay

ROOT = Path(__file__).parents[1]
PROGRAM = "benchmarks.treasure"
TRAIN, SCORED = (3, 6, 9), (3, 4, 6, 9, 12)
ARMS = {"mra": 6, "reptile": 1, "joint": 1, "single": 1}  # their modes
SCRIPTS = (("heads for what it wants", 8.0), ("stays", 0.0))
REPEAT = 2  # steps for which an action is held
DECISIONS = -(-treasure.STEPS // REPEAT)
RESULTS = ROOT / "results" / "treasure"


@config_class
class TreasureConfig:
    """Foreground: MRA on collect_treasure."""

    arms: tuple[str, ...] = option(tuple(ARMS), "Arms, with commas between.")
    seeds: tuple[int, ...] = option((0, 1, 2), "Seeds of each.", ge=0)
    collectors: tuple[int, ...] = option(
        TRAIN, "Numbers of collectors in training; the arm single has 6.", ge=1, le=treasure.MOST
    )
    iterations: int = option(500, "Batches of episodes that are learned from.", ge=1)
    copies: int = option(16, "Copies of each game side by side.", ge=1)
    response: int = option(
        40, "Iterations for which one collector learns against the others; 0: none.", ge=0
    )
    episodes: int = option(4, "Batches of episodes that a score is the mean of.", ge=1)
    share: float = option(
        1.0, "Reptile: how far of the way to where the games' steps lead.", gt=0.0, le=1.0
    )

    @property
    def settings(self) -> dict[str, float | list[int]]:
        """What a result depends on, but for arm and seed."""
        own = ("arms", "seeds", *(["collectors"] if self.collectors == TRAIN else []))
        values = {name: value for name, value in asdict(self).items() if name not in own}
        return json.loads(json.dumps(values))  # as a file has them

    def games(self, arm: str) -> tuple[int, ...]:
        """Return the numbers of collectors that an arm trains on."""
        return (6,) if arm == "single" else self.collectors

    @property
    def of(self) -> str:
        """What the names of results say of the collectors: nothing of the default's."""
        return "" if self.collectors == TRAIN else f"-of-{'-'.join(map(str, self.collectors))}"

    def name(self, arm: str, seed: int) -> str:
        """Return the name of a result."""
        return f"{arm}{self.of}-seed{seed}"


def config_of(modes: int) -> SetPolicyConfig:
    """Return the settings of every arm, except its modes."""
    policy = ActorCriticConfig(
        rewards={"game": 1.0},
        units=128,
        discount=0.9,
        lam=0.9,
        entropy_coef=1e-3,
        imag_starts=512,
        return_norm_min=0.1,
        tanh_entropy_coef=0.0,
    )
    optimiser = OptimiserConfig(actor_lr=7e-4, critic_lr=1e-3, policy_clip=10.0, warmup=0)
    told = {} if modes > 1 else {"action_info_coef": 0.0, "game_info_coef": 0.0}
    chosen = ModesConfig(num_modes=modes, update_every=1, lr=7e-4, **told)
    return SetPolicyConfig(policy, chosen, optimiser)


class Player:
    """Plays episodes of a set of games with a policy, its modes drawn for each copy, and keeps them
    in the suite's replay.
    """

    def __init__(self, games: tuple[int, ...], copies: int, modes: int, seed: int):
        self.envs, self.seed = treasure.Treasures(games, copies), seed
        self.game = torch.from_numpy(self.envs.descriptor)  # (N, D)
        sizes = {
            "image": (treasure.FEATURE,),
            "action": (treasure.ACTION,),
            "reward": (),
            "condition": (modes,),
            "game": (1,),
        }
        layout = {name: (shape, np.float32) for name, shape in sizes.items()}
        layout |= {name: ((), np.bool_) for name in ("is_first", "is_terminal")}
        self.replay = Replay(layout, (DECISIONS + 1) * len(self.envs), len(self.envs))

    def play(self, act, mode: torch.Tensor) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        """One episode of every copy under modes (N, K): rows (N, T + 1, ...) whose rewards are
        `credit`, and what the game paid over the episode, (N,). Each call draws new starts.
        """
        self.seed += 1
        feature, number = self.envs.reset(self.seed), len(self.envs)
        action, reward = (
            np.zeros((number, treasure.ACTION), np.float32),
            np.zeros(number, np.float32),
        )
        paid, left = np.zeros(number), treasure.STEPS
        for step in range(DECISIONS + 1):
            row = {
                "image": feature,
                "action": action,
                "reward": reward,
                "condition": mode.numpy(),
                "game": self.game.numpy(),
            }
            self.replay.add(
                row
                | {"is_first": np.full(number, step == 0), "is_terminal": np.zeros(number, bool)}
            )
            if step == DECISIONS:
                break
            action, reward = (
                act(torch.from_numpy(feature), mode, self.game).numpy(),
                np.zeros(number, np.float32),
            )
            for _ in range(min(REPEAT, left)):
                feature, game, credit = self.envs.step(action)
                paid, reward, left = paid + game, reward + credit, left - 1
        return self.replay.peek(number, DECISIONS + 1), paid

    def mode_of_copies(self, agent: SetPolicy, likeliest: bool = False) -> torch.Tensor:
        """Return one mode for all agents of a copy, (N, K)."""
        copy = self.envs.copy
        first = np.unique(copy, return_index=True)[1]
        game = self.game[first]
        with torch.no_grad():
            return (agent.modes.likeliest(game) if likeliest else agent.modes.draw(game))[copy]


def learn(config: TreasureConfig, arm: str, seed: int) -> tuple[SetPolicy, list[float]]:
    """Return a trained policy, and the mean return of an agent over iterations."""
    modes, games = ARMS[arm], config.games(arm)
    torch.manual_seed(seed)
    descriptors = tuple(treasure.game_of(number).descriptor for number in games)
    sizes = treasure.OWN, treasure.SLOTS, treasure.SLOT, treasure.ACTION
    agent = SetPolicy(config_of(modes), *sizes, descriptors)
    # The same number of episodes for every arm.
    copies = config.copies * len(config.collectors) // len(games)
    player, curve = Player(games, copies, modes, seed * 1_000_000), []
    for _ in range(config.iterations):
        rows, paid = player.play(agent.act, player.mode_of_copies(agent))
        curve.append(float(paid.mean()))
        if arm == "reptile":
            reptile(agent, rows, config.share)
        else:
            agent.update(rows)
    return agent, curve


def reptile(agent: SetPolicy, rows: dict[str, torch.Tensor], share: float) -> None:
    """Steps in each game alone, all from where the policy is; then `share` of the way to the mean
    of where they lead.

    About as many steps as other arms take, in parts of a third. Critics and Adam's moments continue
    from game to game.
    """
    actor = list(agent.actor_critic.actor.parameters())
    begin = [parameter.detach().clone() for parameter in actor]
    ends = [torch.zeros_like(parameter) for parameter in actor]
    games = rows["game"][:, 0].unique(dim=0)
    for game in games:
        own = (rows["game"][:, 0] == game).all(-1)
        agent.update(
            {name: value[own] for name, value in rows.items()}, -(-agent.config.parts // len(games))
        )
        for end, parameter, start in zip(ends, actor, begin):
            end += parameter.detach() / len(games)
            parameter.data.copy_(start)
    for parameter, start, end in zip(actor, begin, ends):
        parameter.data.copy_(torch.lerp(start, end, share))


def score(agent: SetPolicy, number: int, config: TreasureConfig) -> dict[str, float]:
    """Return the mean return of an agent for a number of collectors: most likely mode, and the best
    of K on other episodes.
    """
    modes = agent.config.modes.num_modes
    player = Player((number,), config.copies, modes, 0)
    act = partial(agent.act, explore=False)

    def mean(mode: torch.Tensor, seed: int) -> float:
        player.seed = seed  # the same starts for every arm
        return np.mean([player.play(act, mode)[1].mean() for _ in range(config.episodes)]).item()

    every = torch.eye(modes)
    tried = [
        mean(every[mode].expand(len(player.envs), -1), 10_000 + number) for mode in range(modes)
    ]
    best = every[int(np.argmax(tried))].expand(len(player.envs), -1)
    row = {
        "zero_shot": mean(player.mode_of_copies(agent, likeliest=True), 20_000),
        "best_of": mean(best, 20_000),
    }
    return row | {f"mode_{mode}": value for mode, value in enumerate(tried)}


def gain_of_response(agent: SetPolicy, config: TreasureConfig, number: int, seed: int) -> float:
    """What the first collector's return rises by when it alone learns, from the policy that all
    have, against the others.

    It learns from returns alone and from `credit`, as all arms do; a best response would gain no
    less.
    """
    # One learner a copy.
    player = Player((number,), 6 * config.copies, agent.config.modes.num_modes, 0)
    torch.manual_seed(seed)
    modes = replace(agent.config.modes, action_info_coef=0.0, game_info_coef=0.0)
    sizes = treasure.OWN, treasure.SLOTS, treasure.SLOT, treasure.ACTION
    learner = SetPolicy(
        replace(agent.config, modes=modes), *sizes, tuple(map(tuple, agent.modes.games.tolist()))
    )
    learner.load_state_dict(agent.state_dict())
    first = np.unique(player.envs.copy, return_index=True)[1]  # of each copy
    mode = player.mode_of_copies(agent, likeliest=True)

    def act(feature, mode, game, explore=True):
        action = agent.act(feature, mode, game, explore=False)
        action[first] = learner.act(feature[first], mode[first], game[first], explore)
        return action

    def mean() -> float:
        player.seed = 900_000  # the same starts before and after
        greedy = partial(act, explore=False)
        found = [player.play(greedy, mode)[1][first].mean() for _ in range(config.episodes)]
        return np.mean(found).item()

    before, player.seed = mean(), 500_000 + 1000 * seed
    for _ in range(config.response):
        rows, _ = player.play(act, mode)
        learner.update({name: value[first] for name, value in rows.items()})
    return mean() - before


def measure(config: TreasureConfig, arm: str, seed: int) -> dict:
    """Train and score one arm."""
    torch.set_num_threads(1)
    row = {"arm": arm, "seed": seed, "settings": config.settings}
    agent, curve = learn(config, arm, seed)
    part = max(1, len(curve) // 20)
    row["env_steps"] = config.iterations * config.copies * len(config.collectors) * treasure.STEPS
    row["curve"] = [
        round(float(np.mean(curve[at : at + part])), 3) for at in range(0, len(curve), part)
    ]
    row["scores"] = {str(number): score(agent, number, config) for number in SCORED}
    if config.response:
        row["response"] = {
            str(number): gain_of_response(agent, config, number, seed) for number in (6, 12)
        }
    row["information"] = information(agent, config.games(arm), config)
    with torch.no_grad():
        row["modes"] = agent.modes(agent.modes.games).exp().tolist()
    return row


@torch.no_grad()
def information(
    agent: SetPolicy, games: tuple[int, ...], config: TreasureConfig
) -> dict[str, float]:
    """Return the information between relation and action, and between game and mode, in nats, with
    their bounds.
    """
    player = Player(games, config.copies, agent.config.modes.num_modes, 20_000)
    rows, _ = player.play(agent.act, player.mode_of_copies(agent))
    feature, game = (rows[name].flatten(0, 1) for name in ("image", "game"))
    action, _ = agent.modes.information(agent.actor_critic.actor, feature, game)
    row = {"action": float(action.mean()), "choice": float(agent.modes.choice_information())}
    return row | {
        "action_cap": float(np.log(agent.config.modes.num_modes)),
        "choice_cap": float(np.log(len(games))),
    }


def scripted(number: int, config: TreasureConfig, strength: float) -> float:
    """Return of agents that head for what they want, or with strength 0 stay where they are: what
    there is to be had.
    """
    arena, total = treasure.Arena(number, config.copies * config.episodes), 0.0
    arena.reset(np.arange(arena.copies))
    for step in range(treasure.STEPS):
        if step % REPEAT == 0:
            force = np.clip(strength * (arena.wanted() - arena.place), -1, 1)
        total += arena.step(force).mean()
    return float(total)


def start(arm: str, seed: int, words: list[str], slot: int) -> subprocess.Popen:
    command = [sys.executable, "-m", PROGRAM, "--alone", arm, str(seed), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=pool.environment(slot)
    )


def kept(config: TreasureConfig) -> dict[str, dict]:
    """Return name -> result of those that have these settings."""
    found = {path.stem: result_files.read(path) for path in sorted(RESULTS.glob("*-seed*.json"))}
    return {name: row for name, row in found.items() if row.get("settings") == config.settings}


def table(rows: list[dict]) -> str:
    """Return a Markdown table: a line per arm, zero-shot returns by number of collectors, gains of
    a best response; mean [range] over seeds.
    """
    numbers = [str(number) for number in SCORED]
    lines = [
        "| arm | seeds | " + " | ".join(numbers) + " | gain at 6 | gain at 12 |",
        "|---" * (4 + len(numbers)) + "|",
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        cells = [cell([row["scores"][number]["zero_shot"] for row in own]) for number in numbers]
        gains = [
            cell([row["response"][number] for row in own]) if "response" in own[0] else "-"
            for number in ("6", "12")
        ]
        lines.append(f"| {arm} | {len(own)} | {' | '.join([*cells, *gains])} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    alone, words = argv[:1] == ["--alone"], argv[3:] if argv[:1] == ["--alone"] else argv
    config = options.parse(TreasureConfig, words, None, description=TreasureConfig.__doc__)
    for arm in config.arms:
        if arm not in ARMS:
            raise UserError(f"unknown arm {arm!r}", "--arms", nearest(arm, ARMS))
    if alone:
        with redirect_stdout(io.StringIO()):
            row = measure(config, argv[1], int(argv[2]))
        print(json.dumps(row))
        return
    todo = {config.name(arm, seed): (arm, seed) for seed in config.seeds for arm in config.arms}
    for name in kept(config):
        todo.pop(name, None)
    jobs = [(name, partial(start, *which, words)) for name, which in todo.items()]
    done, failed = 0, []
    for name, process in pool.finished(jobs, pool.places()):
        text = process.communicate()[0]
        if process.returncode:
            failed.append(name)
            continue
        row, done = json.loads(text.splitlines()[-1]), done + 1
        row |= result_files.origin("treasure", words)
        RESULTS.mkdir(parents=True, exist_ok=True)
        result_files.write(RESULTS / f"{name}.json", row)
        shown = {number: round(one["zero_shot"], 2) for number, one in row["scores"].items()}
        print(name, json.dumps(shown), flush=True)
    reference = {
        name: {n: round(scripted(n, config, strength), 2) for n in SCORED}
        for name, strength in SCRIPTS
    }
    print(table(list(kept(config).values())))
    own = {"settings": config.settings, "scripted": reference}
    result_files.write(RESULTS / f"scripted{config.of}.json", own)
    reading.finish({"runs": done, "failed": failed, "scripted": reference})


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
