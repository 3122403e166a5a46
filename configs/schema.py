"""All options of a run, in one frozen tree. It stores no sizes that are found at run time."""

import dataclasses
from pathlib import Path

from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.config import (
    AgentConfig,
    HierarchyConfig,
    ModesConfig,
    OptimiserConfig,
)
from foreground.agents.discovery import DiscoveryConfig
from foreground.agents.skills import SkillConfig
from foreground.configs.when_read import (
    DISCOVERING,
    FALLING,
    FLAT,
    MEASURING,
    OBSERVING,
    OF_GYMNASIUM,
    OF_SUITE,
    PAID,
    PLAYING,
    SHOWING_FLOOR,
    SIDE_BY_SIDE,
    UNCONDITIONED,
)
from foreground.envs import SIGNALS, action_repeat_of, registry
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.distraction import DistractionConfig, is_on
from foreground.envs.families import Family, FamilyConfig, make_family
from foreground.errors import UserError
from foreground.option import config_class, option, option_of
from foreground.training.config import TrainingConfig
from foreground.training.presets import load_yaml
from foreground.world_models.world_model import WorldModelConfig

PRESETS = Path(__file__).parent


def agents_in(folder: Path) -> tuple[str, ...]:
    """The methods: presets that say `agent:` with their own name."""
    return tuple(
        path.stem
        for path in sorted(folder.glob("*.yaml"))
        if load_yaml(path).get("agent") == path.stem
    )


def begin_of(agent: str) -> str:
    """Return what a run of an agent takes from that of --init_from, by its preset or its base."""
    preset = load_yaml(PRESETS / f"{agent}.yaml")
    return preset.get("init_weights") or (
        begin_of(preset["base"]) if "base" in preset else "nothing"
    )


AGENTS = agents_in(PRESETS)
FOLLOWING = tuple(
    name for name in AGENTS if begin_of(name) != "nothing"
)  # those that begin with another run, --init_from
SIZES = ("auto", "cpu", "12m", "25m", "50m", "100m")


@config_class
class EnvironmentConfig:
    image_size: int = option(64, "Height and width of the observations in pixels.", ge=32, le=256)
    action_repeat: int = option(
        0,
        "Env frames for which an action is held; 0: 40 ms of them, at least 2"
        " (envs.action_repeat_of).",
        ge=0,
    )
    num_envs: int = option(
        1, "Environments that run side by side; more than one get a process each.", ge=1, le=64
    )
    mask: str = option(
        "sky_and_floor",
        "What the video replaces: sky and floor, the sky alone, or the pixels that the colour rule"
        " of older work takes for background.",
        choices=("sky_and_floor", "sky", "colour"),
    )
    floor: str = option(
        "own",
        "Floor that is shown. own: the task's; place: one whose colours encode the position, for"
        " skills that should cover positions, as in METRA.",
        choices=("own", "place"),
    )
    start: str = option(
        "own",
        "Where an episode starts. own: as in the task, which drops the quadruped in a random"
        " orientation; upright: on its feet, as in METRA.",
        choices=("own", "upright"),
    )
    time_limit: int = option(
        1000, "Env frames of an episode; an environment of Gymnasium has its own.", ge=1
    )
    terminates: str = option(
        "auto",
        "Whether an episode may end in a terminal state, so that continuation is learned; auto:"
        " with gymnasium:ENV_ID.",
        choices=("auto", "true", "false"),
    )
    proprioception: bool = option(
        False,
        "Observe the task's own numbers (joint positions, velocities) beside the image.",
    )
    clip_frames: bool = option(
        False,
        "Store the frame of the clip alone beside each image, for the term salient: an oracle. It"
        " doubles the replay.",
    )


PROBED = "where --evaluation.latent is true", lambda evaluation: evaluation.latent


@config_class
class EvaluationConfig:
    episodes: int = option(10, "Episodes per background in the evaluation at the end.", ge=1)
    training_episodes: int = option(
        5,
        "Episodes of an evaluation during training, at most `evaluation.episodes`.",
        ge=1,
    )
    seed: int = option(1000, "Seed of the first evaluation episode.", ge=0, le=2**31 - 1)
    latent: bool = option(
        False, "At every evaluation also fit probes: what of state and background the latent holds."
    )
    num_skills: int = option(
        48, "Skills that are measured at every evaluation, where a run has any; 0: none.", ge=0
    )
    latent_episodes: int = option(
        32, "Episodes for these probes, half to fit, half to score.", ge=4, read_if=PROBED
    )


