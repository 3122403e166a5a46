"""All options of an agent."""

from foreground.agents import registry
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.discovery import DiscoveryConfig
from foreground.agents.skills import SkillConfig
from foreground.option import config_class, option
from foreground.world_models.world_model import WorldModelConfig


@config_class
class OptimiserConfig:
    model_lr: float = option(1e-3, "Learning rate of the world model.", gt=0.0)
    actor_lr: float = option(3e-4, "Learning rate of the actor.", gt=0.0)
    critic_lr: float = option(3e-4, "Learning rate of the critics.", gt=0.0)
    model_clip: float = option(100.0, "Largest gradient norm of the world model.", gt=0.0)
    policy_clip: float = option(
        100.0, "Largest gradient norm of actor, critics and the map of skills or goals.", gt=0.0
    )
    warmup: int = option(
        200,
        "Updates over which the rates rise from zero; without them a posterior can "
        "collapse permanently.",
        ge=0,
    )
    lr_decay_after: int = option(
        0,
        "Updates after which the rates fall with one over the square root of the updates; "
        "0: constant rates.",
        ge=0,
    )
    ema_decay: float = option(
        0.0,
        "Decay per update of the moving average of the weights that is evaluated; 0: no average.",
        ge=0.0,
        lt=1.0,
    )
    epsilon: float = option(1e-8, "Epsilon of Adam.", gt=0.0)


HIERARCHICAL = "by agent hierarchical", lambda hierarchy: hierarchy.duration
MODAL = "by agents with modes, such as mra", lambda modes: modes.num_modes


@config_class
class HierarchyConfig:
    duration: int = option(
        0,
        "Agent steps for which the high-level policy holds a skill of --init_from; 0: no "
        "hierarchy.",
        ge=0,
        le=10_000,
    )
    units: int = option(
        256, "Units of the skill policy, those of its run.", ge=8, le=65536, read_if=HIERARCHICAL
    )
    layers: int = option(
        2, "Layers of the skill policy, those of its run.", ge=1, le=100, read_if=HIERARCHICAL
    )


@config_class
class ModesConfig:
    num_modes: int = option(
        0, "Number K of modes of a policy for a family of games; 0: no modes.", ge=0, le=4096
    )
    sees_game: bool = option(
        False,
        "Whether the policy also sees the descriptor of the game. It then needs no modes "
        "(baseline).",
        read_if=MODAL,
    )
    units: int = option(
        64,
        "Units of the attention heads, of p(mode given game), and of the classifier of games.",
        ge=4,
        le=65536,
        read_if=MODAL,
    )
    lr: float = option(
        1e-3, "Learning rate of relation, modes and classifier.", gt=0.0, read_if=MODAL
    )
    update_every: int = option(
        10,
        "Steps of policy and critics per step of relation and modes, and of the classifier.",
        ge=1,
        read_if=MODAL,
    )
    epsilon: float = option(
        0.2,
        "Share of the best return in a game by which a mode may fall short of it.",
        gt=0.0,
        lt=1.0,
        read_if=MODAL,
    )
    uniform_prob: float = option(
        0.2,
        "Share of modes drawn uniformly, so that the return of every mode in every game is known.",
        ge=0.0,
        le=1.0,
        read_if=MODAL,
    )
    action_info_coef: float = option(
        1.0, "Weight of the information between relation and action.", ge=0.0, read_if=MODAL
    )
    game_info_coef: float = option(
        1.0, "Weight of the information between game and relation.", ge=0.0, read_if=MODAL
    )
    dual_rate: float = option(
        0.05,
        "Largest step of the logarithm of a game's multiplier, taken where its slack or shortfall "
        "reaches epsilon.",
        gt=0.0,
        read_if=MODAL,
    )
    multiplier_min: float = option(
        1.0,
        "Smallest multiplier; at 1 returns have half of the weight while the constraint is met.",
        gt=0.0,
        read_if=MODAL,
    )
    clip: float = option(
        1.0, "Largest gradient norm of relation, modes and classifier.", gt=0.0, read_if=MODAL
    )


@config_class
class AgentConfig:
    """The options of an agent; `RunConfig` takes each of them from here (`option_of`)."""

    world_model: WorldModelConfig = option(WorldModelConfig, "World model")
    actor_critic: ActorCriticConfig = option(ActorCriticConfig, "Actor and critics")
    optimiser: OptimiserConfig = option(OptimiserConfig, "Optimisers")
    skill: SkillConfig = option(SkillConfig, "Skills")
    discovery: DiscoveryConfig = option(DiscoveryConfig, "Discovery of skills")
    hierarchy: HierarchyConfig = option(
        HierarchyConfig, "High-level policy over the skills of another run"
    )
    modes: ModesConfig = option(ModesConfig, "Modes of a policy for a family of games")
    compile: str = option(
        "auto",
        "Compile the parts of an update; auto: where CUDA graphs are recorded and there is a C"
        " compiler.",
        choices=("auto", "true", "false"),
    )
    cuda_graphs: str = option(
        "auto",
        "Record the gradients of an update as CUDA graphs; auto: on CUDA, where no part of the"
        " objective waits for the host; act: also the action of a step, not yet run on a GPU.",
        choices=("auto", "act", "false"),
    )
    commander: str = option(
        "skill_prior",
        "What chooses the condition of the policy, by its name in agents/; a preset sets it.",
        choices=registry.commanders,
    )
    learners: tuple[str, ...] = option(
        ("model", "imagination"),
        "Learners of an update, in order, by their names in agents/; a preset sets them.",
        choices=registry.learners,
    )
