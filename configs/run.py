"""All options of a run, in one frozen tree; sizes found at run time are passed as arguments, never stored here.

`read` turns a command line into it. A size and an agent are presets: --size NAME is configs/size_NAME.yaml and --agent
NAME is configs/NAME.yaml, in that order, then each --config, then single options.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from agents.actor_critic import ActorCriticConfig
from agents.agent import AgentConfig, OptimiserConfig
from agents.discovery import DiscoveryConfig
from agents.skills import SkillConfig
from envs import SIGNALS
from envs.backgrounds import BackgroundConfig
from errors import UserError, nearest
from option import option
from training import options
from training.presets import load_yaml
from training.trainer import TrainingConfig
from world_models.world_model import WorldModelConfig

PRESETS = Path(__file__).parent


def agents_in(folder: Path) -> tuple[str, ...]:
    """The methods: presets that say `agent:` with their own name."""
    return tuple(path.stem for path in sorted(folder.glob("*.yaml")) if load_yaml(path).get("agent") == path.stem)


AGENTS = agents_in(PRESETS)
SIZES = ("auto", "cpu", "12m", "25m", "50m", "100m")


@dataclass(frozen=True)
class EnvironmentConfig:
    image_size: int = option(64, "Height and width of the observations in pixels.", ge=32, le=256)
    action_repeat: int = option(2, "Env frames for which an action is held.", ge=1)
    number: int = option(1, "Environments that run side by side; more than one get a process each.", ge=1, le=64)
    mask: str = option(
        "sky_and_floor",
        "What the video replaces: sky and floor, the sky alone, or what the colour rule of older work takes for it.",
        choices=("sky_and_floor", "sky", "colour"),
    )
    time_limit: int = option(1000, "Env frames of an episode.", ge=10)


@dataclass(frozen=True)
class EvaluationConfig:
    episodes: int = option(10, "Episodes per background in the evaluation at the end.", ge=1)
    seed: int = option(1000, "Seed of the first evaluation episode.", ge=0)
    latent: bool = option(False, "At every evaluation also fit probes: what of state and background the latent holds.")
    latent_episodes: int = option(32, "Episodes for these probes, half to fit, half to score.", ge=4)


@dataclass(frozen=True)
class RunConfig:
    """Foreground: train an agent that learns what it can control and ignores the rest of the picture."""

    agent: str = option("infopower", "The method, a preset.", choices=AGENTS)
    task: str = option("walker-stand", "DeepMind Control task, <domain>-<task>.")
    size: str = option("auto", "Sizes of the networks, a preset; auto: cpu, or 12m where there is CUDA.", choices=SIZES)
    frames: int = option(30_000, "Env frames to train for (agent steps times action repeat).", ge=1)
    seed: int = option(0, "Seed of networks, environments and sampling.", ge=0)
    folder: str = option("", "Run folder; empty: runs/<task>-<agent>-<background>-seed<seed>.")
    device: str = option("auto", "Where to learn.", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "Threads of torch on the CPU; 0: one for each core.", ge=0)
    compile: str = option("auto", "Compile the two steps of an update; auto: on CUDA.", choices=("auto", "true", "false"))
    environment: EnvironmentConfig = option(EnvironmentConfig, "Environment")
    background: BackgroundConfig = option(BackgroundConfig, "Background")
    training: TrainingConfig = option(TrainingConfig, "Training")
    evaluation: EvaluationConfig = option(EvaluationConfig, "Evaluation")
    world_model: WorldModelConfig = option(WorldModelConfig, "World model")
    actor_critic: ActorCriticConfig = option(ActorCriticConfig, "Actor and critics")
    optimiser: OptimiserConfig = option(OptimiserConfig, "Optimisers")
    skill: SkillConfig = option(SkillConfig, "Skills")
    discovery: DiscoveryConfig = option(DiscoveryConfig, "Discovery of skills")

    def __post_init__(self):
        steps = self.frames // self.environment.action_repeat // self.environment.number
        if self.training.batch_length > steps:
            what = f"sequences of {self.training.batch_length} steps are longer than the run, {steps} in each environment"
            raise UserError(what, "training.batch_length", f"choose {max(steps, 2)} or less, or more --frames")
        if self.training.prefill >= self.frames:
            what = f"all {self.frames} frames would be random actions, and nothing learned"
            raise UserError(what, "training.prefill", f"choose less than {self.frames}, or more --frames")

    @property
    def agent_config(self) -> AgentConfig:
        """What the agent needs of it."""
        parts = self.world_model, self.actor_critic, self.optimiser, self.skill, self.discovery
        return AgentConfig(*parts, self.compile)

    @property
    def signals(self) -> tuple[str, ...]:
        """What the environment must tell besides the reward: the information terms that are signals."""
        return tuple(name for name in SIGNALS if name in self.world_model.objective.terms)


def _given(argv: list[str], name: str, default: str, choices: tuple[str, ...]) -> str:
    """The value of --name on a command line, before the whole line is parsed: it says which presets come first."""
    value = default
    for index, word in enumerate(argv):
        if word == f"--{name}" and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    if value not in choices:
        raise UserError(f"unknown {name} {value!r}", f"--{name}", nearest(value, choices))
    return value


def read(argv: list[str], cuda: bool) -> tuple[RunConfig, dict[str, str]]:
    """A command line -> (config, where each value comes from); `cuda`: whether there is a GPU, for --size auto.

    Errors: UserError in one line for every mistake.
    """
    agent = _given(argv, "agent", "infopower", AGENTS)
    size = _given(argv, "size", "auto", SIZES)
    if size == "auto":
        size = "12m" if cuda and _given(argv, "device", "auto", ("auto", "cpu", "cuda")) != "cpu" else "cpu"
    # The size comes first: a method of another era (infopower_paper) brings its own.
    words = ["--config", f"size_{size}", "--config", agent, *argv]
    config, provenance = options.parse(RunConfig, words, PRESETS, description=(RunConfig.__doc__ or "").strip())
    for name, chosen in (("agent", agent), ("size", size)):
        value = getattr(config, name)
        if value not in (chosen, "auto"):
            raise UserError(f"{name} {value} stands in a file", f"--config ({name})", f"give --{name} {value} instead")
    return replace(config, size=size), provenance