@config_class
class RunConfig:
    """Foreground: train an agent that learns what it can control and ignores distractions."""

    agent: str = option("infopower", "The method, a preset.", choices=AGENTS)
    task: str = option(
        "walker-stand", "Task of dm_control's suite, <domain>-<task>, or gymnasium:ENV_ID."
    )
    env_module: str = option(
        "",
        "Module that registers the environment, installed or in the current folder.",
        read_if=OF_GYMNASIUM,
    )
    env_arguments: dict[str, str] = option(
        {},
        "Keyword arguments for that environment, such as camera_name=corner.",
        read_if=OF_GYMNASIUM,
    )
    size: str = option(
        "auto",
        "Sizes of the networks, a preset; auto: cpu, or 12m where there is CUDA.",
        choices=SIZES,
    )
    total_frames: int = option(
        30_000, "Env frames to train for (agent steps times action repeat).", ge=1
    )
    seed: int = option(0, "Seed of networks, environments and sampling.", ge=0, le=2**31 - 1)
    init_from: str = option(
        "",
        "Run to begin with: its world model, and for hierarchical its skills, frozen. Sizes and"
        " camera are those of that run.",
        path=True,
    )
    folder: str = option(
        "",
        "Run folder; without it runs/<task>-<agent>-<background>-seed<seed>. The kind of a family"
        " and the run of --init_from follow the agent.",
        path=True,
    )
    accept_changes: bool = option(
        False,
        "Continue although clips or --init_from are not those that the run began with; the change"
        " is recorded.",
    )
    ranks: int = option(
        1,
        "Processes that learn one run together, one for each GPU; torchrun sets it.",
        ge=1,
        le=4096,
    )
    device: str = option("auto", "Where to learn.", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "Threads of torch on the CPU; 0: one for each core.", ge=0, le=4096)
    matmul: str = option(
        "float32",
        "Inputs of matrix products on the CPU: as they are, or rounded to bfloat16, which is faster"
        " and needs AMX.",
        choices=("float32", "bfloat16"),
    )
    compile: str = option_of(AgentConfig, "compile")
    cuda_graphs: str = option_of(AgentConfig, "cuda_graphs")
    commander: str = option_of(AgentConfig, "commander")
    learners: tuple[str, ...] = option_of(AgentConfig, "learners")
    init_weights: str = option(
        "nothing",
        "What a new run takes from that of --init_from: its world model, or its skills as well; a"
        " preset sets it.",
        choices=("nothing", "world_model", "skills"),
    )
    environment: EnvironmentConfig = option(
        EnvironmentConfig,
        "Environment",
        read_if={
            "mask": PLAYING,
            "floor": SHOWING_FLOOR,
            "start": FALLING,
            "time_limit": OF_SUITE,
            "clip_frames": OF_SUITE,
        },
    )
    background: BackgroundConfig = option(BackgroundConfig, "Background")
    distraction: DistractionConfig = option(DistractionConfig, "Distraction", read_if=OF_SUITE)
    family: FamilyConfig = option(FamilyConfig, "Family of games")
    training: TrainingConfig = option(
        TrainingConfig, "Training", read_if={"overlap": SIDE_BY_SIDE, "rare_rewards": PAID}
    )
    evaluation: EvaluationConfig = option(
        EvaluationConfig, "Evaluation", read_if={"num_skills": MEASURING}
    )
    world_model: WorldModelConfig = option_of(
        AgentConfig,
        "world_model",
        read_if={"random_shift": FLAT, "context": FLAT, "proprioception": OBSERVING},
    )
    actor_critic: ActorCriticConfig = option_of(
        AgentConfig,
        "actor_critic",
        read_if={"noise_correlation": FLAT, "replay_value_coef": UNCONDITIONED},
    )
    optimiser: OptimiserConfig = option_of(
        AgentConfig, "optimiser", read_if={"lr_decay_after": FLAT}
    )
    skill: SkillConfig = option_of(AgentConfig, "skill")
    discovery: DiscoveryConfig = option_of(AgentConfig, "discovery", read_if=DISCOVERING)
    hierarchy: HierarchyConfig = option_of(AgentConfig, "hierarchy")
    modes: ModesConfig = option_of(AgentConfig, "modes")

    def __post_init__(self):
        repeat = self.environment.action_repeat or action_repeat_of(self.task)
        steps = self.total_frames // repeat // self.environment.num_envs // self.ranks
        if self.training.batch_length > steps:
            length = self.training.batch_length
            what = (
                f"sequences of {length} steps are longer than the run, {steps} in each environment"
            )
            raise UserError(
                what,
                "training.batch_length",
                f"choose {max(steps, 2)} or less, or more --total_frames",
            )
        if repeat > self.environment.time_limit:
            what = f"an action of {repeat} frames is longer than an episode"
            raise UserError(
                what, "environment.action_repeat", f"choose {self.environment.time_limit} or less"
            )
        if self.training.prefill >= self.total_frames:
            what = f"all {self.total_frames} frames would be noise, and nothing learned"
            raise UserError(
                what,
                "training.prefill",
                f"choose less than {self.total_frames}, or more --total_frames",
            )
        if self.modes.num_modes and (self.hierarchy.duration or self.skill.size):
            raise UserError(
                "modes go with neither skills nor a hierarchy",
                "modes.num_modes",
                "leave one of them out",
            )
        told = [name for name in SIGNALS if name in self.world_model.objective.terms]
        if told and registry.is_gymnasium(self.task):
            what = f"{self.task} does not tell {' and '.join(told)}"
            raise UserError(
                what,
                "--task",
                "choose a task of dm_control's suite, or a method without them, such as metra",
            )
        if "detector" in self.world_model.objective.terms and not self.environment.proprioception:
            raise UserError(
                "the information term detector predicts numbers, and none are observed",
                "--environment.proprioception",
                "choose true, or an agent without that term",
            )
        if "salient" in self.world_model.objective.terms and not self.environment.clip_frames:
            raise UserError(
                "the information term salient reads frames of the clip, and none are stored",
                "--environment.clip_frames",
                "choose true, or an agent without that term",
            )
        if self.environment.floor == "place" and self.distraction.palette != "none":
            raise UserError(
                "the palette draws the colours of the floor, which shall tell the place",
                "environment.floor",
                "choose own, or leave --distraction.palette out",
            )
        if self.compile == "true" and self.world_model.objective.rule != "auto":
            raise UserError(
                f"the rule {self.world_model.objective.rule} goes back through a term twice, and"
                " compiled terms go once",
                "--compile",
                "choose auto or false",
            )
        if self.environment.clip_frames and registry.is_gymnasium(self.task):
            raise UserError(
                f"{self.task} does not tell the frames of a clip",
                "--environment.clip_frames",
                "choose false, or a task of dm_control's suite",
            )
        if self.games and [name for name in SIGNALS if name in self.world_model.objective.terms]:
            what = "use and safety are not told where there is a family of games"
            raise UserError(what, "family.kind", "choose none, or a method without them")

    @property
    def agent_config(self) -> AgentConfig:
        """Return the options of the agent."""
        names = [field.name for field in dataclasses.fields(AgentConfig)]
        return AgentConfig(**{name: getattr(self, name) for name in names})

    @property
    def has_goals(self) -> bool:
        """Whether the condition of the policy is a goal."""
        return self.commander == "goal_prior"

    @property
    def learns_skills(self) -> bool:
        """Whether the run learns skills."""
        return self.skill.size > 0 and not self.hierarchy.duration and not self.has_goals

    @property
    def distracted(self) -> bool:
        """Whether anything in the image changes that does not matter to the task."""
        return self.has_clips or is_on(self.distraction)

    @property
    def has_clips(self) -> bool:
        """Whether a video plays behind the robot."""
        return self.background.source != "none"

    @property
    def training_side(self) -> str:
        """The side that the run trains on: "clean" where nothing distracts."""
        return "train" if self.distracted else "clean"

    @property
    def fresh_side(self) -> str:
        """The side that the run has not trained on: "clean" where nothing distracts."""
        return "heldout" if self.distracted else "clean"

    @property
    def games(self) -> Family | None:
        """Return the family that is played, where there is one.

        Raises: UserError when the task is none of it.
        """
        return make_family(self.family, self.task)

    @property
    def terminates(self) -> bool:
        """Whether an episode may end in a terminal state."""
        choice = self.environment.terminates
        return registry.terminates(self.task) if choice == "auto" else choice == "true"

    @property
    def signals(self) -> tuple[str, ...]:
        """Return what the environment must tell besides the reward.

        It is the reward of every game, or the information terms that are signals.
        """
        if self.games and self.games.relabels:
            return tuple(game.name for game in self.games.train)
        return tuple(name for name in SIGNALS if name in self.world_model.objective.terms)
